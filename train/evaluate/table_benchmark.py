"""A Benchmark for a table that has none: a ridge Cox model of its clinical variables, out-of-fold where it was fitted."""

from dataclasses import replace

import numpy as np

from engines.errors import InvalidInput, SurvivalRefused
from engines.survival.cox import fit_cox, log_hazard
from engines.survival.outcome import BoolArray, FloatArray
from train.clinical_model import LIGHT_RIDGE
from train.evaluate.hazards import list_covariates
from train.evaluate.published import BENCHMARK_MODEL, canonical_model
from train.evaluate.score_table import EndpointColumns, ScoreTable

FOLDS = 5


def add_benchmark(table: ScoreTable, seed: int) -> ScoreTable:
    """Returns the table with a Benchmark score for every endpoint, fitted on the cohort that cut-offs come from.

    Every clinical variable of the table takes part, categories outside the population with columns of their own; a patient
    who lacks one gets no score (complete case). In the fitting cohort the score is out-of-fold, elsewhere it is that of the
    model of the whole fitting cohort.

    Args:
        table: checked, with clinical variables and without a Benchmark score.
        seed: of the folds.

    Raises:
        InvalidInput: the table has a Benchmark score, no clinical variable, or too few complete cases or events.
    """
    if any(canonical_model(model) == BENCHMARK_MODEL for model in table.scores):
        raise InvalidInput(f"{table.name} holds a Benchmark score already")
    if not table.clinical:
        raise InvalidInput(f"{table.name} holds no clinical variable to fit a Benchmark on")
    scores = {endpoint.name: _score(table, endpoint, seed) for endpoint in table.endpoints}
    fitted = int((~np.isnan(scores[table.endpoints[0].name]) & table.rows(table.cutoff_cohort)).sum())
    note = (
        f"The Benchmark score was made here: Cox models with a light ridge on {len(table.clinical)} clinical variables,"
        f" {fitted} complete cases of {table.cutoff_cohort}, out-of-fold there ({FOLDS} folds)."
    )
    models = {
        BENCHMARK_MODEL: scores,
        **table.scores,
    }  # before the table's own, the last of which others are compared with
    return replace(table, scores=models, notes=(*table.notes, note))


def _score(table: ScoreTable, endpoint: EndpointColumns, seed: int) -> FloatArray:
    columns = np.column_stack([c.joint for c in list_covariates(table, None, endpoint.name)])
    complete: BoolArray = np.asarray(np.isfinite(columns).all(axis=1), dtype=np.bool_)
    fitting = table.rows(table.cutoff_cohort) & endpoint.known & complete
    if fitting.sum() < 2 * FOLDS:
        raise InvalidInput(
            f"Benchmark for {endpoint.name}: {int(fitting.sum())} complete cases in {table.cutoff_cohort}, expected at"
            f" least {2 * FOLDS}"
        )
    score = np.full(len(table.patient_ids), np.nan)
    rows = np.flatnonzero(fitting)
    part = np.random.default_rng(seed).permutation(rows.size) % FOLDS
    try:
        score[complete] = _apply(columns, endpoint, fitting, complete)
        for number in range(FOLDS):
            held, learned = np.zeros_like(fitting), np.zeros_like(fitting)
            held[rows[part == number]], learned[rows[part != number]] = True, True
            score[held] = _apply(columns, endpoint, learned, held)
    except SurvivalRefused as error:
        raise InvalidInput(f"Benchmark for {endpoint.name}: {error}") from error
    return score


def _apply(
    columns: FloatArray, endpoint: EndpointColumns, learned: BoolArray, wanted: BoolArray
) -> FloatArray:
    kept = np.ptp(columns[learned], axis=0) > 0
    if not kept.any():
        raise InvalidInput(
            f"Benchmark for {endpoint.name}: every clinical variable is the same in all patients"
        )
    fit = fit_cox(columns[learned][:, kept], endpoint.outcome(learned), ridge=LIGHT_RIDGE)
    return log_hazard(fit, columns[wanted][:, kept])
