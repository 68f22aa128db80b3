"""Pixels of synthetic abdomens name native, arterial and portal venous passes, and never DELAYED by themselves.

There is no public delayed pixel data: portal venous against delayed from pixels is shown on phantoms alone.
"""

import numpy as np
import pytest

from engines.enhancement import measure_enhancement
from engines.phantom.anatomy import abdomen_grid, draw_anatomy, render_phase
from engines.phantom.traits import PhantomTraits
from engines.phase import Phase
from node.phases.passes import hounsfield_likelihood
from node.phases.rules import STATES, load_rules
from node.phases.sequence import PassEvidence, infer_phases

pytestmark = pytest.mark.timeout(1200)

SEEDS = range(6)
RULES = load_rules()


@pytest.fixture(scope="module")
def likelihoods():
    """Pixel likelihood of each phase of each phantom, by (seed, phase)."""
    grid = abdomen_grid(pixel_mm=2.0, columns=192, slice_mm=5.0, slices=48)
    found = {}
    for seed in SEEDS:
        anatomy = draw_anatomy(
            PhantomTraits(seed=seed, burden=0.0, heterogeneity=0.0, enhancement=0.0, washout=0.0)
        )
        for phase in Phase:
            medians = measure_enhancement(render_phase(anatomy, phase, grid)).medians()
            found[seed, phase] = hounsfield_likelihood(medians, RULES.hounsfield)
    return found


def alone(likelihood) -> dict[str, float]:
    (row,) = infer_phases([PassEvidence(likelihood=likelihood)], "time", RULES)
    return dict(zip(STATES, row, strict=True))


@pytest.mark.parametrize("phase", [Phase.PRE_CONTRAST, Phase.ARTERIAL, Phase.PORTAL_VENOUS])
def test_one_pass_is_named_from_its_pixels(likelihoods, phase):
    named = [alone(likelihoods[seed, phase])[phase.value] >= RULES.decision.named for seed in SEEDS]
    wrong = [
        other for seed in SEEDS for other in Phase
        if other != phase and alone(likelihoods[seed, phase])[other.value] >= RULES.decision.named
    ]  # fmt: skip
    assert np.mean(named) >= 0.8
    assert wrong == []


def test_delayed_pass_alone_is_not_determined(likelihoods):
    for seed in SEEDS:
        assert max(alone(likelihoods[seed, Phase.DELAYED]).values()) < RULES.decision.named


def test_delayed_pixels_lie_below_portal_venous_ones_but_never_favour_delayed(likelihoods):
    delayed, portal = STATES.index("DELAYED"), STATES.index("PORTAL_VENOUS")
    for seed in SEEDS:
        of_delayed, of_portal = likelihoods[seed, Phase.DELAYED], likelihoods[seed, Phase.PORTAL_VENOUS]
        assert of_delayed[delayed] <= of_delayed[portal]
        assert of_delayed[delayed] / of_delayed[portal] > of_portal[delayed] / of_portal[portal]


def test_order_and_pixels_together_name_all_four(likelihoods):
    for seed in SEEDS:
        passes = [PassEvidence(likelihood=likelihoods[seed, phase]) for phase in Phase]
        posterior = infer_phases(passes, "acquisition_number", RULES)
        assert [STATES[int(np.argmax(row))] for row in posterior] == [phase.value for phase in Phase]
