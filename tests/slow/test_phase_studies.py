"""Ten thousand synthetic studies with the faults of real archives: what is used is right, and enough is used."""

import importlib.util
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import structlog

from engines.phase import ASSESSED_PHASES
from node.phases.plan import plan_phases
from node.phases.rules import load_rules

pytestmark = pytest.mark.timeout(1200)

STUDIES = 10_000
GOLDEN = Path(__file__).parent.parent / "golden"


def load_drawing():
    spec = importlib.util.spec_from_file_location("phase_studies", GOLDEN / "phase_studies.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["phase_studies"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def outcome(test_data):
    """Counts over all studies, and (probability, right) of every phase that was named."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    drawing, rules = load_drawing(), load_rules()
    rng = np.random.default_rng(20250917)
    vessels = drawing.read_vessels(test_data / "phase/hu-by-phase.csv")
    counts = {"used": 0, "wrong": 0, "intact": 0, "complete": 0}
    named = []
    for _ in range(STUDIES):
        study = drawing.draw_study(rng, vessels)
        plan = plan_phases(study.acquisitions, study.hounsfield, rules)
        for finding in plan.findings:
            truth = study.truth[finding.acquisition.label]
            counts["used"] += finding.used
            counts["wrong"] += finding.used and finding.phase != truth
            if finding.phase is not None:
                named.append((finding.probability, finding.phase == truth))
        if (study.times_intact or study.texts_intact) and "a phase is missing" not in study.faults:
            counts["intact"] += 1
            right = [p in plan.chosen and study.truth[plan.chosen[p].label] == p for p in ASSESSED_PHASES]
            counts["complete"] += all(right)
    structlog.reset_defaults()
    return counts, np.array(named)


def test_used_phases_are_wrong_in_at_most_one_of_a_thousand(outcome):
    counts, _ = outcome
    assert counts["wrong"] / counts["used"] <= 0.001, counts


def test_three_phases_are_used_where_times_or_texts_are_intact(outcome):
    counts, _ = outcome
    assert counts["complete"] / counts["intact"] >= 0.95, counts


def test_named_phases_are_right_at_least_as_often_as_their_probability_says(outcome):
    _, named = outcome
    for low, high in ((0.90, 0.95), (0.95, 0.97), (0.97, 0.99), (0.99, 0.999), (0.999, 1.0)):
        inside = named[(named[:, 0] >= low) & (named[:, 0] <= high)]
        slack = 3 * np.sqrt(inside[:, 0].mean() * (1 - inside[:, 0].mean()) / len(inside))
        assert inside[:, 1].mean() >= inside[:, 0].mean() - slack, f"{low} to {high}: {inside.mean(axis=0)}"
