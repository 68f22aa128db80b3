"""The one model of phase recognition: a chain of hidden phases over the passes of a study, solved exactly.

The passes of a study, in the order in which they were scanned, are PRE_CONTRAST, ARTERIAL, PORTAL_VENOUS, DELAYED or
OTHER. Each pass brings likelihoods of every state: from its texts, and from seconds after injection, pixels and attributes
(independent given the state). Passes that are not OTHER form a Markov chain whose transitions hold the order of the phases
and the gaps between them; a pass that is OTHER is skipped by the chain. Two faults concern a whole study: its texts may be
mixed up, and its order may lie; both are hidden variables, and all four cases are summed. Within a case, forward and
backward sums over (last pass of the chain, its state) give every posterior exactly in O(passes^2 x states^2).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from engines.phase import Phase
from node.phases.rules import OTHER, STATES, PhaseRules
from node.phases.timing import FLAT_DENSITY, gap_likelihood

Matrix = npt.NDArray[np.float64]
_CHAIN = tuple(phase.value for phase in Phase)
_OTHER = STATES.index(OTHER)


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
    pairs = [(i, j) for j in range(len(passes)) for i in range(j)]
    steps = {
        disorder: {(i, j): transition_matrix(_gap(passes, i, j), rules, disorder=disorder) for i, j in pairs}
        for disorder in (False, True)
    }
    for muddle, disorder in product((False, True), (False, True)):
        prior = (texts_lie if muddle else 1 - texts_lie) * (order_lies if disorder else 1 - order_lies)
        if len(passes) == 1 and disorder:
            continue
        emission = rest * (muddled if muddle else texts)
        other = float(getattr(rules.decision.other, order_from))
        total += prior * _sum_paths(emission, other, steps[disorder], _ends(rules, disorder=disorder), passes)
    posterior: Matrix = total / total.sum(axis=1, keepdims=True)
    return posterior


def transition_matrix(gap_seconds: float | None, rules: PhaseRules, *, disorder: bool) -> Matrix:
    """Returns the weight of every state after every state, shape (4, 4): prior of the step times that of its gap.

    Args:
        gap_seconds: between the starts of both passes, None when not known.
        rules: transitions and gaps.
        disorder: the order lies: every state may follow every other, whatever the gap.
    """
    sequence = rules.sequence
    ahead = np.array([[sequence.next[before][after] for after in Phase] for before in Phase])
    if disorder:
        return np.full((4, 4), ahead.mean()) * (1.0 if gap_seconds is None else FLAT_DENSITY)
    gaps = [
        [gap_likelihood(gap_seconds, before, after, sequence.gap) for after in _CHAIN] for before in _CHAIN
    ]
    matrix: Matrix = ahead * np.array(gaps)
    return matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ends:
    """How a chain begins and ends: weight by first state, by last state, and of a study without any chain."""

    first: Matrix
    last: Matrix
    none: float


def _ends(rules: PhaseRules, *, disorder: bool) -> _Ends:
    """The ends of the rules, or even ones when the order lies."""
    first = np.array([rules.sequence.first[phase] for phase in Phase])
    last = np.array([1.0 - sum(rules.sequence.next[phase].values()) for phase in Phase])
    if disorder:
        first, last = np.full(4, first.mean()), np.full(4, last.mean())
    return _Ends(first=first, last=last, none=rules.sequence.none)


def _sum_paths(
    emission: Matrix,
    other: float,
    steps: dict[tuple[int, int], Matrix],
    ends: _Ends,
    passes: Sequence[PassEvidence],
) -> Matrix:
    """Returns the total weight of all paths through every state of every pass, shape (passes, 5).

    Source: forward-backward algorithm, Rabiner, Proc IEEE 1989;77:257, section III; OTHER passes are skipped (OURS).
    """
    count = len(passes)
    flat = [1.0] + [1.0 if _gap(passes, i - 1, i) is None else FLAT_DENSITY for i in range(1, count)]
    chain = emission[:, : len(_CHAIN)] * (1.0 - other)
    skip = [float(emission[i, _OTHER]) * other * flat[i] for i in range(count)]
    forward, backward = np.zeros_like(chain), np.zeros_like(chain)
    for j in range(count):
        forward[j] = ends.first * (math.prod(skip[:j]) * flat[j])
        for i in range(j):
            forward[j] += (forward[i] @ steps[i, j]) * math.prod(skip[i + 1 : j])
        forward[j] *= chain[j]
    for i in reversed(range(count)):
        backward[i] = ends.last * math.prod(skip[i + 1 :])
        for j in range(i + 1, count):
            backward[i] += steps[i, j] @ (chain[j] * backward[j]) * math.prod(skip[i + 1 : j])
    every = ends.none * math.prod(skip)
    every += sum(float(forward[i] @ ends.last) * math.prod(skip[i + 1 :]) for i in range(count))
    weights = np.empty((count, len(STATES)))
    weights[:, : len(_CHAIN)] = forward * backward
    weights[:, _OTHER] = np.maximum(every - weights[:, : len(_CHAIN)].sum(axis=1), 0.0)
    return weights


def _gap(passes: Sequence[PassEvidence], i: int, j: int) -> float | None:
    """Seconds between the starts of two passes."""
    before, after = passes[i].start_seconds, passes[j].start_seconds
    return None if before is None or after is None else after - before
