"""Pseudonyms that only the holder of the site's secret can make again: patients, cases and UIDs, never reversible."""

import hashlib
import hmac
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

from node.errors import SecretRefused

SECRET_BYTES = 32
"""As long as the hash (RFC 2104, section 3)."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_CASE_DIGITS = 16
_PATIENT_DIGITS = 32
_UID_BYTES = 16


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Makes the pseudonyms of one site. HMAC-SHA256: equal input, equal pseudonym; without the secret no way back.

    Attributes:
        secret: of the site; it never leaves it.
    """

    secret: bytes = field(repr=False)

    def patient_key(self, issuer: str, patient_id: str) -> str:
        """Returns the pseudonym of a patient, 32 hexadecimal digits.

        Args:
            issuer: of the patient identifier, "" when not known.
            patient_id: as in the DICOM study.
        """
        return self.digest("patient", issuer, patient_id)[:_PATIENT_DIGITS]

    def case_id(self, study_instance_uid: str) -> str:
        """Returns the name of the case that a study becomes, 16 hexadecimal digits."""
        return self.digest("case", study_instance_uid)[:_CASE_DIGITS]

    def uid(self, uid: str) -> str:
        """Returns the UID that stands for ``uid``.

        Source: PS3.5 B.2 (2.25 and an integer of at most 128 bits).
        """
        return f"2.25.{int.from_bytes(bytes.fromhex(self.digest('uid', uid))[:_UID_BYTES], 'big')}"

    def digest(self, kind: str, *words: str) -> str:
        """Returns the keyed hash of some words, 64 hexadecimal digits; different kinds never meet."""
        keyed = hmac.new(self.secret, digestmod=hashlib.sha256)
        for word in (kind, *words):
            encoded = word.encode()
            keyed.update(len(encoded).to_bytes(8, "big"))
            keyed.update(encoded)
        return keyed.hexdigest()


def open_pseudonyms(path: Path) -> Pseudonyms:
    """Returns the pseudonyms of the site whose secret lies at ``path``; the first call makes the secret, mode 0600.

    Raises:
        SecretRefused: others than its owner may read it, or it is not a secret.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return Pseudonyms(_read_secret(path))
    with os.fdopen(descriptor, "wb") as file:
        secret = secrets.token_bytes(SECRET_BYTES)
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())
    return Pseudonyms(secret)


def _read_secret(path: Path) -> bytes:
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        secret = file.read(SECRET_BYTES + 1)
    if mode & _OTHERS:
        raise SecretRefused(f"{path} has mode {mode:04o}; expected 0600: chmod 600 {path}")
    if len(secret) != SECRET_BYTES:
        raise SecretRefused(f"{path} holds {len(secret)} bytes; expected {SECRET_BYTES}")
    return secret
