"""Which studies of a patient may become a case, and which of them is the index scan. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum


class Exclusion(StrEnum):
    """Why a study is not a case. The words go into exclusions.csv: they tell no date and no name.

    The words of ``ReasonCode`` stand beside these where the pipeline refused a study.
    """

    NO_CLINICAL_ROW = "no_clinical_row"
    NO_PATIENT_ID = "no_patient_id"
    AMBIGUOUS_PATIENT = "ambiguous_patient"
    """Its patient identifier has no issuer, and those of several issuers are known."""
    NO_STUDY_DATE = "no_study_date"
    AFTER_TREATMENT_START = "after_treatment_start"
    NOT_INDEX_SCAN = "not_index_scan"
    PATIENT_HAS_CASE = "patient_has_case"
    CHANGED_SINCE_EXPORT = "changed_since_export"
    DUPLICATE_IMAGES = "duplicate_images"
    NOT_FINISHED = "not_finished"
    """Its newest job waits or runs: another export will see the result."""
    CANCELLED = "cancelled"
    RESULT_WITHDRAWN = "result_withdrawn"
    NO_CASE_FOLDER = "no_case_folder"
    NO_IMAGES = "no_images"
    """The images left the inbox after the study was assessed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """One study of a patient as the choice of the index scan sees it.

    Attributes:
        study_instance_uid: which.
        examined_on: day of the scan, None when not known.
    """

    study_instance_uid: str
    examined_on: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The scans of a patient in the order in which they are tried, and those that cannot be the index scan.

    Attributes:
        candidates: best first; the first that can be assessed is the index scan.
        excluded: the others, each with its reason.
    """

    candidates: tuple[Scan, ...]
    excluded: tuple[tuple[Scan, Exclusion], ...]


def choose_index_scan(
    scans: Sequence[Scan], treatment_start: date | None, exported: Sequence[Scan] = ()
) -> Choice:
    """Returns which scan of a patient is the index scan: the last one not after the first dose.

    While the first dose is not known, a scan that was exported stays the index scan: a later one may be a follow-up.

    Args:
        scans: of one patient.
        treatment_start: time zero; None = not known.
        exported: those among the patient's scans that are cases of the cohort already.

    Source: method, section 1 (only the last scan before the first dose is a case, follow-up scans never).
    """
    excluded: list[tuple[Scan, Exclusion]] = []
    if treatment_start is None:
        kept = {scan.study_instance_uid for scan in exported}
        if kept:
            excluded = [
                (scan, Exclusion.PATIENT_HAS_CASE) for scan in scans if scan.study_instance_uid not in kept
            ]
            return Choice(
                candidates=tuple(scan for scan in scans if scan.study_instance_uid in kept),
                excluded=tuple(excluded),
            )
        return Choice(candidates=_latest_first(scans), excluded=())
    before: list[Scan] = []
    for scan in scans:
        if scan.examined_on is None:
            excluded.append((scan, Exclusion.NO_STUDY_DATE))
        elif scan.examined_on > treatment_start:
            excluded.append((scan, Exclusion.AFTER_TREATMENT_START))
        else:
            before.append(scan)
    return Choice(candidates=_latest_first(before), excluded=tuple(excluded))


def _latest_first(scans: Sequence[Scan]) -> tuple[Scan, ...]:
    """Scans by day, the last first; those of one day, and those without a day, by their UID so that the order is fixed."""
    return tuple(
        sorted(scans, key=lambda scan: (scan.examined_on or date.min, scan.study_instance_uid), reverse=True)
    )
