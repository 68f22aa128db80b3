"""Refuses cohorts that share a patient or a scan: an external cohort must hold nobody that the fit has learned from."""

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from train.data import SAME_SUMMARY, SAME_VOLUME, SUMMARY_SIDE
from train.errors import CohortRefused
from train.fit_cohort import FitCohort

Inputs = npt.NDArray[np.float16]
Summaries = npt.NDArray[np.float32]


def refuse_shared_scans(one: FitCohort, other: FitCohort) -> None:
    """Refuses two cohorts of which one holds a patient or nearly the same volume of the other, whatever its name there.

    Patient keys first, then equal inputs by SHA-256, then inputs that nearly agree by the rule that keeps splits apart
    (``train.data``). Every case counts, of every split: a testing case of the fit is no external case either.

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
    for left, right in _find_pairs(one.data.inputs, other.data.inputs):
        raise CohortRefused(
            f"cases {one.data.case_ids[left]} of {one.name} and {other.data.case_ids[right]} of {other.name} hold nearly"
            " the same volume: one patient under two names? Take the case out of one of the cohorts"
        )


def _find_pairs(one: Inputs, other: Inputs) -> Iterator[tuple[int, int]]:
    """Pairs of rows that hold the same volume, the equal ones before those that nearly agree."""
    (hashes, summaries), (hashes_of_other, summaries_of_other) = _describe(one), _describe(other)
    places = {digest: row for row, digest in enumerate(hashes)}
    yield from ((places[digest], row) for row, digest in enumerate(hashes_of_other) if digest in places)
    distance = cdist(summaries, summaries_of_other, "cityblock") / summaries.shape[1]
    for left, right in np.argwhere(distance < SAME_SUMMARY).tolist():
        difference = np.asarray(one[left], np.float32) - np.asarray(other[right], np.float32)
        if np.abs(difference).mean() < SAME_VOLUME:
            yield left, right


def _describe(inputs: Inputs) -> tuple[list[bytes], Summaries]:
    """SHA-256 of each input and the means of its 8^3 blocks, (n, phases * 8^3); each is read once."""
    count, phases, side = inputs.shape[:3]
    block = side // SUMMARY_SIDE
    hashes: list[bytes] = []
    summaries = np.empty((count, phases * SUMMARY_SIDE**3), dtype=np.float32)
    for row in range(count):
        volume = np.ascontiguousarray(inputs[row])
        hashes.append(hashlib.sha256(volume.tobytes()).digest())
        cut = volume.astype(np.float32).reshape(
            phases, SUMMARY_SIDE, block, SUMMARY_SIDE, block, SUMMARY_SIDE, block
        )
        summaries[row] = cut.mean(axis=(2, 4, 6)).ravel()
    return hashes, summaries
