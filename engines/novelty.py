"""How far a network input lies from those a model was trained on: a plain, honest out-of-distribution measure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from engines.errors import InvalidInput
from engines.models.reference import InputReference, NoveltyReference
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


LEVEL = 0.99
"""One in a hundred inputs like the training inputs is called unlike them (OURS)."""

FOLDS = 10
"""Parts of the training inputs, each judged by a model of the others, for the threshold."""

MOST_COMPONENTS = 16
INPUTS_PER_COMPONENT = 5
"""Directions that are kept: not more than these, nor than one for five inputs (OURS)."""

LEAST_VARIANCE = 1e-4
"""Of standardised numbers along a direction: inputs that do not differ there must not make the least noise unusual."""

MOST_DEVIATIONS = 4.0
"""A channel farther than this from the training inputs is unusual (OURS: 1 normal patient in 2600 for the six numbers)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Novelty:
    """How unusual one input is.

    Attributes:
        distance: from the training inputs; about 1 is usual.
        threshold: beyond this it is unlike them.
        level: share of the training inputs that lie within the threshold.
        exchanged: two channels, by their places, whose exchange would make it usual; None where none would.
    """

    distance: float
    threshold: float
    level: float
    exchanged: tuple[int, int] | None = None

    @property
    def unusual(self) -> bool:
        """Whether the input is unlike the training inputs."""
        return self.distance > self.threshold


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


def count_numbers(channels: int) -> int:
    """Returns how many numbers describe a network input of so many channels."""
    return channels * (len(QUANTILES) + BLOCKS**3)


def describe_input(array: npt.NDArray[np.floating]) -> Numbers:
    """Returns quantiles and block means of every channel, shape (``count_numbers(channels)``,).

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
    """Returns the reference of a training cohort.

    The threshold comes from distances that a model of the other inputs gives, each tenth judged by nine: what a new input
    of the same kind would show. With n inputs no level above n / (n + 1) can be stated.

    Args:
        descriptions: of the training inputs alone, shape (n, d); never of test patients.

    Raises:
        InvalidInput: there are too few.

    Source: Tipping & Bishop, J R Stat Soc B 1999;61:611 (the model); Vovk et al. 2005, split conformal rank (threshold).
    """
    count = len(descriptions)
    if descriptions.ndim != 2 or count < FEWEST_INPUTS:
        raise InvalidInput(
            f"descriptions of shape {descriptions.shape}; expected at least {FEWEST_INPUTS} inputs"
        )
    fold = np.arange(count) % FOLDS
    distances = np.empty(count)
    for number in range(FOLDS):
        seen = _fit_components(descriptions[fold != number])
        distances[fold == number] = _measure(descriptions[fold == number], *seen)
    rank = min(int(np.ceil((count + 1) * LEVEL)), count)
    mean, deviation, components, variances, rest = _fit_components(descriptions)
    return NoveltyReference(
        inputs=count,
        mean=tuple(mean.tolist()),
        deviation=tuple(deviation.tolist()),
        components=tuple(tuple(row) for row in components.tolist()),
        variances=tuple(variances.tolist()),
        rest=rest,
        level=rank / (count + 1),
        threshold=float(np.sort(distances)[rank - 1]),
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
    if numbers.shape != (len(reference.mean),):
        raise InvalidInput(
            f"{numbers.size} numbers describe the input, {len(reference.mean)} the training inputs"
        )
    pairs = list(combinations(range(len(array)), 2))
    blocks = np.split(numbers, len(array))
    rows = np.stack([numbers, *(np.concatenate(_exchange(blocks, *pair)) for pair in pairs)])
    distances = _measure(
        rows,
        np.asarray(reference.mean),
        np.asarray(reference.deviation),
        np.asarray(reference.components),
        np.asarray(reference.variances),
        reference.rest,
    )
    usual = [pair for pair, other in zip(pairs, distances[1:], strict=True) if other <= reference.threshold]
    unusual = distances[0] > reference.threshold
    return Novelty(
        distance=float(distances[0]),
        threshold=reference.threshold,
        level=reference.level,
        exchanged=usual[0] if unusual and usual else None,
    )


def _exchange(blocks: Sequence[Numbers], one: int, other: int) -> list[Numbers]:
    exchanged = list(blocks)
    exchanged[one], exchanged[other] = blocks[other], blocks[one]
    return exchanged


def _fit_components(descriptions: Numbers) -> tuple[Numbers, Numbers, Numbers, Numbers, float]:
    """Mean, deviation, directions, their variances, and the variance of the rest, of standardised descriptions."""
    mean = descriptions.mean(axis=0)
    deviation = np.maximum(descriptions.std(axis=0), LEAST_DEVIATION)
    scaled = (descriptions - mean) / deviation
    count, size = scaled.shape
    kept = min(MOST_COMPONENTS, count // INPUTS_PER_COMPONENT, size - 1)
    _, singular, directions = np.linalg.svd(scaled, full_matrices=False)
    variances = singular**2 / (count - 1)
    rest = max(float(variances[kept:].sum()) / (size - kept), LEAST_VARIANCE)
    return mean, deviation, directions[:kept], np.maximum(variances[:kept], LEAST_VARIANCE), rest


def _measure(
    descriptions: Numbers,
    mean: Numbers,
    deviation: Numbers,
    components: Numbers,
    variances: Numbers,
    rest: float,
) -> Numbers:
    """Distance of each description from the mean, per number: Mahalanobis under the model, shape (n,)."""
    scaled = (descriptions - mean) / deviation
    along = scaled @ components.T
    beside = np.maximum((scaled**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
    squares = (along**2 / variances).sum(axis=1) + beside / rest
    distances: Numbers = np.sqrt(squares / scaled.shape[1])
    return distances
