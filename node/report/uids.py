"""Deterministic UIDs: the same study, models and content always name the same objects."""

import hashlib
import json
import uuid

from node.report.json_form import report_document
from node.report.record import Report

_UUID_ROOT = "2.25"
"""Root of UIDs derived from a UUID. Source: PS3.5 Annex B.2."""

_VOLATILE = ("concluded_at", "objects", "seconds_per_step")
"""What differs between two runs that found the same; left out of the digest."""


def derive_uid(*parts: str) -> str:
    """Returns a UID that depends on ``parts`` alone.

    Args:
        parts: what tells this object from every other one, e.g. study UID, digest, kind.

    Source: PS3.5 Annex B.2: 2.25 and the UUID as one decimal number; the UUID is of version 8 (RFC 9562, section
    5.8: content chosen by the maker), filled from SHA-256 of the parts.
    """
    text = json.dumps(parts, ensure_ascii=True)
    raw = bytearray(hashlib.sha256(text.encode("ascii")).digest()[:16])
    raw[6] = (raw[6] & 0x0F) | 0x80
    raw[8] = (raw[8] & 0x3F) | 0x80
    return f"{_UUID_ROOT}.{uuid.UUID(bytes=bytes(raw)).int}"


def digest_report(report: Report, *extra: str) -> str:
    """Returns the SHA-256, in hex, of what the report says, whenever it was concluded and wherever it was written.

    Args:
        report: the report; its conclusion time, objects and step times do not count.
        extra: what the objects hold beyond the report, each as a digest (masks, curves, patient module).
    """
    document = {key: value for key, value in report_document(report).items() if key not in _VOLATILE}
    text = json.dumps([document, list(extra)], sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
