"""The one model of phase recognition: a chain of hidden phases over the passes of a study, solved exactly.

The passes of a study, in the order in which they were scanned, are PRE_CONTRAST, ARTERIAL, PORTAL_VENOUS, DELAYED or
OTHER. Each pass brings a likelihood of every state (texts, seconds after injection, pixels, attributes; taken as
independent given the state). Passes that are not OTHER form a Markov chain whose transitions hold the order of the phases
and the gaps between them; a pass that is OTHER is skipped by the chain. Forward and backward sums over (last pass of the
chain, its state) give every posterior exactly in O(passes^2 x states^2).
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
        likelihood: shape (5,) by state, not normalised, >= 0, at least one > 0.
        start_seconds: start on any common clock, None when not known.
    """

    likelihood: tuple[float, ...]
    start_seconds: float | None = None


def infer_phases(passes: Sequence[PassEvidence], order_from: str, rules: PhaseRules) -> Matrix:
    """Returns the posterior probability of every state of every pass, shape (passes, 5), rows sum to 1.

    Args:
        passes: in the order of acquisition.
        order_from: ``time``, ``acquisition_number`` or ``series_number``: how far the order is trusted.
        rules: prior, transitions, gaps.

    Source: forward-backward algorithm, Rabiner, Proc IEEE 1989;77:257, section III; OTHER passes are skipped (OURS).
    """
    count = len(passes)
    if not count:
        return np.zeros((0, len(STATES)))
    emission = np.array([item.likelihood for item in passes], dtype=np.float64)
    emission /= emission.max(axis=1, keepdims=True)
    other = float(getattr(rules.decision.other, order_from))
    chain = emission[:, : len(_CHAIN)] * (1.0 - other)
    skip = emission[:, _OTHER] * other * np.array([1.0] + [_gap_of_other(passes, i) for i in range(1, count)])
    top = np.maximum(chain.max(axis=1), skip)
    chain, skip = (
        chain / top[:, None],
        skip / top,
    )  # every path takes one of both, so the posterior stays the same
    first = np.array([rules.sequence.first[phase] for phase in Phase])
    step = {
        (i, j): transition_matrix(_gap(passes, i, j), order_from, rules)
        for i in range(count)
        for j in range(i + 1, count)
    }
    forward = np.zeros_like(chain)
    for j in range(count):
        forward[j] = first * np.prod(skip[:j])
        for i in range(j):
            forward[j] += (forward[i] @ step[i, j]) * np.prod(skip[i + 1 : j])
        forward[j] *= chain[j]
    backward = np.zeros_like(chain)
    for i in reversed(range(count)):
        backward[i] = np.prod(skip[i + 1 :])
        for j in range(i + 1, count):
            backward[i] += step[i, j] @ (chain[j] * backward[j]) * np.prod(skip[i + 1 : j])
    total = float(np.prod(skip) + sum(forward[i] @ np.full(4, np.prod(skip[i + 1 :])) for i in range(count)))
    posterior = np.empty((count, len(STATES)))
    posterior[:, : len(_CHAIN)] = forward * backward / total
    posterior[:, _OTHER] = np.clip(1.0 - posterior[:, : len(_CHAIN)].sum(axis=1), 0.0, 1.0)
    return posterior


def transition_matrix(gap_seconds: float | None, order_from: str, rules: PhaseRules) -> Matrix:
    """Returns the weight of every state after every state, shape (4, 4): prior of the step times that of its gap.

    Args:
        gap_seconds: between the starts of both passes, None when not known.
        order_from: as above; with its probability the order of the two is turned round.
        rules: transitions and gaps.
    """
    sequence = rules.sequence
    wrong = float(getattr(sequence.backward, order_from))
    ahead = np.array([[sequence.next[before][after] for after in Phase] for before in Phase])
    gaps = np.array(
        [[gap_likelihood(gap_seconds, before, after, sequence.gap) for after in _CHAIN] for before in _CHAIN]
    )
    turned = ahead.T * (gaps.T if gap_seconds is not None else 1.0)
    matrix: Matrix = (1.0 - wrong) * ahead * gaps + wrong * turned
    return matrix


def _gap(passes: Sequence[PassEvidence], i: int, j: int) -> float | None:
    """Seconds between the starts of two passes."""
    before, after = passes[i].start_seconds, passes[j].start_seconds
    return None if before is None or after is None else after - before


def _gap_of_other(passes: Sequence[PassEvidence], index: int) -> float:
    """The weight of the gap before a pass that is OTHER: any gap fits alike."""
    return 1.0 if _gap(passes, index - 1, index) is None else FLAT_DENSITY
