"""Which patient and study stand behind which case: the site's private register, mode 0600, never part of a cohort."""

import json
import os
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Self

from pydantic import TypeAdapter, ValidationError

from node.cohort.pseudonymise import Pseudonyms, open_pseudonyms
from node.errors import PatientAmbiguous, SecretRefused

SCHEMA = "mmf-linkage"
SCHEMA_VERSION = 1

KEY_NAME = "pseudonyms.key"
REGISTER_NAME = "register.json"
LOCK_NAME = "lock"
WORK_NAME = "work"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedPatient:
    """A patient behind a pseudonym.

    Attributes:
        key: the pseudonym.
        treatment_start: time zero as the clinical table or the outcomes said it; None = not known.
    """

    key: str
    patient_id: str
    issuer: str
    treatment_start: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedCase:
    """A study behind a case.

    Attributes:
        examined_on: day of the scan; None = not known.
    """

    case_id: str
    patient_key: str
    study_instance_uid: str
    examined_on: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    patients: tuple[LinkedPatient, ...] = ()
    cases: tuple[LinkedCase, ...] = ()


@dataclass(slots=True, kw_only=True)
class Linkage:
    """The register of one site and the folder it lies in, beside the secret.

    Attributes:
        folder: mode 0700; it holds the secret, the register, and studies that are being prepared.
        pseudonyms: made with the secret.
        patients: by pseudonym.
        cases: by case id.
    """

    folder: Path
    pseudonyms: Pseudonyms
    patients: dict[str, LinkedPatient] = field(default_factory=dict)
    cases: dict[str, LinkedCase] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Returns the register in ``folder``, empty when there is none yet; the secret is made at the first call.

        Raises:
            SecretRefused: the secret may be read by others, or the register is damaged.
        """
        pseudonyms = open_pseudonyms(folder / KEY_NAME)
        path = folder / REGISTER_NAME
        if not path.exists():
            return cls(folder=folder, pseudonyms=pseudonyms)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if (content.pop("schema"), content.pop("schema_version")) != (SCHEMA, SCHEMA_VERSION):
                raise SecretRefused(f"{path} is not {SCHEMA} version {SCHEMA_VERSION}")
            found = _FORM.validate_python(content)
        except (ValueError, KeyError, AttributeError, ValidationError) as error:
            raise SecretRefused(f"{path} is damaged: {error}") from error
        return cls(
            folder=folder,
            pseudonyms=pseudonyms,
            patients={patient.key: patient for patient in found.patients},
            cases={case.case_id: case for case in found.cases},
        )

    def find_patient(self, patient_id: str, issuer: str) -> LinkedPatient | None:
        """Returns the patient known before, or None; an issuer that one source leaves out does not make two patients.

        Raises:
            PatientAmbiguous: the issuer is not given and several patients have this identifier.
        """
        own = [known for known in self.patients.values() if known.patient_id == patient_id]
        exact = [known for known in own if known.issuer == issuer]
        fitting = own if not issuer else exact or [known for known in own if not known.issuer]
        if len(fitting) > 1:
            issuers = ", ".join(sorted(known.issuer or "none" for known in fitting))
            raise PatientAmbiguous(
                f"the patient identifier has no issuer, {len(fitting)} patients of the register have it: issuers {issuers}"
            )
        return fitting[0] if fitting else None

    def patient(self, patient_id: str, issuer: str) -> LinkedPatient:
        """Returns the patient, known before or new.

        Raises:
            PatientAmbiguous: the issuer is not given and several patients have this identifier.
        """
        known = self.find_patient(patient_id, issuer)
        if known is not None:
            if issuer and not known.issuer:
                self.patients[known.key] = replace(known, issuer=issuer)
            return self.patients[known.key]
        key = self.pseudonyms.patient_key(issuer, patient_id)
        self.patients[key] = LinkedPatient(key=key, patient_id=patient_id, issuer=issuer)
        return self.patients[key]

    def note_start(self, patient: LinkedPatient, treatment_start: date) -> None:
        """Remembers time zero of a patient."""
        self.patients[patient.key] = replace(
            self.patients.get(patient.key, patient), treatment_start=treatment_start
        )

    def cases_of(self, patient_key: str) -> tuple[LinkedCase, ...]:
        """Returns the cases of a patient."""
        return tuple(case for case in self.cases.values() if case.patient_key == patient_key)

    def save(self) -> None:
        """Writes the register, atomically and readable by its owner alone."""
        content = _FORM.dump_python(
            _Content(patients=tuple(self.patients.values()), cases=tuple(self.cases.values())), mode="json"
        )
        path = self.folder / REGISTER_NAME
        draft = path.with_name(f".draft-{os.getpid()}-{path.name}")
        text = json.dumps({"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **content}, indent=1)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)


_FORM = TypeAdapter(_Content)
