"""Should this study get a risk at all: was it asked for, is the patient in the population, is it the scan before treatment?"""

from dataclasses import dataclass
from datetime import date

from engines.clinical.table import ClinicalRow
from engines.clinical.variables import DEFINITIONS
from node.report.record import NotAssessable, ReasonCode

DAYS_PER_WEEK = 7.0
LABORATORY_WINDOW_DAYS = 30
"""Values determined longer than this before or after the scan are flagged (OURS)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Eligibility:
    """The verdict before any computation.

    Attributes:
        refusal: None when a risk may be given.
        flags: what a reader must know all the same.
    """

    refusal: NotAssessable | None
    flags: tuple[str, ...] = ()


def judge_eligibility(
    row: ClinicalRow | None, *, requested: bool, examined_on: date | None, maximum_scan_age_weeks: float
) -> Eligibility:
    """Returns whether a risk may be given to a study.

    Args:
        row: the patient's clinical row, if there is one: it is a request by itself.
        requested: an operator or a site's rule asked for this study.
        examined_on: date of the examination, None when the study does not say.
        maximum_scan_age_weeks: older than this before treatment start is flagged.

    Source: method, section 1 (population: Child-Pugh A/B, ECOG 0/1, BCLC B/C; CT at most 8 weeks before the first dose).
    """
    if row is None:
        if requested:
            return Eligibility(refusal=None)
        return _refused(
            ReasonCode.NOT_REQUESTED,
            "no clinical row names this patient and nobody asked for this study: a risk is given on request only",
        )
    outside = row.variables.outside_population()
    if outside:
        words = ", ".join(
            f"{DEFINITIONS[variable].title} {value.category}"
            for variable in outside
            if (value := row.variables.get(variable)) is not None
        )
        return _refused(ReasonCode.OUTSIDE_POPULATION, f"outside the population of the method: {words}")
    flags = [*row.contradictions, *_flag_dates(row, examined_on), *_flag_derived(row)]
    if row.treatment_start is not None and examined_on is not None:
        days = (row.treatment_start - examined_on).days
        if days < 0:
            return _refused(
                ReasonCode.AFTER_TREATMENT_START,
                f"the scan of {examined_on} was taken {-days} days after the treatment start of {row.treatment_start}: "
                "a follow-up, not the scan before treatment",
            )
        if days > maximum_scan_age_weeks * DAYS_PER_WEEK:
            flags.append(
                f"the scan is {days / DAYS_PER_WEEK:.1f} weeks older than the treatment start "
                f"(the method takes scans of at most {maximum_scan_age_weeks:g} weeks)"
            )
    elif row.treatment_start is not None:
        flags.append("the study has no date: whether it was taken before the treatment start is not known")
    else:
        flags.append("no treatment start is given: whether the scan was taken before it is not known")
    return Eligibility(refusal=None, flags=tuple(flags))


def _flag_dates(row: ClinicalRow, examined_on: date | None) -> list[str]:
    if examined_on is None:
        return []
    return [
        f"{name} {day} lies {abs((day - examined_on).days)} days from the scan of {examined_on}"
        for name, day in row.laboratory_dates.items()
        if abs((day - examined_on).days) > LABORATORY_WINDOW_DAYS
    ]


def _flag_derived(row: ClinicalRow) -> list[str]:
    if not row.derived:
        return []
    names = ", ".join(DEFINITIONS[variable].title for variable in row.derived)
    return [f"computed from other columns of the clinical row: {names}"]


def _refused(code: ReasonCode, reason: str) -> Eligibility:
    return Eligibility(refusal=NotAssessable(code=code, reason=reason))
