"""What a store remembers of a candidate, beside the model that travels: the cases it has seen, and what the gate said.

``STORE/records/VERSION.json`` stays on the site: a model folder holds aggregates only, never a patient's key.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from engines.case import Case, CaseIdentity, write_json
from engines.errors import ModelRefused
from engines.models.store import ModelStore, load_model, verify_folder
from engines.phase import REFERENCE_PHASE

RECORDS = "records"
RECORD_SCHEMA = "mmf-candidate"
RECORD_VERSION = 1


class Decision(StrEnum):
    """What the gate said of a candidate."""

    RELEASE = "release"
    """Not worse than the running model by more than the margin, calibrated, no harm in one centre."""
    REFUSE = "refuse"
    """Worse, or spoiled."""
    CANNOT_DECIDE = "cannot decide"
    """The locked cases are too few, or there is nothing to compare with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenCase:
    """A case that a model has learned from, by pseudonyms.

    Attributes:
        images: SHA-256 of the portal venous volume, or of the network input where the cohort has no volumes: the same scan
            under another patient key is the same scan.
    """

    case_id: str
    patient_key: str
    images: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateRecord:
    """What the store remembers of one version.

    Attributes:
        sha256: of the model's manifest; a record of another model of this version is not believed.
        cases: every case it has learned from, those that chose its checkpoints too.
        elsewhere: a person stated that it has learned from no patient of this site; then ``cases`` is empty.
        decision: of the gate; None = it was not asked.
        reasons: of the decision, in sentences.
        report: path of the night's report.
        at: aware time of the decision.
    """

    version: str
    sha256: str
    cases: tuple[SeenCase, ...] = ()
    elsewhere: str = ""
    decision: Decision | None = None
    reasons: tuple[str, ...] = ()
    report: str = ""
    at: datetime | None = None

    def overlaps(self, case: SeenCase) -> bool:
        """Whether the model has learned from this patient or from these images."""
        return any(case.patient_key == seen.patient_key or case.images == seen.images for seen in self.cases)


def describe_case(case: Case, identity: CaseIdentity) -> SeenCase:
    """Returns a sealed case as the records name it.

    Args:
        case: checked.
        identity: of the case.
    """
    files = json.loads((case.folder / "case.json").read_text(encoding="utf-8"))["files"]
    volume = f"volumes/{REFERENCE_PHASE.value}.nrrd"
    images = files.get(volume) or files.get("network_input.npy") or ""
    return SeenCase(case_id=identity.case_id, patient_key=identity.patient_key, images=str(images))


def unseen_cases(cases: Iterable[SeenCase], records: Iterable[CandidateRecord]) -> tuple[SeenCase, ...]:
    """Returns the cases that none of the models has learned from, by patient and by images."""
    patients: set[str] = set()
    images: set[str] = set()
    for record in records:
        patients |= {seen.patient_key for seen in record.cases}
        images |= {seen.images for seen in record.cases if seen.images}
    return tuple(case for case in cases if case.patient_key not in patients and case.images not in images)


def write_record(store: ModelStore, record: CandidateRecord) -> None:
    """Writes the record of a version, atomically."""
    content = _FORM.dump_python(record, mode="json")
    write_json(
        {"schema": RECORD_SCHEMA, "schema_version": RECORD_VERSION, **content}, _path(store, record.version)
    )


def read_record(store: ModelStore, version: str) -> CandidateRecord | None:
    """Returns the record of an installed version; None when the store has none.

    Raises:
        ModelRefused: the record is damaged or belongs to another model of this version.
    """
    path = _path(store, version)
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (content.pop("schema"), content.pop("schema_version")) != (RECORD_SCHEMA, RECORD_VERSION):
            raise ModelRefused(f"{path} is not {RECORD_SCHEMA} version {RECORD_VERSION}")
        record: CandidateRecord = _FORM.validate_python(content)
    except (ValueError, KeyError, AttributeError, ValidationError) as error:
        raise ModelRefused(f"{path} is damaged: {error}") from error
    if record.sha256 != verify_folder(store.folder(version)).sha256:
        raise ModelRefused(f"{path} belongs to another model of version {version}")
    return record


def promote_version(
    store: ModelStore,
    version: str,
    *,
    since: datetime,
    by: str,
    allow_demonstration: bool,
    against_the_gate: str = "",
) -> None:
    """Puts a version into service: checked by hash and loaded first, then one atomic replacement.

    Workers take the version in service when they begin a study and keep it until its end.

    Args:
        store: of the versions.
        version: installed.
        since: aware time.
        by: who does it.
        allow_demonstration: whether a model trained on phantoms may serve.
        against_the_gate: reason to promote what the gate did not release; kept in the history.

    Raises:
        ModelRefused: not installed, damaged, a demonstration model that is not allowed, already in service, or not
            released by the gate and no reason given.
    """
    load_model(store.folder(version), allow_demonstration=allow_demonstration)
    record = read_record(store, version)
    decision = None if record is None else record.decision
    if record is not None and decision not in (None, Decision.RELEASE) and not against_the_gate:
        raise ModelRefused(
            f"the gate said '{decision}' of model {version}: {'; '.join(record.reasons)}; a person may promote it all the"
            " same with a reason (--against-the-gate REASON)"
        )
    note = "" if decision in (None, Decision.RELEASE) else f"against the gate: {against_the_gate}"
    store.promote(version, since=since, by=by, note=note)


def roll_back_version(store: ModelStore, *, since: datetime, by: str, allow_demonstration: bool) -> str:
    """Puts the version that was promoted before the present one back into service, checked as a promotion is.

    Args:
        store: of the versions.
        since: aware time.
        by: who does it.
        allow_demonstration: whether a model trained on phantoms may serve.

    Returns:
        The version now in service.

    Raises:
        ModelRefused: there is none, it is not installed any more, damaged, or a demonstration model that is not allowed.
        Busy: another process changes the version in service.
    """
    load_model(store.folder(store.earlier()), allow_demonstration=allow_demonstration)
    return store.rollback(since=since, by=by)


def _path(store: ModelStore, version: str) -> Path:
    return store.root / RECORDS / f"{version}.json"


_FORM = TypeAdapter(CandidateRecord)
