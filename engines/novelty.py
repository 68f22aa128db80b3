"""How far a network input lies from those a model was trained on: a plain, honest out-of-distribution measure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.errors import InvalidInput
from engines.models.reference import InputReference
from engines.phase import Phase

Numbers = npt.NDArray[np.float64]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles of each channel that describe its brightness (OURS)."""

BLOCKS = 4
"""Each channel is also described by the means of 4 x 4 x 4 blocks: where the bright and the dark lie (OURS)."""

FEWEST_INPUTS = 20
"""Fewer training inputs give no reference: their spread would be noise (OURS)."""

LEAST_DEVIATION = 0.01
"""A number that hardly varies in training counts with this deviation, 3.4 HU of the window (OURS)."""


MOST_DEVIATIONS = 4.0
"""A channel farther than this from the training inputs is unusual (OURS: 1 normal patient in 2600 for the six numbers)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NoveltyReference:
    """What the training inputs look like: aggregates only.

    Attributes:
        mean: of every number of the description, shape (d,).
        deviation: standard deviation of every number, shape (d,), > 0.
        distances: distance of each training input from all others, sorted, shape (n,).
    """

    mean: Numbers
    deviation: Numbers
    distances: Numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Novelty:
    """How unusual one input is.

    Attributes:
        distance: root mean square of its numbers in training standard deviations; about 1 is usual.
        percentile: share of the training inputs that lie nearer to the others, 0..1; 1 is farther than all.
    """

    distance: float
    percentile: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusualChannel:
    """A number of one channel that lies far from the training inputs.

    Attributes:
        phase: of the channel.
        quantity: ``mean`` or ``spread`` (standard deviation) of its voxels.
        value: of this input, 0..1 of the window.
        usual: mean of the training inputs.
        deviation: standard deviation between them, at least ``LEAST_DEVIATION``.
    """

    phase: Phase
    quantity: str
    value: float
    usual: float
    deviation: float

    @property
    def deviations(self) -> float:
        """Signed distance from the usual value, in standard deviations."""
        return (self.value - self.usual) / self.deviation


def find_unusual_channels(
    array: npt.NDArray[np.floating], reference: Sequence[InputReference]
) -> tuple[UnusualChannel, ...]:
    """Returns what of a network input lies more than ``MOST_DEVIATIONS`` from the training inputs, the farthest first.

    Args:
        array: network input, shape (channels, s, s, s), 0..1.
        reference: of the channels in their order, as a released model keeps it.

    Raises:
        InvalidInput: the input has another number of channels than the training inputs.
    """
    if len(array) != len(reference):
        raise InvalidInput(f"{len(array)} channels in the input, {len(reference)} in the training inputs")
    found: list[UnusualChannel] = []
    for channel, entry in zip(array, reference, strict=True):
        voxels = channel.astype(np.float64)
        for quantity, value, usual, deviation in (
            ("mean", voxels.mean(), entry.mean, entry.mean_sd),
            ("spread", voxels.std(), entry.sd, entry.sd_sd),
        ):
            one = UnusualChannel(
                phase=entry.phase,
                quantity=quantity,
                value=float(value),
                usual=usual,
                deviation=max(deviation, LEAST_DEVIATION),
            )
            if abs(one.deviations) > MOST_DEVIATIONS:
                found.append(one)
    return tuple(sorted(found, key=lambda one: -abs(one.deviations)))


def describe_input(array: npt.NDArray[np.floating]) -> Numbers:
    """Returns quantiles and block means of every channel, shape (channels * 69,).

    Args:
        array: network input, shape (channels, s, s, s), 0..1, s at least 4.

    Raises:
        InvalidInput: the array is no such cube or holds values that are not finite.
    """
    if array.ndim != 4 or len(set(array.shape[1:])) != 1 or array.shape[1] < BLOCKS:
        raise InvalidInput(
            f"network input of shape {array.shape}; expected (channels, s, s, s) with s >= {BLOCKS}"
        )
    values = array.astype(np.float64)
    if not np.isfinite(values).all():
        raise InvalidInput("the network input holds values that are not finite")
    parts = []
    for channel in values:
        parts.append(np.quantile(channel, QUANTILES))
        edges = np.linspace(0, channel.shape[0], BLOCKS + 1).astype(int)
        means, sizes = channel, np.diff(edges)
        for axis in range(3):
            shape = [1, 1, 1]
            shape[axis] = BLOCKS
            means = np.add.reduceat(means, edges[:-1], axis=axis) / sizes.reshape(shape)
        parts.append(means.ravel())
    return np.concatenate(parts)


def fit_novelty(descriptions: Numbers) -> NoveltyReference:
    """Returns the reference of a training cohort; each distance is measured from the mean and deviation of the others.

    Args:
        descriptions: of the training inputs alone, shape (n, d); never of test patients.

    Raises:
        InvalidInput: there are too few.
    """
    count = len(descriptions)
    if descriptions.ndim != 2 or count < FEWEST_INPUTS:
        raise InvalidInput(
            f"descriptions of shape {descriptions.shape}; expected at least {FEWEST_INPUTS} inputs"
        )
    others_mean = (descriptions.sum(axis=0) - descriptions) / (count - 1)
    squares = ((descriptions**2).sum(axis=0) - descriptions**2) / (count - 1)
    others_deviation = np.sqrt(np.maximum(squares - others_mean**2, LEAST_DEVIATION**2))
    distances = np.sqrt((((descriptions - others_mean) / others_deviation) ** 2).mean(axis=1))
    return NoveltyReference(
        mean=descriptions.mean(axis=0),
        deviation=np.maximum(descriptions.std(axis=0), LEAST_DEVIATION),
        distances=np.sort(distances),
    )


def judge_novelty(array: npt.NDArray[np.floating], reference: NoveltyReference) -> Novelty:
    """Returns how unusual a network input is.

    Args:
        array: network input, shape (channels, s, s, s).
        reference: of the model's training cohort, made with the same preprocessing.

    Raises:
        InvalidInput: the input has another number of channels than the training inputs.
    """
    numbers = describe_input(array)
    if numbers.shape != reference.mean.shape:
        raise InvalidInput(
            f"{numbers.size} numbers describe the input, {reference.mean.size} the training inputs"
        )
    distance = float(np.sqrt((((numbers - reference.mean) / reference.deviation) ** 2).mean()))
    nearer = int(np.searchsorted(reference.distances, distance, side="left"))
    return Novelty(distance=distance, percentile=nearer / len(reference.distances))
