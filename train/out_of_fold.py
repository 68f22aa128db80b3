"""Out-of-fold scores: each patient is scored by networks and a forest that have never seen the patient."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.endpoint import Endpoint
from engines.ensemble import Ensemble
from engines.errors import InvalidInput
from engines.survival.outcome import Outcome
from train.errors import CohortRefused
from train.fusion import PAPER_FOREST, ForestSettings, fit_forest

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

Predict = Callable[[IntArray], Mapping[Endpoint, FloatArray]]
"""Raw log-risks (rows, networks) by endpoint of any rows of the cohort, from networks that are already fitted."""

FitNetworks = Callable[[IntArray], Predict]
"""Fits all networks, with the choice of their checkpoints, on the given rows alone."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cohort:
    """What out-of-fold scoring needs to know of a cohort, one row a patient.

    Attributes:
        networks: names of the columns of log-risks.
        patient_keys: n pseudonyms; all rows of a patient fall into one fold.
        outcomes: by endpoint, of the same n rows, every one known.
    """

    networks: tuple[str, ...]
    patient_keys: Sequence[str]
    outcomes: Mapping[Endpoint, Outcome]

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.patient_keys)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutOfFold:
    """Scores of every row by what was fitted without it.

    Attributes:
        fold: (n,), the fold that held each row out.
        standardised: by endpoint (n, networks), log-risks z-scored on the training rows of the row's fold.
        scores: by endpoint (n,), log(mortality / event times) of the fold's Ensemble-DL.
        ensembles: of each fold, by endpoint.
    """

    fold: IntArray
    standardised: Mapping[Endpoint, FloatArray]
    scores: Mapping[Endpoint, FloatArray]
    ensembles: tuple[Mapping[Endpoint, Ensemble], ...]


def draw_folds(cohort: Cohort, folds: int, seed: int) -> IntArray:
    """Returns the fold of each row, (n,), balanced in who died and in who progressed; patients stay together.

    Args:
        cohort: the rows.
        folds: number of folds, >= 2.
        seed: of the shuffle.

    Raises:
        CohortRefused: fewer patients than folds, or a fold or the rest of one without an event.
    """
    keys, first = np.unique(np.asarray(cohort.patient_keys, dtype=np.str_), return_index=True)
    if not 2 <= folds <= len(keys):
        raise CohortRefused(f"{len(keys)} patients cannot make {folds} folds")
    stratum = sum(
        (2**place) * outcome.event[first].astype(np.int64)
        for place, outcome in enumerate(cohort.outcomes.values())
    )
    of_key = deal_folds(np.asarray(stratum), folds, seed)
    fold = of_key[np.searchsorted(keys, np.asarray(cohort.patient_keys, dtype=np.str_))]
    for endpoint, outcome in cohort.outcomes.items():
        for number in range(folds):
            if not outcome.event[fold == number].any() or not outcome.event[fold != number].any():
                raise CohortRefused(f"fold {number} has no {endpoint} event; use fewer than {folds} folds")
    return fold


def deal_folds(stratum: IntArray, folds: int, seed: int) -> IntArray:
    """Returns a fold for each row, (n,), at random within each stratum, sizes equal up to one.

    Args:
        stratum: (n,), e.g. 0 censored, 1 event.
        folds: number of folds.
        seed: of the shuffle.
    """
    order = np.lexsort((np.random.default_rng(seed).permutation(len(stratum)), stratum))
    fold = np.empty(len(stratum), dtype=np.int64)
    fold[order] = np.arange(len(stratum)) % folds
    return fold


def score_out_of_fold(
    cohort: Cohort,
    fit_networks: FitNetworks,
    fold: IntArray,
    settings: ForestSettings = PAPER_FOREST,
) -> OutOfFold:
    """Returns the scores of every row by networks, standardisation and forest fitted without the row's fold.

    Args:
        cohort: the rows.
        fit_networks: called once a fold with the rows it may see; an inner validation split is its own affair.
        fold: (n,), as ``draw_folds`` gives it.
        settings: of the forests.

    Source: method, section 5: out-of-bag of the forest alone is not out-of-fold.
    """
    standardised = {
        endpoint: np.full((cohort.n, len(cohort.networks)), np.nan) for endpoint in cohort.outcomes
    }
    scores = {endpoint: np.full(cohort.n, np.nan) for endpoint in cohort.outcomes}
    ensembles: list[Mapping[Endpoint, Ensemble]] = []
    for number in range(int(fold.max()) + 1):
        training, held_out = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        predict = fit_networks(training)
        fitted = fit_ensembles(cohort, predict(training), training, settings)
        for endpoint, log_risks in predict(held_out).items():
            standardised[endpoint][held_out] = fitted[endpoint].standardise(log_risks)
            scores[endpoint][held_out] = fitted[endpoint].scores(log_risks)
        ensembles.append(fitted)
    return OutOfFold(fold=fold, standardised=standardised, scores=scores, ensembles=tuple(ensembles))


def fit_ensembles(
    cohort: Cohort,
    log_risks: Mapping[Endpoint, FloatArray],
    rows: IntArray,
    settings: ForestSettings = PAPER_FOREST,
) -> dict[Endpoint, Ensemble]:
    """Returns Ensemble-DL of each endpoint, fitted on some rows of the cohort.

    Args:
        cohort: the rows.
        log_risks: by endpoint (rows, networks), raw, of exactly ``rows``.
        rows: indices of the training rows.
        settings: of the forests.

    Raises:
        InvalidInput: log-risks of other rows, or a network that says the same of everyone.
    """
    fitted: dict[Endpoint, Ensemble] = {}
    for endpoint, outcome in cohort.outcomes.items():
        raw = np.asarray(log_risks[endpoint], dtype=np.float64)
        if raw.shape != (len(rows), len(cohort.networks)):
            raise InvalidInput(f"{endpoint} log-risks of shape {raw.shape} for {len(rows)} rows")
        mean, sd = raw.mean(axis=0), raw.std(axis=0, ddof=1)
        flat = [name for name, spread in zip(cohort.networks, sd, strict=True) if not spread > 0]
        if flat:
            raise InvalidInput(
                f"{', '.join(flat)}: the same {endpoint} log-risk for all {len(rows)} training rows"
            )
        training = outcome.take(rows)
        forest = fit_forest((raw - mean) / sd, training.time, training.event, settings)
        fitted[endpoint] = Ensemble(
            endpoint=endpoint, networks=cohort.networks, mean=mean, sd=sd, forest=forest
        )
    return fitted
