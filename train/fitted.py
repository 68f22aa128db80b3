"""Scores further cohorts with the released parts of a fit: external cases come in, columns of the fit's tables go out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engines.endpoint import Endpoint
from engines.models.comparator import ComparatorName
from engines.models.model import Model
from engines.models.store import load_model
from engines.networks.settings import NetworkName
from train.clinical_model import input_table, score_table
from train.errors import CohortRefused
from train.evaluate.evidence import check_cohort
from train.fit_cohort import FitCohort, read_fit_cohort
from train.fit_folder import ENSEMBLE_DL, MODELS, NETWORK_TITLES, RADIOMIC, Fit
from train.fit_models import Columns
from train.fit_tables import tabulate_scores
from train.fit_units import write_rows
from train.scoring import score_cases as score_inputs
from train.shared_scans import refuse_shared_scans

FloatArray = npt.NDArray[np.float64]


def read_learned(fit: Fit, folder: Path, cache: Path | None = None) -> FitCohort:
    """Returns the cohort of a fit, against which external cohorts are checked.

    Args:
        fit: a finished fit.
        folder: of its cohort.
        cache: where the inputs are kept; in the cohort when None.

    Raises:
        FitRefused: the fit is of another cohort.
        CohortRefused: a fault of the cohort.
        CaseRefused: a case folder is damaged.
    """
    check_cohort(fit, folder)
    model = load_model(fit.paths.model, allow_demonstration=True)
    return read_fit_cohort(folder, model.card.preprocessing, seed=fit.record.seeds[0], cache=cache)


def read_external(fit: Fit, folder: Path, cache: Path | None = None) -> FitCohort:
    """Returns an external cohort as the fit's model takes it.

    Args:
        fit: a finished fit.
        folder: of case folders.
        cache: where the inputs are kept; in the cohort when None.

    Raises:
        CohortRefused: it is the cohort of the fit, phantoms where the fit has patients or the other way round, features of
            other masks or settings, or a fault of the cohort.
        CaseRefused: a case folder is damaged.
    """
    model = load_model(fit.paths.model, allow_demonstration=True)
    cohort = read_fit_cohort(folder, model.card.preprocessing, seed=fit.record.seeds[0], cache=cache)
    own = fit.record.cohort
    if cohort.digest == own.digest:
        raise CohortRefused(f"{folder} is the cohort that was fitted; its scores are in {fit.paths.root}")
    if cohort.synthetic != own.synthetic:
        words = ("patients", "phantoms")
        raise CohortRefused(
            f"{folder} holds {words[cohort.synthetic]}, the fit stands on {words[own.synthetic]}"
        )
    origin = "" if cohort.feature_origin is None else cohort.feature_origin.text()
    if origin and fit.record.feature_origin not in ("", origin):
        raise CohortRefused(
            f"features of {folder} come from {origin}, those of the fit from {fit.record.feature_origin}:"
            " other masks are another measurement; extract them again"
        )
    return cohort


def score_cases(fit: Fit, cases: FitCohort) -> Columns:
    """Returns the score of every model of the fit for every case: model -> endpoint -> (n,), NaN where there is none.

    The columns are those of ``apparent.csv``, on the same scale, so that the fit's cut-offs apply.

    Args:
        fit: a finished fit.
        cases: as ``read_external`` gives them.

    Raises:
        ModelRefused: the model folder is damaged.
    """
    model = load_model(fit.paths.model, allow_demonstration=True)
    columns: Columns = {}
    for endpoint in Endpoint:
        log_risks = _log_risks(model, cases, endpoint)
        ensemble = model.ensembles[endpoint]
        standardised, scores = ensemble.standardise(log_risks), ensemble.scores(log_risks)
        for place, name in enumerate(map(NetworkName, ensemble.networks)):
            columns.setdefault(NETWORK_TITLES[name], {})[endpoint] = standardised[:, place]
        columns.setdefault(ENSEMBLE_DL, {})[endpoint] = scores
        for comparator, values in _comparators(model, cases, endpoint).items():
            columns.setdefault(comparator, {})[endpoint] = values
        radiomic = columns.get(RADIOMIC, {}).get(endpoint)
        for (of, title), risk_model in model.risk_models.items():
            if of is endpoint and title.value != ENSEMBLE_DL:
                table = input_table(risk_model.names, cases.clinical, scores, radiomic)
                columns.setdefault(title.value, {})[endpoint] = score_table(risk_model, table)
    return {title: columns[title] for title in MODELS if len(columns.get(title, {})) == len(Endpoint)}


def write_external_table(
    fit: Fit, folder: Path, path: Path, cache: Path | None = None, *, apart_from: Sequence[FitCohort] = ()
) -> FitCohort:
    """Writes the scores of an external cohort in the form of the fit's tables, and returns it.

    Its cohort in the table is the folder's name.

    Args:
        fit: a finished fit.
        folder: of the external cohort.
        path: of the table.
        cache: where the inputs are kept; in the cohort when None.
        apart_from: that of the fit and other external ones, with which it must share no patient and no scan.

    Raises:
        CohortRefused: see ``read_external`` and ``refuse_shared_scans``.
    """
    cases = read_external(fit, folder, cache)
    for other in apart_from:
        refuse_shared_scans(other, cases)
    write_rows(path, tabulate_scores(cases, cases.with_follow_up(), score_cases(fit, cases), cases.name))
    return cases


def _log_risks(model: Model, cases: FitCohort, endpoint: Endpoint) -> FloatArray:
    everyone = np.arange(cases.n)
    return np.column_stack(
        [
            score_inputs(model.network(NetworkName(name), endpoint), cases.data.inputs, everyone).endpoint(
                endpoint.value.lower()
            )
            for name in model.ensembles[endpoint].networks
        ]
    )


def _comparators(model: Model, cases: FitCohort, endpoint: Endpoint) -> dict[str, FloatArray]:
    found: dict[str, FloatArray] = {}
    free = cases.responses.free_of_progression(cases.data.pfs.months)
    for (of, name), comparator in model.comparators.items():
        if of is not endpoint:
            continue
        if name is ComparatorName.RADIOMIC:
            table = cases.features.columns(comparator.cox.names)
        else:
            table = cases.responses.non_responder[:, np.newaxis]
        values = [comparator.log_hazard(dict(zip(comparator.cox.names, row, strict=True))) for row in table]
        column = np.array([np.nan if value is None else value for value in values])
        if name is ComparatorName.MRECIST and endpoint is Endpoint.PFS:
            column = np.where(free, column, np.nan)
        found[name.value] = column
    return found
