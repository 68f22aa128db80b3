"""The chain over the passes is solved exactly: an enumeration of every assignment gives the same posterior."""

from functools import cache
from itertools import pairwise, permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.phase import Phase
from node.phases.rules import OTHER, STATES, load_rules
from node.phases.sequence import PassEvidence, infer_phases
from node.phases.timing import FLAT_DENSITY, gap_likelihood

RULES = load_rules()
SILENT = (1.0,) * 5


def enumerate_posterior(passes, order_from):
    """The posterior by brute force over all 5^n assignments, both hidden faults, straight from the definition."""
    sequence, other = RULES.sequence, getattr(RULES.decision.other, order_from)
    ends = {phase.value: 1 - sum(sequence.next[phase].values()) for phase in Phase}
    step = {(a.value, b.value): sequence.next[a][b] for a in Phase for b in Phase}

    @cache
    def ordered(chain) -> float:
        steps = np.prod([step[pair] for pair in pairwise(chain)])
        return sequence.first[Phase(chain[0])] * steps * ends[chain[-1]]

    @cache
    def shuffled(chain) -> float:
        return np.mean([ordered(order) for order in permutations(chain)])

    lies = getattr(sequence.unreliable, order_from)
    total = np.zeros((len(passes), 5))
    for muddle, disorder in product((0, 1), (0, 1)):
        if len(passes) == 1 and disorder:
            continue
        for states in product(STATES, repeat=len(passes)):
            weight = (RULES.text.unreliable if muddle else 1 - RULES.text.unreliable) * (
                lies if disorder else 1 - lies
            )
            for item, state in zip(passes, states, strict=True):
                speaks = min(item.text) < 1
                text = (0.25 if speaks else 1.0) if muddle else item.text[STATES.index(state)]
                weight *= (
                    item.likelihood[STATES.index(state)] * text * (other if state == OTHER else 1 - other)
                )
            for one, two in pairwise(passes):
                known = one.start_seconds is not None and two.start_seconds is not None
                weight *= FLAT_DENSITY if known else 1.0
            chain = [(s, p) for s, p in zip(states, passes, strict=True) if s != OTHER]
            if not chain:
                weight *= sequence.none
            elif disorder:
                weight *= shuffled(tuple(s for s, _ in chain))
            else:
                weight *= ordered(tuple(s for s, _ in chain))
                for (one, p), (two, q) in pairwise(chain):
                    if p.start_seconds is not None and q.start_seconds is not None:
                        gap = q.start_seconds - p.start_seconds
                        weight *= gap_likelihood(gap, one, two, sequence.gap) / FLAT_DENSITY
            for i, state in enumerate(states):
                total[i, STATES.index(state)] += weight
    return total / total.sum(axis=1, keepdims=True)


vectors = st.tuples(*[st.floats(0.001, 1.0)] * 5)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    rest=st.lists(st.tuples(vectors, vectors, st.booleans()), min_size=1, max_size=4),
    gaps=st.lists(st.floats(1.0, 600.0), min_size=4, max_size=4),
    timed=st.booleans(),
    order_from=st.sampled_from(["time", "acquisition_number", "series_number"]),
)
def test_posterior_equals_the_sum_over_every_assignment(rest, gaps, timed, order_from):
    starts = np.cumsum(gaps)
    passes = [
        PassEvidence(
            likelihood=likelihood,
            text=tuple(t / max(text) for t in text) if speaks else SILENT,
            start_seconds=float(starts[i]) if timed else None,
        )
        for i, (likelihood, text, speaks) in enumerate(rest)
    ]
    found = infer_phases(passes, order_from, RULES)
    assert found == pytest.approx(enumerate_posterior(passes, order_from), abs=1e-9)


def named(row) -> str:
    return STATES[int(np.argmax(row))]


def timed(*seconds: float) -> list[PassEvidence]:
    return [PassEvidence(likelihood=SILENT, start_seconds=moment) for moment in seconds]


def test_times_alone_name_the_phases_of_a_usual_protocol():
    posterior = infer_phases(timed(0, 150, 186, 300), "time", RULES)
    assert [named(row) for row in posterior] == ["PRE_CONTRAST", "ARTERIAL", "PORTAL_VENOUS", "DELAYED"]
    assert posterior.max(axis=1).min() > 0.95


def test_unknown_passes_without_evidence_stay_undetermined():
    posterior = infer_phases([PassEvidence(likelihood=SILENT)] * 3, "series_number", RULES)
    assert posterior.max() < RULES.decision.named


def test_swapped_texts_against_the_order_are_not_believed():
    def says(phase: Phase) -> PassEvidence:
        text = tuple(1.0 if state == phase.value else RULES.text.plain for state in STATES)
        return PassEvidence(likelihood=SILENT, text=text)

    swapped = [says(Phase.ARTERIAL), says(Phase.DELAYED), says(Phase.PORTAL_VENOUS)]
    right = [says(Phase.ARTERIAL), says(Phase.PORTAL_VENOUS), says(Phase.DELAYED)]
    assert infer_phases(right, "acquisition_number", RULES).max(axis=1).min() > RULES.decision.used
    assert infer_phases(swapped, "acquisition_number", RULES)[1:].max() < RULES.decision.used


def test_no_passes_give_no_rows():
    assert infer_phases([], "time", RULES).shape == (0, 5)


def test_of_hundreds_of_passes_no_phase_is_told_but_the_operators():
    certain = tuple(float(state == Phase.ARTERIAL.value) for state in STATES)
    passes = [
        PassEvidence(likelihood=certain if i == 7 else SILENT, start_seconds=30.0 * i) for i in range(300)
    ]
    posterior = infer_phases(passes, "time", RULES)
    assert tuple(posterior[7]) == certain
    assert np.all(np.delete(posterior, 7, axis=0) == 0.2)
