"""Inputs, outcomes and splits of the cases that a network learns from, checked once at the door."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import torch

from engines.networks.heads import LABELS
from engines.survival.outcome import Outcome
from train.errors import CohortRefused
from train.losses import Targets, has_comparable_pair
from train.near_duplicates import find_close_summaries, is_same_scan, summarise_inputs

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LONGEST_MONTHS = 1e6
"""Beyond it stands a date or seconds in the place of months (OURS); times that are drawn may be longer than a life."""
RANGE_SLACK = 1.0
"""Inputs lie in [0, 1]; block means farther away are Hounsfield units or bytes that nobody scaled (OURS)."""


class Split(StrEnum):
    """What a case may be used for.

    ``UNLABELLED`` cases have no outcome and teach the autoencoder alone; ``TESTING`` cases are never seen here.
    """

    TRAINING = "training"
    VALIDATION = "validation"
    TESTING = "testing"
    UNLABELLED = "unlabelled"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Follow:
    """Follow-up of n cases for one endpoint; NaN months = not known.

    Attributes:
        months: (n,) from the first dose to the event or the last contact.
        event: (n,) 1 event, 0 censored, NaN not known.
    """

    months: FloatArray
    event: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingData:
    """What a network learns from.

    Attributes:
        inputs: (n, phases, side, side, side) float16, in [0, 1]; an array or a memory map.
        case_ids: n names, each once.
        patient_keys: n pseudonyms; all cases of a patient have one split.
        splits: n words.
        os: overall survival.
        pfs: progression-free survival.
        age_years: (n,), NaN where not known.
        labels: (n, 9) 0, 1 or NaN, in the order of ``engines.networks.heads.LABELS``.
    """

    inputs: npt.NDArray[np.float16]
    case_ids: Sequence[str]
    patient_keys: Sequence[str]
    splits: Sequence[Split]
    os: Follow
    pfs: Follow
    age_years: FloatArray
    labels: FloatArray

    @property
    def n(self) -> int:
        """Number of cases."""
        return len(self.case_ids)

    def rows(self, *splits: Split) -> IntArray:
        """Returns the rows of these splits, ascending."""
        return np.flatnonzero([split in splits for split in self.splits]).astype(np.int64)

    def outcome(self, endpoint: str, rows: IntArray) -> tuple[Outcome, IntArray]:
        """Returns the known follow-up among ``rows`` and the rows it belongs to.

        Args:
            endpoint: ``os`` or ``pfs``.
            rows: of this data.
        """
        follow = self.os if endpoint == "os" else self.pfs
        known = rows[np.isfinite(follow.months[rows])]
        return Outcome(follow.months[known], follow.event[known].astype(bool)), known

    def targets(self, rows: IntArray, device: torch.device) -> Targets:
        """Returns what is known of some rows, float32 on the device."""

        def tensor(values: FloatArray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(values[rows], dtype=np.float32)).to(device)

        return Targets(
            os_months=tensor(self.os.months),
            os_event=tensor(self.os.event),
            pfs_months=tensor(self.pfs.months),
            pfs_event=tensor(self.pfs.event),
            age_years=tensor(self.age_years),
            labels=tensor(self.labels),
        )


def check_training_data(data: TrainingData) -> None:
    """Refuses data from which no honest network can come; each fault has its own message.

    Raises:
        CohortRefused: shapes that differ, one patient, duplicate ids, a patient in two splits, nearly identical volumes in
            two splits, times that are not above 0, voxels that are not finite or not scaled to [0, 1], a phase that is
            filled up in some cases, no event or no comparable pair to learn or to validate from.
    """
    _check_shapes(data)
    check_records(data)
    _check_voxels(data)


def check_records(data: TrainingData) -> None:
    """Refuses what ``check_training_data`` refuses without reading a voxel.

    Raises:
        CohortRefused: a fault of the identities, splits, follow-up, labels or ages.
    """
    _check_identities(data)
    for name, follow in (("OS", data.os), ("PFS", data.pfs)):
        _check_follow_up(data, name, follow)
    bad_labels = np.flatnonzero(~(np.isnan(data.labels) | np.isin(data.labels, (0, 1))).all(axis=1))
    if bad_labels.size:
        raise CohortRefused(
            f"labels must be 0, 1 or NaN; case {data.case_ids[bad_labels[0]]} has another value"
        )
    bad_ages = np.flatnonzero(data.age_years <= 0)
    if bad_ages.size:
        raise CohortRefused(f"age must be above 0 years; case {data.case_ids[bad_ages[0]]} has another value")


def check_assignments(data: TrainingData, assignments: Mapping[str, Sequence[Split]]) -> None:
    """Refuses what ``check_training_data`` would refuse of one cohort under several splits, each input read once.

    Args:
        data: the cohort; its own splits do not matter.
        assignments: name of a unit -> split of every case as that unit sees it.

    Raises:
        CohortRefused: as ``check_training_data``; the message names the unit.
    """
    _check_shapes(data)
    units = {unit: replace(data, splits=list(splits)) for unit, splits in assignments.items()}
    for unit, seen in units.items():
        try:
            check_records(seen)
        except CohortRefused as error:
            raise CohortRefused(f"{unit}: {error}") from error
    everyone = np.arange(data.n)
    for left, right in _find_same_volumes(data, _summarise(data), everyone, everyone):
        for unit, seen in units.items():
            if seen.splits[left] is not seen.splits[right]:
                raise CohortRefused(f"{unit}: {_describe_twins(seen, left, right)}")


def _check_shapes(data: TrainingData) -> None:
    lengths = {
        "inputs": data.inputs.shape[0],
        "patient_keys": len(data.patient_keys),
        "splits": len(data.splits),
        "os": data.os.months.shape[0],
        "pfs": data.pfs.months.shape[0],
        "age_years": data.age_years.shape[0],
        "labels": data.labels.shape[0],
    }
    wrong = {name: length for name, length in lengths.items() if length != data.n}
    if wrong:
        raise CohortRefused(f"{data.n} case ids, but {wrong} rows")
    if data.inputs.ndim != 5 or len(set(data.inputs.shape[2:])) != 1:
        raise CohortRefused(f"inputs have shape {data.inputs.shape}; expected (n, phases, side, side, side)")
    if data.labels.ndim != 2 or data.labels.shape[1] != len(LABELS):
        raise CohortRefused(f"labels have shape {data.labels.shape}; expected (n, {len(LABELS)})")


def _check_identities(data: TrainingData) -> None:
    if len({key.casefold() for key in data.patient_keys}) < 2:
        raise CohortRefused("the cohort holds 1 patient; a network cannot learn from one")
    seen: dict[str, str] = {}
    for case_id in data.case_ids:
        other = seen.setdefault(case_id.casefold(), case_id)
        if other != case_id:
            raise CohortRefused(f"case ids {other} and {case_id} differ in capitals alone: one case twice?")
    if len(seen) != data.n:
        twice = next(case_id for case_id in data.case_ids if data.case_ids.count(case_id) > 1)
        raise CohortRefused(f"case id {twice} occurs twice")
    where: dict[str, tuple[Split, str]] = {}
    for case_id, key, split in zip(data.case_ids, data.patient_keys, data.splits, strict=True):
        first = where.setdefault(key.casefold(), (split, case_id))
        if first[0] is not split:
            raise CohortRefused(
                f"patient {key} is in two splits: case {first[1]} in {first[0].value}, case {case_id} in {split.value}"
            )


def _check_follow_up(data: TrainingData, name: str, follow: Follow) -> None:
    half = np.flatnonzero(np.isnan(follow.months) != np.isnan(follow.event))
    if half.size:
        raise CohortRefused(
            f"{name} of case {data.case_ids[half[0]]}: months and event must both be known or neither"
        )
    bad = np.flatnonzero(
        ~np.isnan(follow.months) & ~((follow.months > 0) & (follow.months <= LONGEST_MONTHS))
    )
    if bad.size:
        raise CohortRefused(
            f"{name} of case {data.case_ids[bad[0]]} is {follow.months[bad[0]]:g} months; expected above 0 and at most"
            f" {LONGEST_MONTHS:g}"
        )
    words = np.flatnonzero(~np.isnan(follow.event) & ~np.isin(follow.event, (0, 1)))
    if words.size:
        raise CohortRefused(
            f"{name} event of case {data.case_ids[words[0]]} is {follow.event[words[0]]:g}; expected 0 or 1"
        )
    for split in (Split.TRAINING, Split.VALIDATION):
        rows = data.rows(split)
        events = int(np.nansum(follow.event[rows])) if rows.size else 0
        if events == 0:
            raise CohortRefused(f"no {name} event among the {rows.size} {split.value} cases")
        known = rows[~np.isnan(follow.months[rows])]
        if not has_comparable_pair(
            torch.from_numpy(follow.months[known]), torch.from_numpy(follow.event[known])
        ):
            raise CohortRefused(
                f"no two of the {known.size} {split.value} cases with {name} can be compared: an event with a longer"
                " follow-up beside it is needed"
            )


def _check_voxels(data: TrainingData) -> None:
    """Reads every input once: finite, and no two splits hold nearly the same volume."""
    summaries = _summarise(data)
    order = [data.rows(split) for split in Split]
    for index, one in enumerate(order):
        for other in order[index + 1 :]:
            if one.size and other.size:
                for left, right in _find_same_volumes(data, summaries, one, other):
                    raise CohortRefused(_describe_twins(data, left, right))


def _summarise(data: TrainingData) -> npt.NDArray[np.float32]:
    """The block means of every input, (n, phases, means); refuses what no network input can be."""
    summaries = summarise_inputs(data.inputs)
    bad = np.flatnonzero(~np.isfinite(summaries).all(axis=(1, 2)))
    if bad.size:
        raise CohortRefused(f"the input of case {data.case_ids[bad[0]]} holds voxels that are not finite")
    low, high = summaries.min(axis=2), summaries.max(axis=2)
    outside = np.argwhere((low < -RANGE_SLACK) | (high > 1 + RANGE_SLACK))
    if outside.size:
        row, channel = outside[0]
        raise CohortRefused(
            f"channel {channel + 1} of the input of case {data.case_ids[row]} reaches from {low[row, channel]:g} to"
            f" {high[row, channel]:g}; expected intensities scaled to 0 to 1"
        )
    flat = low == high
    some = np.argwhere(flat & ~flat.all(axis=0))
    if some.size:
        row, channel = some[0]
        raise CohortRefused(
            f"channel {channel + 1} of the input of case {data.case_ids[row]} holds one value everywhere; a phase that is"
            " missing is left out of the run (--phases) or the case out of the cohort, never filled up"
        )
    return summaries


def _find_same_volumes(
    data: TrainingData, summaries: npt.NDArray[np.float32], one: IntArray, other: IntArray
) -> Iterator[tuple[int, int]]:
    """Gives pairs of different cases, one of each list, whose volumes nearly agree voxel by voxel."""
    for first, second in find_close_summaries(summaries[one], summaries[other]):
        left, right = int(one[first]), int(other[second])
        if left != right and is_same_scan(data.inputs[left], data.inputs[right]):
            yield left, right


def _describe_twins(data: TrainingData, left: int, right: int) -> str:
    return (
        f"cases {data.case_ids[left]} ({data.splits[left].value}) and {data.case_ids[right]} "
        f"({data.splits[right].value}) hold nearly the same volume: one patient under two names?"
    )
