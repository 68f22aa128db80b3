"""Exports studies into a cohort of pseudonymised cases: one index scan a patient, every exclusion with its reason."""

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from enum import StrEnum
from pathlib import Path

import structlog

from engines.case import check_case, replaced, write_json
from engines.clinical.table import ClinicalRow, ClinicalTable, complete_age
from engines.clinical.variables import encode_variables
from engines.errors import CaseRefused, NoLiverFound, RegistrationRefused, SegmentationRefused
from engines.network_input import Preprocessing
from node.clinical.matching import match_row
from node.cohort.case import (
    CaseSource,
    hash_reference_volume,
    read_facts,
    read_image_hashes,
    read_source_digest,
    state_facts,
    write_case,
)
from node.cohort.linkage import Linkage, LinkedCase, LinkedPatient
from node.cohort.selection import Exclusion, Scan, choose_index_scan
from node.cohort.sources import FoundStudy
from node.cohort.swap import mend_cohort, remove_case
from node.conclusion import examined_on
from node.eligibility import judge_eligibility
from node.errors import ExportRefused, PatientAmbiguous
from node.report.record import NotAssessable, ReasonCode

log = structlog.get_logger(__name__)

COHORT_NAME = "cohort.json"
COHORT_SCHEMA = "mmf-cohort"
COHORT_VERSION = 1
EXCLUSIONS_NAME = "exclusions.csv"


class Fate(StrEnum):
    """What became of a study."""

    EXPORTED = "exported"
    REPLACED = "replaced"
    PRESENT = "present"
    EXCLUDED = "excluded"
    WITHDRAWN = "withdrawn"
    """A case of an earlier export, excluded now, taken out of the cohort."""
    STAYS = "stays_although_excluded"
    """The same, but nobody asked for replacing: it is still in the cohort."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One study and what became of it. ``study_instance_uid`` and ``name`` are the true ones: for the operator alone."""

    name: str
    study_instance_uid: str
    fate: Fate
    case_id: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPlan:
    """How to export.

    Attributes:
        cohort: folder of the cohort; made when missing.
        preprocessing: of the network inputs, the same for every case of a cohort.
        table: of the clinical variables.
        maximum_scan_age_weeks: an older scan is flagged, not left out.
        centre: pseudonym of the hospital, written into each case; "" = not stated.
        unlabelled: take patients without clinical row too: they teach the autoencoder, nothing else.
        replace: write cases again whose source changed, and take a better index scan in place of an exported one.
        dry_run: say what would be done, write nothing.
    """

    cohort: Path
    preprocessing: Preprocessing
    table: ClinicalTable
    maximum_scan_age_weeks: float = 8.0
    centre: str = ""
    unlabelled: bool = False
    replace: bool = False
    dry_run: bool = False


_ENDS_CASE = frozenset(
    {
        Exclusion.AFTER_TREATMENT_START.value,
        ReasonCode.CLINICAL_ROW_CONTRADICTS.value,
        ReasonCode.OUTSIDE_POPULATION.value,
        Exclusion.RESULT_WITHDRAWN.value,
    }
)
"""Reasons found later that make an exported case a wrong one."""

Tell = Callable[[str], None]


@dataclass(slots=True, kw_only=True, eq=False)
class _Applicant:
    """A study with what decides about it."""

    found: FoundStudy
    patient: LinkedPatient
    row: ClinicalRow | None
    scan: Scan


@dataclass(slots=True)
class Exporter:
    """One export: the register of the site, the plan, and what was decided so far."""

    plan: ExportPlan
    linkage: Linkage
    tell: Tell
    outcomes: list[Outcome] = field(default_factory=list)
    _images: dict[str, str] = field(default_factory=dict)
    _issuers: dict[str, set[str]] = field(default_factory=dict)

    def run(self, studies: Sequence[FoundStudy]) -> tuple[Outcome, ...]:
        """Exports the studies and returns what became of each; the register is saved after every case.

        Raises:
            ExportRefused: the cohort was made with another preprocessing.
            CaseRefused: a case of the cohort is damaged.
        """
        if not self.plan.dry_run:
            open_cohort(self.plan)
            mend_cohort(self.plan.cohort)
        self._images = read_image_hashes(self.plan.cohort)
        self._issuers = _list_issuers(studies)
        by_patient: dict[str, list[_Applicant]] = defaultdict(list)
        for found in studies:
            applicant = self._admit(found)
            if applicant is not None:
                by_patient[applicant.patient.key].append(applicant)
        try:
            for number, (key, applicants) in enumerate(by_patient.items(), start=1):
                self._export_patient(self.linkage.patients[key], applicants, f"[{number}/{len(by_patient)}]")
        finally:
            if not self.plan.dry_run:
                self.linkage.save()
                self._write_exclusions()
        return tuple(self.outcomes)

    def _admit(self, found: FoundStudy) -> _Applicant | None:
        """The patient and row of a study; None when it is excluded by them."""
        if found.refusal:
            self._exclude(found, found.refusal)
            return None
        identity = found.study.patient
        if not identity.patient_id:
            self._exclude(found, Exclusion.NO_PATIENT_ID)
            return None
        row = match_row(self.plan.table, identity)
        if isinstance(row, NotAssessable):
            self._exclude(found, row.code, row.reason)
            return None
        if row is None and not self.plan.unlabelled:
            self._exclude(found, Exclusion.NO_CLINICAL_ROW)
            return None
        issuer = identity.issuer_of_patient_id
        if not issuer and len(self._issuers[identity.patient_id]) > 1:
            self._exclude(
                found, Exclusion.AMBIGUOUS_PATIENT, "studies of this export give it several issuers"
            )
            return None
        try:
            patient = self.linkage.patient(identity.patient_id, issuer)
        except PatientAmbiguous as refused:
            self._exclude(found, Exclusion.AMBIGUOUS_PATIENT, str(refused))
            return None
        if row is not None and row.treatment_start is not None:
            self.linkage.note_start(patient, row.treatment_start)
        day = examined_on(found.images)
        row = row if row is None or day is None else complete_age(row, day)
        eligibility = judge_eligibility(
            row, requested=True, examined_on=day, maximum_scan_age_weeks=self.plan.maximum_scan_age_weeks
        )
        if eligibility.refusal is not None:
            self._exclude(found, eligibility.refusal.code, eligibility.refusal.reason)
            return None
        scan = Scan(study_instance_uid=found.study.study_instance_uid, examined_on=day)
        return _Applicant(found=found, patient=patient, row=row, scan=scan)

    def _export_patient(
        self, patient: LinkedPatient, applicants: Sequence[_Applicant], progress: str
    ) -> None:
        by_uid = {applicant.scan.study_instance_uid: applicant for applicant in applicants}
        cases = [case for case in self.linkage.cases_of(patient.key) if self._holds(case.case_id)]
        exported = tuple(
            Scan(study_instance_uid=case.study_instance_uid, examined_on=case.examined_on) for case in cases
        )
        start = patient.treatment_start
        choice = choose_index_scan([one.scan for one in applicants], start, exported)
        for scan, reason in choice.excluded:
            self._exclude(by_uid[scan.study_instance_uid].found, reason)
        chosen = False
        for scan in choice.candidates:
            applicant = by_uid[scan.study_instance_uid]
            if chosen:
                self._exclude(applicant.found, Exclusion.NOT_INDEX_SCAN)
                continue
            others = [case for case in cases if case.study_instance_uid != scan.study_instance_uid]
            if others and not self._supersedes(scan, others, start):
                self._exclude(
                    applicant.found, Exclusion.PATIENT_HAS_CASE, f"case {others[0].case_id} is another scan"
                )
                continue
            chosen = self._export(applicant, others, progress)

    def _supersedes(self, scan: Scan, others: Sequence[LinkedCase], start: date | None) -> bool:
        """Whether a scan takes the place of the exported ones: asked for, and they are earlier or follow-ups."""
        if not self.plan.replace or start is None:
            return False
        day = scan.examined_on or date.min
        return all(
            other.examined_on is None or other.examined_on > start or other.examined_on <= day
            for other in others
        )

    def _export(self, applicant: _Applicant, others: Sequence[LinkedCase], progress: str) -> bool:
        """Writes the case of the index scan; returns whether the patient has its case now."""
        found, uid = applicant.found, applicant.scan.study_instance_uid
        case_id = self.linkage.pseudonyms.case_id(uid)
        known = None if applicant.row is None else encode_variables(applicant.row.variables)
        digest = found.digest(
            self.linkage.pseudonyms,
            json.dumps(known, sort_keys=True),
            json.dumps(asdict(self.plan.preprocessing), sort_keys=True),
        )
        row, start = applicant.row, self.linkage.patients[applicant.patient.key].treatment_start
        day = applicant.scan.examined_on
        facts = state_facts(
            None if row is None else row.regimen,
            None if start is None or day is None else (start - day).days,
            self.plan.centre,
        )
        fate = Fate.EXPORTED
        if self._holds(case_id):
            folder = self.plan.cohort / case_id
            if read_source_digest(folder) == digest and read_facts(folder).agree(facts):
                for other in others if not self.plan.dry_run else ():
                    remove_case(self.plan.cohort, other.case_id)
                self._conclude(found, Fate.REPLACED if others else Fate.PRESENT, case_id=case_id)
                return True
            if not self.plan.replace:
                self._exclude(found, Exclusion.CHANGED_SINCE_EXPORT, f"case {case_id} stays as it was sealed")
                return True
            fate = Fate.REPLACED
        if others:
            fate = Fate.REPLACED
        if self.plan.dry_run:
            self._conclude(found, fate, case_id=case_id)
            return True
        self.tell(f"{progress} {found.name}")
        prepared = found.make(applicant.row, lambda step: self.tell(f"    {step} ..."))
        if prepared.case is None or prepared.identity is None:
            self._exclude(found, prepared.refusal)
            found.discard()
            return False
        voxels = hash_reference_volume(prepared.case)
        twin = self._images.get(voxels)
        if twin not in (None, case_id):
            self._exclude(found, Exclusion.DUPLICATE_IMAGES, f"the voxels are those of case {twin}")
            found.discard()
            return False
        source = CaseSource(
            case=prepared.case,
            identity=prepared.identity,
            patient_key=applicant.patient.key,
            instances=found.images,
            clinical=None if row is None else row.variables,
            regimen=None if row is None else row.regimen,
            scan_age_days=facts.scan_age_days,
            digest=digest,
            centre=self.plan.centre,
            result=found.result,
        )
        try:
            self._write(source, found, others, fate)
        except (RegistrationRefused, SegmentationRefused) as refused:
            if not self._holds(case_id):
                self.linkage.cases.pop(case_id, None)
            self._exclude(found, _name_refusal(refused), str(refused))
            found.discard()
            return False
        self._images[voxels] = case_id
        return True

    def _write(self, source: CaseSource, found: FoundStudy, others: Sequence[LinkedCase], fate: Fate) -> None:
        """The register first: a case that nobody can link is worse than a line without its case."""
        uid = found.study.study_instance_uid
        case_id = self.linkage.pseudonyms.case_id(uid)
        self.linkage.cases[case_id] = LinkedCase(
            case_id=case_id,
            patient_key=source.patient_key,
            study_instance_uid=uid,
            examined_on=examined_on(found.images),
        )
        self.linkage.save()
        write_case(
            source,
            self.plan.cohort,
            self.linkage.pseudonyms,
            self.plan.preprocessing,
            supersedes=tuple(other.case_id for other in others),
        )
        found.discard()
        self._conclude(found, fate, case_id=case_id)

    def _holds(self, case_id: str) -> bool:
        return (self.plan.cohort / case_id / "case.json").is_file()

    def _exclude(self, found: FoundStudy, reason: str, detail: str = "") -> None:
        """Notes why a study is no case; one that was exported before leaves the cohort when replacing was asked for."""
        case_id = self.linkage.pseudonyms.case_id(found.study.study_instance_uid)
        fate = Fate.EXCLUDED
        if self._holds(case_id) and reason in _ENDS_CASE:
            if self.plan.replace and not self.plan.dry_run:
                remove_case(self.plan.cohort, case_id)
            fate = Fate.WITHDRAWN if self.plan.replace else Fate.STAYS
            detail = detail or ("" if self.plan.replace else "--replace takes the case out of the cohort")
        log.info("a study is no case", study=found.study.study_instance_uid, reason=str(reason))
        self._conclude(
            found, fate, case_id=case_id if fate != Fate.EXCLUDED else "", reason=str(reason), detail=detail
        )

    def _conclude(
        self, found: FoundStudy, fate: Fate, *, case_id: str = "", reason: str = "", detail: str = ""
    ) -> None:
        uid = found.study.study_instance_uid
        self.outcomes.append(
            Outcome(name=found.name, study_instance_uid=uid, fate=fate, case_id=case_id, reason=reason)
        )
        words = ": ".join(word for word in (reason, detail) if word)
        self.tell(f"  {found.name}: {' '.join(word for word in (fate.value, case_id, words) if word)}")

    def _write_exclusions(self) -> None:
        """exclusions.csv: pseudonym of the study and the word of its reason, of this and of earlier exports."""
        path = self.plan.cohort / EXCLUSIONS_NAME
        reasons = _read_exclusions(path)
        for outcome in self.outcomes:
            study = self.linkage.pseudonyms.uid(outcome.study_instance_uid)
            reasons.pop(study, None)
            held = self._holds(self.linkage.pseudonyms.case_id(outcome.study_instance_uid))
            if outcome.fate in (Fate.EXCLUDED, Fate.WITHDRAWN) and not held:
                reasons[study] = outcome.reason
        with replaced(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("study", "reason"))
            writer.writerows(sorted(reasons.items()))


def _list_issuers(studies: Sequence[FoundStudy]) -> dict[str, set[str]]:
    """Issuers by patient identifier: whose study comes first must not decide who an identifier without issuer is."""
    issuers: dict[str, set[str]] = defaultdict(set)
    for identity in (found.study.patient for found in studies if not found.refusal):
        if identity.issuer_of_patient_id:
            issuers[identity.patient_id].add(identity.issuer_of_patient_id)
    return issuers


def _name_refusal(refused: RegistrationRefused | SegmentationRefused) -> ReasonCode:
    """The word of the pipeline for what it would have refused too, had it made the network input."""
    if isinstance(refused, RegistrationRefused):
        return ReasonCode.POOR_REGISTRATION
    return ReasonCode.NO_LIVER if isinstance(refused, NoLiverFound) else ReasonCode.IMPLAUSIBLE_LIVER


def check_cohort(cohort: Path) -> dict[str, str]:
    """Returns patient key by case id of a cohort after checking every case against its hashes.

    Raises:
        CaseRefused: a case is damaged.
    """
    found: dict[str, str] = {}
    for path in sorted(cohort.glob("*/case.json")):
        _, identity = check_case(path.parent)
        found[identity.case_id] = identity.patient_key
    return found


def count_fates(outcomes: Sequence[Outcome]) -> Mapping[str, int]:
    """Returns how many studies met each fate, exclusions by their reason."""
    counts: dict[str, int] = defaultdict(int)
    for outcome in outcomes:
        counts[outcome.fate.value] += 1
        if outcome.reason:
            counts[f"{outcome.fate.value}: {outcome.reason}"] += 1
    return dict(counts)


def open_cohort(plan: ExportPlan) -> None:
    """Writes cohort.json, or refuses a cohort whose inputs are of another kind."""
    path = plan.cohort / COHORT_NAME
    wanted = json.loads(json.dumps(asdict(plan.preprocessing)))
    if not path.is_file():
        if plan.cohort.exists() and any(plan.cohort.glob("*/case.json")):
            raise ExportRefused(f"{plan.cohort} holds cases that no export made: {COHORT_NAME} is missing")
        write_json({"schema": COHORT_SCHEMA, "schema_version": COHORT_VERSION, "preprocessing": wanted}, path)
        return
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CaseRefused(f"{path} is not JSON: {error}") from error
    if content.get("preprocessing") != wanted:
        raise ExportRefused(
            f"{plan.cohort} was exported with preprocessing {content.get('preprocessing')}, asked for is {wanted}"
        )


def _read_exclusions(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {row["study"]: row["reason"] for row in csv.DictReader(file)}
