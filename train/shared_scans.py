"""Refuses cohorts that share a patient or a scan: an external cohort must hold nobody that the fit has learned from."""

from train.errors import CohortRefused
from train.fit_cohort import FitCohort
from train.near_duplicates import find_close_summaries, is_same_scan, summarise_inputs


def refuse_shared_scans(one: FitCohort, other: FitCohort) -> None:
    """Refuses two cohorts of which one holds a patient or nearly the same volume of the other, whatever its name there.

    Patient keys first, then inputs that nearly agree by the rule that keeps splits apart. Every case counts, of every
    split: a testing case of the fit is no external case either.

    Args:
        one: a cohort, as ``train.fit_cohort`` reads it.
        other: another one, for the same phases and side.

    Raises:
        CohortRefused: a shared patient or scan, named with the case of each cohort.
    """
    keys = dict(zip(one.data.patient_keys, one.data.case_ids, strict=True))
    for key, case_id in zip(other.data.patient_keys, other.data.case_ids, strict=True):
        if key in keys:
            raise CohortRefused(
                f"patient {key} is in two cohorts: case {keys[key]} of {one.name}, case {case_id} of {other.name}; a"
                " cohort is external only without the patients of the others"
            )
    summaries = summarise_inputs(one.data.inputs), summarise_inputs(other.data.inputs)
    for left, right in find_close_summaries(*summaries):
        if not is_same_scan(one.data.inputs[left], other.data.inputs[right]):
            continue
        raise CohortRefused(
            f"cases {one.data.case_ids[left]} of {one.name} and {other.data.case_ids[right]} of {other.name} hold nearly"
            " the same volume: one patient under two names? Take the case out of one of the cohorts"
        )
