"""The one model of phase recognition: a chain of hidden phases over the passes of a study, solved exactly.

The passes of a study, in the order in which they were scanned, are PRE_CONTRAST, ARTERIAL, PORTAL_VENOUS, DELAYED or
OTHER. Each pass brings likelihoods of every state: from its texts, and from seconds after injection, pixels and attributes
(independent given the state). Passes that are not OTHER form a Markov chain whose transitions hold the order of the phases
and the gaps between them; a pass that is OTHER is skipped by the chain. Two faults concern a whole study: its texts may be
mixed up, and its order may lie; both are hidden variables, and all four cases are summed. Where the order holds, forward and
backward sums over (last pass of the chain, its state) give every posterior exactly in O(passes^2 x states^2). Where it lies,
the passes are those of the same chain in shuffled order: numbers follow the console or the archive, but which phases a study
has does not. As the chain never goes back, only the count of each phase matters, and sums over the counts are exact as well.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product

import numpy as np
import numpy.typing as npt

from engines.phase import Phase
from node.phases.rules import OTHER, STATES, PhaseRules
from node.phases.timing import FLAT_DENSITY, gap_likelihood

Matrix = npt.NDArray[np.float64]
_CHAIN = tuple(phase.value for phase in Phase)
_OTHER = STATES.index(OTHER)

MOST_ALIKE = 4
"""In a shuffled order, more passes of one phase than this are not thought of (OURS: protocols repeat a phase once or twice)."""

LEAST_WEIGHT = 1e-250
"""Of all that a study may be; below it terms were lost to the smallest number there is, and no phase is told (OURS)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassEvidence:
    """What one pass says.

    Attributes:
        likelihood: shape (5,) by state from everything but texts, not normalised, >= 0, at least one > 0.
        text: shape (5,) from its texts, the largest 1; all 1 where they say nothing.
        start_seconds: start on any common clock, None when not known.
    """

    likelihood: tuple[float, ...]
    text: tuple[float, ...] = (1.0,) * len(STATES)
    start_seconds: float | None = None


def infer_phases(passes: Sequence[PassEvidence], order_from: str, rules: PhaseRules) -> Matrix:
    """Returns the posterior probability of every state of every pass, shape (passes, 5), rows sum to 1.

    Of hundreds of passes (perfusion) nothing can be said: every state that its pass allows is as likely as the others.

    Args:
        passes: in the order of acquisition.
        order_from: ``time``, ``acquisition_number`` or ``series_number``: how far the order is trusted.
        rules: prior, transitions, gaps, and how often texts and order lie.
    """
    if not passes:
        return np.zeros((0, len(STATES)))
    rest = np.array([item.likelihood for item in passes], dtype=np.float64)
    texts = np.array([item.text for item in passes], dtype=np.float64)
    muddled = np.where(texts.min(axis=1, keepdims=True) < 1.0, 1.0 / len(_CHAIN), 1.0) * np.ones_like(texts)
    texts_lie, order_lies = rules.text.unreliable, float(getattr(rules.sequence.unreliable, order_from))
    total = np.zeros((len(passes), len(STATES)))
    other = float(getattr(rules.decision.other, order_from))
    steps = {
        (i, j): transition_matrix(_gap(passes, i, j), rules) for j in range(len(passes)) for i in range(j)
    }
    for muddle, disorder in product((False, True), (False, True)):
        prior = (texts_lie if muddle else 1 - texts_lie) * (order_lies if disorder else 1 - order_lies)
        if len(passes) == 1 and disorder:
            continue
        emission = rest * (muddled if muddle else texts)
        if disorder:
            total += prior * _sum_orders(emission, other, rules, _flat(passes))
        else:
            total += prior * _sum_paths(emission, other, steps, rules, _flat(passes))
    if not total.sum(axis=1).min() >= LEAST_WEIGHT:
        total = (rest > 0.0).astype(np.float64)
    posterior: Matrix = total / total.sum(axis=1, keepdims=True)
    return posterior


def transition_matrix(gap_seconds: float | None, rules: PhaseRules) -> Matrix:
    """Returns the weight of every state after every state, shape (4, 4): prior of the step times that of its gap.

    Args:
        gap_seconds: between the starts of both passes, None when not known.
        rules: transitions and gaps.
    """
    gaps = [
        [gap_likelihood(gap_seconds, before, after, rules.sequence.gap) for after in _CHAIN]
        for before in _CHAIN
    ]
    matrix: Matrix = _ahead(rules) * np.array(gaps)
    return matrix


def _ahead(rules: PhaseRules) -> Matrix:
    """Prior of every state after every state, shape (4, 4)."""
    return np.array([[rules.sequence.next[before][after] for after in Phase] for before in Phase])


def _ends(rules: PhaseRules) -> tuple[Matrix, Matrix]:
    """Weight of a chain by its first state and by its last, shape (4,) each."""
    first = np.array([rules.sequence.first[phase] for phase in Phase])
    last = np.array([1.0 - sum(rules.sequence.next[phase].values()) for phase in Phase])
    return first, last


def _sum_paths(
    emission: Matrix,
    other: float,
    steps: dict[tuple[int, int], Matrix],
    rules: PhaseRules,
    flat: list[float],
) -> Matrix:
    """Returns the total weight of all paths through every state of every pass, shape (passes, 5).

    Source: forward-backward algorithm, Rabiner, Proc IEEE 1989;77:257, section III; OTHER passes are skipped (OURS).
    """
    count = len(flat)
    first, last = _ends(rules)
    chain = emission[:, : len(_CHAIN)] * (1.0 - other)
    skip = [float(emission[i, _OTHER]) * other * flat[i] for i in range(count)]
    forward, backward = np.zeros_like(chain), np.zeros_like(chain)
    for j in range(count):
        forward[j] = first * (math.prod(skip[:j]) * flat[j])
        for i in range(j):
            forward[j] += (forward[i] @ steps[i, j]) * math.prod(skip[i + 1 : j])
        forward[j] *= chain[j]
    for i in reversed(range(count)):
        backward[i] = last * math.prod(skip[i + 1 :])
        for j in range(i + 1, count):
            backward[i] += steps[i, j] @ (chain[j] * backward[j]) * math.prod(skip[i + 1 : j])
    every = rules.sequence.none * math.prod(skip)
    every += sum(float(forward[i] @ last) * math.prod(skip[i + 1 :]) for i in range(count))
    weights = np.empty((count, len(STATES)))
    weights[:, : len(_CHAIN)] = forward * backward
    weights[:, _OTHER] = np.maximum(every - weights[:, : len(_CHAIN)].sum(axis=1), 0.0)
    return weights


def _sum_orders(emission: Matrix, other: float, rules: PhaseRules, flat: list[float]) -> Matrix:
    """Returns the total weight, over all orders of a chain alike, of every state of every pass, shape (passes, 5).

    ``before[i]`` holds, by how many of the passes before i have each phase, the weight of their states; ``after`` holds by
    the same counts the weight of what follows, beginning with that of the whole chain.
    """
    most = min(len(flat), MOST_ALIKE)
    chain = emission[:, : len(_CHAIN)] * (1.0 - other)
    skip = emission[:, _OTHER] * other
    before = [np.zeros((most + 1,) * len(_CHAIN))]
    before[0][0, 0, 0, 0] = 1.0
    for row, passed_over in zip(chain, skip, strict=True):
        grown = before[-1] * passed_over
        for state, weight in enumerate(row):
            grown[_SHIFTED[state][0]] += weight * before[-1][_SHIFTED[state][1]]
        before.append(grown)
    after = _weigh_counts(most, rules) * math.prod(flat)
    weights = np.empty((len(flat), len(STATES)))
    for i in reversed(range(len(flat))):
        kept = after * skip[i]
        weights[i, _OTHER] = float((before[i] * kept).sum())
        for state, weight in enumerate(chain[i]):
            to, of = _SHIFTED[state]
            weights[i, state] = weight * float((before[i][of] * after[to]).sum())
            kept[of] += weight * after[to]
        after = kept
    return weights


def _shift(state: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where one more pass of a state is counted, and where from."""
    to = tuple(slice(1, None) if axis == state else slice(None) for axis in range(len(_CHAIN)))
    of = tuple(slice(None, -1) if axis == state else slice(None) for axis in range(len(_CHAIN)))
    return to, of


_SHIFTED = tuple(_shift(state) for state in range(len(_CHAIN)))


@lru_cache(maxsize=64)
def _count_weights(most: int, priors: tuple[tuple[float, ...], ...]) -> Matrix:
    """Prior of a chain by the count of each phase, divided by the number of its orders, shape (most + 1,) x 4."""
    *ahead, first, last, (none,) = priors
    weights = np.zeros((most + 1,) * len(_CHAIN))
    for counts in product(range(most + 1), repeat=len(_CHAIN)):
        states = [state for state, count in enumerate(counts) for _ in range(count)]
        if not states:
            weights[counts] = none
            continue
        steps = math.prod(ahead[one][two] for one, two in pairwise(states))
        orders = math.factorial(len(states)) / math.prod(math.factorial(count) for count in counts)
        weights[counts] = first[states[0]] * steps * last[states[-1]] / orders
    return weights


def _weigh_counts(most: int, rules: PhaseRules) -> Matrix:
    """The weights of counts under the transitions of the rules."""
    first, last = _ends(rules)
    rows = [*_ahead(rules).tolist(), first.tolist(), last.tolist(), [rules.sequence.none]]
    return _count_weights(most, tuple(tuple(row) for row in rows))


def _flat(passes: Sequence[PassEvidence]) -> list[float]:
    """Density of each pass's gap to the one before, where nothing is known of it but that it was measured."""
    return [FLAT_DENSITY if i and _gap(passes, i - 1, i) is not None else 1.0 for i in range(len(passes))]


def _gap(passes: Sequence[PassEvidence], i: int, j: int) -> float | None:
    """Seconds between the starts of two passes."""
    before, after = passes[i].start_seconds, passes[j].start_seconds
    return None if before is None or after is None else after - before
