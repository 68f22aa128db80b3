"""report.json: the report as text that other programs read, checked against its schema both ways."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
from pydantic import TypeAdapter

from engines.errors import InvalidInput
from node.report.record import (
    SCHEMA_VERSION,
    ClinicalEntry,
    Contribution,
    FeatureEntry,
    ModelEntry,
    ObjectEntry,
    PhaseEntry,
    ReasonCode,
    Report,
    Risk,
    Status,
    Structure,
    SurvivalPoint,
)

SCHEMA_PATH = Path(__file__).parent / "report.schema.json"
"""The JSON schema of report.json, part of the package."""


def write_json(report: Report) -> str:
    """Returns the report as JSON text, floats unrounded, ending with a line feed.

    Args:
        report: the report; ``concluded_at`` must be aware.

    Raises:
        InvalidInput: a value of the report does not fit the schema; the message names its place.
    """
    document = report_document(report)
    _check(document)
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def read_json(text: str) -> Report:
    """Returns the report that the text holds.

    Args:
        text: JSON of schema version 1.

    Raises:
        InvalidInput: not JSON, of another version, or not of the schema; the message names the place.
    """
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"report.json is not JSON: {error}") from error
    _check(document)
    return Report(
        study_instance_uid=document["study_instance_uid"],
        status=Status(document["status"]),
        concluded_at=datetime.fromisoformat(document["concluded_at"]).astimezone(UTC),
        reason_code=None if document["reason_code"] is None else ReasonCode(document["reason_code"]),
        reason=document["reason"],
        phases=TypeAdapter(tuple[PhaseEntry, ...]).validate_python(document["phases"]),
        structures=TypeAdapter(tuple[Structure, ...]).validate_python(document["structures"]),
        risks=tuple(_risk(name.upper(), row) for name, row in document["risks"].items()),
        models=TypeAdapter(tuple[ModelEntry, ...]).validate_python(document["models"]),
        clinical=TypeAdapter(tuple[ClinicalEntry, ...]).validate_python(document["clinical"]),
        objects=TypeAdapter(tuple[ObjectEntry, ...]).validate_python(document["objects"]),
        missing=tuple(document["missing"]),
        flags=tuple(document["flags"]),
        registration=_pairs(document["registration"]),
        software_version=document["software_version"],
        synthetic=document["synthetic"],
        seconds_per_step=_pairs(document["seconds_per_step"]),
    )


def report_document(report: Report) -> dict[str, Any]:
    """Returns the JSON document of the report, not yet checked against the schema.

    Raises:
        InvalidInput: the report was concluded at a time without zone, or names an endpoint twice.
    """
    if report.concluded_at.tzinfo is None:
        raise InvalidInput(
            f"study {report.study_instance_uid}: concluded_at {report.concluded_at} has no time zone"
        )
    risks = {risk.endpoint.lower(): _risk_document(risk) for risk in report.risks}
    if len(risks) != len(report.risks):
        raise InvalidInput(f"study {report.study_instance_uid}: several risks of one endpoint")
    return {
        "schema": "mmf-report",
        "schema_version": SCHEMA_VERSION,
        "study_instance_uid": report.study_instance_uid,
        "status": report.status.value,
        "concluded_at": report.concluded_at.astimezone(UTC).isoformat(),
        "reason_code": None if report.reason_code is None else report.reason_code.value,
        "reason": report.reason,
        "research_use_only": True,
        "demonstration": report.demonstration,
        "synthetic": report.synthetic,
        "phases": [_plain(asdict(entry)) for entry in report.phases],
        "structures": [_plain(asdict(entry)) for entry in report.structures],
        "risks": risks,
        "models": [_plain(asdict(entry)) for entry in report.models],
        "clinical": [_plain(asdict(entry)) for entry in report.clinical],
        "objects": [_plain(asdict(entry)) for entry in report.objects],
        "missing": list(report.missing),
        "flags": list(report.flags),
        "registration": dict(report.registration),
        "software_version": report.software_version,
        "seconds_per_step": dict(report.seconds_per_step),
    }


def _risk_document(risk: Risk) -> dict[str, Any]:
    document = _plain(asdict(risk))
    del document["endpoint"]
    document["network_scores"] = dict(risk.network_scores)
    return document


def _risk(endpoint: str, row: Mapping[str, Any]) -> Risk:
    return Risk(
        endpoint=endpoint,
        model=row["model"],
        log_hazard=row["log_hazard"],
        low=row["low"],
        high=row["high"],
        group=row["group"],
        cutoff=row["cutoff"],
        percentile=row["percentile"],
        survival=TypeAdapter(tuple[SurvivalPoint, ...]).validate_python(row["survival"]),
        contributions=TypeAdapter(tuple[Contribution, ...]).validate_python(row["contributions"]),
        network_scores=_pairs(row["network_scores"]),
        radiomic_features=TypeAdapter(tuple[FeatureEntry, ...]).validate_python(
            row.get("radiomic_features", ())
        ),
    )


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _plain_value(value) for key, value in record.items()}


def _plain_value(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain_value(item) for item in value]
    return _plain(value) if isinstance(value, Mapping) else value


def _pairs(row: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    return tuple((name, float(value)) for name, value in row.items())


@cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(SCHEMA_PATH.read_text(encoding="utf-8")))


def _check(document: object) -> None:
    faults = sorted(_validator().iter_errors(document), key=lambda fault: fault.json_path)
    if faults:
        lines = "; ".join(f"{fault.json_path}: {fault.message}" for fault in faults[:5])
        raise InvalidInput(f"report.json does not fit its schema (version {SCHEMA_VERSION}): {lines}")
