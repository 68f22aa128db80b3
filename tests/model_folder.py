"""A small model folder for tests: true forests and Cox models fitted on simulated scores, untrained miniature networks."""

from datetime import UTC, datetime

import numpy as np

from engines.endpoint import Endpoint
from engines.ensemble import Ensemble
from engines.mmf import ModelName
from engines.models.card import ConcordanceCard, TrainingCard
from engines.models.reference import (
    Reference,
    describe_clinical,
    describe_inputs,
    describe_log_risks,
)
from engines.network_input import Preprocessing
from engines.networks.settings import ENSEMBLE, NetworkSettings
from engines.phantom.cohort import draw_cohort
from engines.survival.outcome import Outcome
from train.clinical_model import TrainingRows, fit_risk_model
from train.fusion import ForestSettings, fit_forest
from train.release import FittedParts, Statement, write_release

SIDE = 32
PATIENTS = 160


def write_small_model(folder, version="1", seed=3):
    """Writes a released model folder and returns the loaded model. The networks are untrained: their numbers mean nothing."""
    networks = _networks(seed)
    cohort = draw_cohort(PATIENTS, seed=seed, measured=False)
    random = np.random.default_rng(seed)
    clinical = [patient.clinical for patient in cohort]
    ensembles, fits, log_risk_references = {}, [], []
    for endpoint in Endpoint:
        outcome = outcome_of(cohort, endpoint)
        truth = np.array([patient.log_hazard[endpoint] for patient in cohort])
        standardised = (truth - truth.mean())[:, None] + random.normal(0, 1, (PATIENTS, 3))
        standardised /= standardised.std(axis=0)
        forest = fit_forest(standardised, outcome.time, outcome.event, ForestSettings(trees=10))
        ensembles[endpoint] = Ensemble(
            endpoint=endpoint,
            networks=tuple(name.value for name in ENSEMBLE),
            mean=np.zeros(3),
            sd=np.full(3, 0.1),
            forest=forest,
        )
        scores = ensembles[endpoint].scores(standardised * 0.1)
        rows = TrainingRows(
            endpoint=endpoint,
            ensemble_scores=scores,
            patients=clinical,
            outcome=outcome,
            description="simulated for tests",
        )
        fits += [fit_risk_model(name, rows) for name in ModelName]
        log_risk_references.append(
            describe_log_risks(endpoint, [name.value for name in ENSEMBLE], standardised)
        )
    preprocessing = Preprocessing(side=SIDE)
    statistics = random.normal(0.3, 0.02, (2, PATIENTS, 3))
    reference = Reference(
        models=tuple(fit.reference for fit in fits),
        network_input=describe_inputs(statistics[0], statistics[1], preprocessing.phases),
        log_risks=tuple(log_risk_references),
        clinical=describe_clinical(clinical),
    )
    return write_release(
        folder,
        statement(version),
        FittedParts(
            preprocessing=preprocessing,
            networks={
                (name, endpoint): network for name, network in networks.items() for endpoint in Endpoint
            },
            half=False,
            ensembles=ensembles,
            risk_fits=tuple(fits),
            reference=reference,
        ),
        network_input(),
    )


def statement(version, demonstration=True):
    """Words of a card of a model made for tests."""
    return Statement(
        name="test",
        version=version,
        created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        demonstration=demonstration,
        intended_use="Tests of this product.",
        limits=("The networks are untrained.",),
        training=TrainingCard(
            trained_on=f"{PATIENTS} simulated patients",
            patients=PATIENTS,
            events_os=100,
            events_pfs=140,
            description="made by tests/model_folder.py",
            software_version="0",
        ),
        concordance=(
            ConcordanceCard(
                endpoint=Endpoint.OS, model="MMF", rows="simulated", value=0.7, low=0.65, high=0.75
            ),
            ConcordanceCard(endpoint=Endpoint.OS, model="network1", rows="simulated", value=0.5),
        ),
    )


def network_input(seed=1):
    """A network input of noise."""
    return np.random.default_rng(seed).random((3, SIDE, SIDE, SIDE)).astype(np.float16)


def outcome_of(cohort, endpoint):
    """Follow-up of a synthetic cohort for one endpoint."""
    follow_up = [patient.follow_up[endpoint] for patient in cohort]
    return Outcome(
        np.array([entry.months for entry in follow_up]), np.array([entry.event for entry in follow_up])
    )


def _networks(seed):
    import torch

    from engines.networks.registry import build_network

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    settings = NetworkSettings(side=SIDE, width=0.125, depth=0.25)
    return {name: build_network(name, settings).eval() for name in ENSEMBLE}
