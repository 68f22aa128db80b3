"""Simulated score populations for the gate: two honest models of one method, and every way to spoil the second."""

import numpy as np

from engines.endpoint import Endpoint
from engines.survival.cox import fit_cox
from engines.survival.outcome import Outcome
from train.gate import LockedRows

EFFECTS = {
    Endpoint.OS: np.array([0.75, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15]),
    Endpoint.PFS: np.array([0.55, 0.40, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1]),
}
SCALE = {Endpoint.OS: 26.0, Endpoint.PFS: 9.0}
"""Months; with contacts uniform between 12 and 48 about 60 % die and 90 % progress (validity: event rates)."""
TRAINING = 650
CENTRES = ("a", "b", "c")
NAMES = tuple(f"x{place}" for place in range(8))


def draw(random, n, endpoint):
    """(inputs, outcome) of n patients whose log hazard is linear in eight inputs."""
    x = random.normal(size=(n, 8))
    time = SCALE[endpoint] * (random.exponential(size=n) * np.exp(-x @ EFFECTS[endpoint])) ** (1 / 1.15)
    contact = random.uniform(12, 48, n)
    return x, Outcome(np.minimum(time, contact), time <= contact)


def fit(random, endpoint, n=TRAINING, spoil=None):
    """Coefficients of an honest fit on n patients, or of one whose labels ``spoil`` has touched."""
    x, outcome = draw(random, n, endpoint)
    if spoil is not None:
        outcome = spoil(random, outcome)
    return fit_cox(x, outcome, NAMES).coefficients


def swap_labels(random, outcome, share=0.2):
    """A share of the patients have each other's follow-up."""
    rows = random.choice(outcome.n, int(share * outcome.n), replace=False)
    order = np.arange(outcome.n)
    order[rows] = random.permutation(rows)
    return outcome.take(order)


def flip_events(random, outcome, share=0.2):
    """A share of the patients have the opposite event."""
    event = outcome.event.copy()
    rows = random.choice(outcome.n, int(share * outcome.n), replace=False)
    event[rows] = ~event[rows]
    return Outcome(outcome.time, event)


def shuffle_scores(random, score, rows):
    mixed = score.copy()
    mixed[rows] = random.permutation(score[rows])
    return mixed


def make_locked(seed, n, spoilage="equal"):
    """Locked rows of both endpoints: the running model is honest, the candidate is as ``spoilage`` says."""
    random = np.random.default_rng([seed, n])
    found = {}
    for endpoint in Endpoint:
        running = fit(random, endpoint)
        spoil = {"labels swapped": swap_labels, "events flipped": flip_events}.get(spoilage)
        candidate = fit(random, endpoint, 4 * TRAINING if spoilage == "better" else TRAINING, spoil)
        x, outcome = draw(random, n, endpoint)
        centres = random.choice(CENTRES, n)
        score = x @ candidate
        if spoilage == "inverted":
            score = -score
        elif spoilage == "slope .5":
            score = 2 * score
        elif spoilage == "scores mixed":
            score = shuffle_scores(random, score, random.choice(n, n // 5, replace=False))
        elif spoilage == "shuffled":
            score = random.permutation(score)
        elif spoilage == "centre inverted":
            score = np.where(centres == "b", -score, score)
        elif spoilage == "centre shuffled":
            score = shuffle_scores(random, score, np.flatnonzero(centres == "b"))
        found[endpoint] = LockedRows(
            outcome=outcome, candidate=score, running=x @ running, centres=list(centres)
        )
    return found


SPOILED = (
    "labels swapped",
    "inverted",
    "slope .5",
    "scores mixed",
    "shuffled",
    "centre inverted",
    "centre shuffled",
)

HARMLESS = "events flipped"
"""A fifth of the events turned round at random leaves ranking and slope nearly as they were: a gate sees little of it."""
