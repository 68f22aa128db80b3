"""Trains the demonstration models: miniatures of Networks 1-3 on phantoms, out-of-fold fusion, a released model folder."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from importlib.metadata import version as installed_version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import structlog
import torch

from engines.endpoint import Endpoint
from engines.ensemble import score_of_mortality
from engines.mmf import ModelName
from engines.models.card import ConcordanceCard, TrainingCard
from engines.models.model import Model
from engines.models.reference import (
    Reference,
    describe_clinical,
    describe_inputs,
    describe_log_risks,
)
from engines.network_input import Preprocessing
from engines.networks.heads import RiskNetwork
from engines.networks.settings import ENSEMBLE, NetworkName
from engines.networks.weights import round_weights
from engines.phantom.cohort import SyntheticPatient, draw_cohort
from engines.survival.bootstrap import bootstrap_concordance, draw_resamples, percentile_interval
from engines.survival.concordance import harrell_c
from engines.survival.outcome import Outcome
from train.clinical_model import RiskFit, TrainingRows, fit_risk_model
from train.data import Split
from train.fusion import PAPER_FOREST, ForestSettings
from train.loop import train_network
from train.out_of_fold import Cohort, OutOfFold, draw_folds, fit_ensembles, score_out_of_fold
from train.progress import Selection
from train.recipes import Recipe, read_recipe
from train.release import FittedParts, Statement, write_release
from train.scoring import score_cases
from train.synthetic import gather_outcome, make_training_data, render_inputs

LOG = structlog.get_logger(__name__)

INNER_FOLDS = 5
"""One of these parts of the rows a network may see chooses its checkpoints (OURS)."""

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Networks = Mapping[tuple[NetworkName, Endpoint], RiskNetwork]

_SELECTIONS = {Endpoint.OS: Selection.OS, Endpoint.PFS: Selection.PFS}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPlan:
    """How large a demonstration is.

    Attributes:
        patients: synthetic training patients.
        testing: other synthetic patients on whom the released model is measured.
        folds: of the out-of-fold scores.
        seed: of the cohort, the folds and the networks; testing patients have the next one.
        recipe: name in conf/recipes.
        epochs: instead of the recipe's, None keeps them.
        forest: settings of the survival forests.
    """

    patients: int = 320
    testing: int = 200
    folds: int = 3
    seed: int = 2026
    recipe: str = "demo"
    epochs: int | None = None
    forest: ForestSettings = PAPER_FOREST


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SyntheticCohort:
    """Synthetic patients with their rendered inputs, float16 (n, phases, side, side, side)."""

    patients: tuple[SyntheticPatient, ...]
    inputs: npt.NDArray[np.float16]

    def rows(self) -> Cohort:
        """Returns the cohort as out-of-fold scoring takes it."""
        return Cohort(
            networks=tuple(name.value for name in ENSEMBLE),
            patient_keys=[f"phantom-{patient.traits.seed}" for patient in self.patients],
            outcomes={endpoint: self.outcome(endpoint) for endpoint in Endpoint},
        )

    def outcome(self, endpoint: Endpoint) -> Outcome:
        """Returns the follow-up of one endpoint."""
        return gather_outcome(self.patients, endpoint)

    def take(self, rows: IntArray) -> "SyntheticCohort":
        """Returns some rows; nothing of the others is in it."""
        return SyntheticCohort(patients=tuple(self.patients[row] for row in rows), inputs=self.inputs[rows])


def render_cohort(size: int, seed: int, preprocessing: Preprocessing) -> SyntheticCohort:
    """Returns a synthetic cohort with its network inputs; about half a second a patient."""
    patients = draw_cohort(size, seed)
    return SyntheticCohort(patients=patients, inputs=render_inputs(patients, preprocessing))


def train_demo_model(
    folder: Path,
    plan: DemoPlan,
    training: SyntheticCohort,
    testing: SyntheticCohort,
    *,
    version: str,
    created: datetime,
    executor: Executor | None = None,
) -> Model:
    """Trains, releases and measures a demonstration model, and returns it.

    Args:
        folder: of the release; must be empty or absent.
        plan: how large.
        training: synthetic training cohort.
        testing: synthetic cohort that nothing is fitted on.
        version: of the release.
        created: aware time for the card.
        executor: of processes that train the folds and the released networks side by side; None trains them in turn.
    """
    recipe = read_recipe(plan.recipe)
    if plan.epochs is not None:
        schedules = {name: replace(recipe.schedules[name], epochs=plan.epochs) for name in ENSEMBLE}
        recipe = replace(recipe, schedules=schedules)
    preprocessing = Preprocessing(side=training.inputs.shape[-1])
    cohort = training.rows()
    everyone = np.arange(cohort.n)
    fold = draw_folds(cohort, plan.folds, plan.seed)
    seen = [everyone, *(np.flatnonzero(fold != number) for number in range(plan.folds))]
    fitted = _fit_each(training, recipe, plan.seed, seen, executor)
    out_of_fold = score_out_of_fold(
        cohort,
        lambda rows: partial(predict_log_risks, fitted[rows.tobytes()], training.inputs),
        fold,
        plan.forest,
    )
    networks = fitted[everyone.tobytes()]
    ensembles = fit_ensembles(
        cohort, predict_log_risks(networks, training.inputs, everyone), everyone, plan.forest
    )
    description = f"out-of-fold, {plan.folds} folds, {cohort.n} training phantoms"
    fits = tuple(
        fit_risk_model(name, _training_rows(training, out_of_fold, endpoint, description))
        for endpoint in Endpoint
        for name in ModelName
    )
    parts = FittedParts(
        preprocessing=preprocessing,
        networks=networks,
        half=True,
        ensembles=ensembles,
        risk_fits=fits,
        reference=_describe(training, out_of_fold, fits, preprocessing),
    )
    measured = (
        *_measure_out_of_fold(training, out_of_fold, description),
        *_measure_testing(testing, parts),
    )
    for entry in measured:
        LOG.info(
            "concordance measured",
            endpoint=entry.endpoint.value,
            model=entry.model,
            c=entry.value,
            rows=entry.rows,
        )
    statement = _state(plan, recipe, training, version=version, created=created, concordance=measured)
    return write_release(folder, statement, parts, training.inputs[0])


def fit_networks(cohort: SyntheticCohort, recipe: Recipe, seed: int) -> Networks:
    """Returns the three networks with the checkpoint of each endpoint, trained on this cohort alone.

    A part of the cohort, balanced in events, chooses the checkpoints. Kernels are rounded to float16, as released.

    Args:
        cohort: every patient may be used.
        recipe: sizes and schedules.
        seed: of the networks and of the inner split.
    """
    torch.set_num_threads(1)  # the same weights on every machine with this processor and library
    inner = draw_folds(cohort.rows(), INNER_FOLDS, seed)
    splits = [Split.VALIDATION if fold == 0 else Split.TRAINING for fold in inner]
    data = make_training_data(cohort.patients, cohort.inputs, splits)
    networks: dict[tuple[NetworkName, Endpoint], RiskNetwork] = {}
    for name in ENSEMBLE:
        trained = train_network(name, recipe.settings[name], data, recipe.schedules[name], seed=seed)
        by_epoch: dict[int, RiskNetwork] = {}
        for endpoint, selection in _SELECTIONS.items():
            epoch = trained.chosen_epoch[selection]
            if epoch not in by_epoch:
                by_epoch[epoch] = trained.network(selection)
                round_weights(by_epoch[epoch])
            networks[name, endpoint] = by_epoch[epoch]
        LOG.info(
            "network trained",
            network=name.value,
            patients=len(cohort.patients),
            chosen={selection.value: epoch for selection, epoch in trained.chosen_epoch.items()},
        )
    return networks


def predict_log_risks(
    networks: Networks, inputs: npt.NDArray[np.float16], rows: IntArray
) -> dict[Endpoint, FloatArray]:
    """Returns raw log-risks (rows, networks) by endpoint, in the order of ``ENSEMBLE``.

    Args:
        networks: checkpoint of each network for each endpoint.
        inputs: (n, phases, side, side, side).
        rows: which of them.
    """
    return {
        endpoint: np.column_stack(
            [
                score_cases(networks[name, endpoint], inputs, rows).endpoint(_SELECTIONS[endpoint])
                for name in ENSEMBLE
            ]
        )
        for endpoint in Endpoint
    }


def _fit_each(
    training: SyntheticCohort,
    recipe: Recipe,
    seed: int,
    seen: Sequence[IntArray],
    executor: Executor | None,
) -> dict[bytes, Networks]:
    """Returns the networks fitted on each set of rows alone, by the bytes of the rows."""
    cohorts = [training.take(rows) for rows in seen]
    fit = partial(fit_networks, recipe=recipe, seed=seed)
    fitted = map(fit, cohorts) if executor is None else executor.map(fit, cohorts)
    return {rows.tobytes(): networks for rows, networks in zip(seen, fitted, strict=True)}


def _training_rows(
    training: SyntheticCohort, out_of_fold: OutOfFold, endpoint: Endpoint, description: str
) -> TrainingRows:
    return TrainingRows(
        endpoint=endpoint,
        ensemble_scores=out_of_fold.scores[endpoint],
        patients=[patient.clinical for patient in training.patients],
        outcome=training.outcome(endpoint),
        description=description,
    )


def _describe(
    training: SyntheticCohort, out_of_fold: OutOfFold, fits: Sequence[RiskFit], preprocessing: Preprocessing
) -> Reference:
    voxels = training.inputs.reshape(*training.inputs.shape[:2], -1)
    means = np.array([case.astype(np.float64).mean(axis=1) for case in voxels])
    sds = np.array([case.astype(np.float64).std(axis=1) for case in voxels])
    return Reference(
        models=tuple(fit.reference for fit in fits),
        network_input=describe_inputs(means, sds, preprocessing.phases),
        log_risks=tuple(
            describe_log_risks(
                endpoint, [name.value for name in ENSEMBLE], out_of_fold.standardised[endpoint]
            )
            for endpoint in Endpoint
        ),
        clinical=describe_clinical([patient.clinical for patient in training.patients]),
    )


def _measure_out_of_fold(
    training: SyntheticCohort, out_of_fold: OutOfFold, description: str
) -> list[ConcordanceCard]:
    cards: list[ConcordanceCard] = []
    for endpoint in Endpoint:
        columns = out_of_fold.standardised[endpoint]
        named = {name.value: columns[:, place] for place, name in enumerate(ENSEMBLE)}
        named[ModelName.ENSEMBLE_DL.value] = out_of_fold.scores[endpoint]
        cards += _concordances(named, training.outcome(endpoint), endpoint, description)
    return cards


def _measure_testing(testing: SyntheticCohort, parts: FittedParts) -> list[ConcordanceCard]:
    """Returns the C-indices of the very parts that are released on phantoms that nothing was fitted on."""
    rows = np.arange(len(testing.patients))
    log_risks = predict_log_risks(parts.networks, testing.inputs, rows)
    cards: list[ConcordanceCard] = []
    for endpoint, ensemble in parts.ensembles.items():
        scores = score_of_mortality(ensemble.mortalities(log_risks[endpoint]), ensemble.forest.event_times)
        named = {name.value: log_risks[endpoint][:, place] for place, name in enumerate(ENSEMBLE)}
        for fit in parts.risk_fits:
            if fit.model.endpoint == endpoint:
                risks = [
                    fit.model.assess(float(score), patient.clinical)
                    for score, patient in zip(scores, testing.patients, strict=True)
                ]
                named[fit.model.name.value] = np.array([risk.log_hazard for risk in risks])
        named["truth"] = np.array([patient.log_hazard[endpoint] for patient in testing.patients])
        cards += _concordances(named, testing.outcome(endpoint), endpoint, f"{len(rows)} other phantoms")
    return cards


def _concordances(
    named: Mapping[str, FloatArray], outcome: Outcome, endpoint: Endpoint, rows: str
) -> list[ConcordanceCard]:
    draws = bootstrap_concordance(np.stack(list(named.values())), outcome, draw_resamples(outcome.n))
    cards: list[ConcordanceCard] = []
    for place, (model, score) in enumerate(named.items()):
        interval = percentile_interval(draws[:, place])
        cards.append(
            ConcordanceCard(
                endpoint=endpoint,
                model=model,
                rows=rows,
                value=harrell_c(score, outcome),
                low=None if interval is None else interval.low,
                high=None if interval is None else interval.high,
            )
        )
    return cards


def _state(
    plan: DemoPlan,
    recipe: Recipe,
    training: SyntheticCohort,
    *,
    version: str,
    created: datetime,
    concordance: tuple[ConcordanceCard, ...],
) -> Statement:
    epochs = ", ".join(f"{name.value} {recipe.schedules[name].epochs}" for name in ENSEMBLE)
    return Statement(
        name="mmf-demonstration",
        version=version,
        created=created,
        demonstration=True,
        intended_use="Demonstration and tests of this software on phantoms. It must not be used for any patient.",
        limits=(
            "Trained on phantoms: its numbers have no clinical meaning at all.",
            "Miniature networks at side 32; the paper's are trained at 128.",
            "The hazards of the phantoms are made up; the C-index of the truth says how well any model could do.",
        ),
        training=TrainingCard(
            trained_on=f"{len(training.patients)} phantoms (no patients) with made-up hazards",
            patients=len(training.patients),
            events_os=training.outcome(Endpoint.OS).events,
            events_pfs=training.outcome(Endpoint.PFS).events,
            description=(
                f"recipe {recipe.name}, epochs {epochs}, seed {plan.seed}; {plan.folds} folds for the out-of-fold scores;"
                " one fifth of the rows a network may see chooses its checkpoints; CPU"
            ),
            software_version=installed_version("mmf-node"),
        ),
        concordance=concordance,
    )
