"""The tables of a fit on disk: scores in the form that ``mmf-train evaluate --table`` reads, folds, features, responses."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engines.clinical.table import VARIABLE_COLUMNS
from engines.clinical.variables import Variable
from engines.endpoint import Endpoint
from engines.networks.settings import ENSEMBLE
from engines.survival.concordance import harrell_c
from train.data import Split
from train.fit_cohort import FitCohort
from train.fit_folder import WHOLE, FitFolder
from train.fit_models import Columns, FittedModels
from train.fit_plan import FitPlan
from train.fit_units import read_log_risks, write_rows

IntArray = npt.NDArray[np.int64]


def write_tables(cohort: FitCohort, models: FittedModels, paths: FitFolder) -> None:
    """Writes every table of the fit folder."""
    rows, everyone = cohort.discovery(), cohort.with_follow_up()
    tables = (
        (paths.out_of_fold, rows, models.out_of_fold),
        (paths.apparent, everyone, models.apparent),
        (paths.ensembles_out_of_fold, rows, models.ensembles_out_of_fold),
        (paths.ensembles_apparent, everyone, models.ensembles_apparent),
    )
    for path, wanted, columns in tables:
        write_rows(path, tabulate_scores(cohort, wanted, columns))
    ids = cohort.data.case_ids
    folds = [[ids[row], int(number)] for row, number in zip(rows, models.fold, strict=True)]
    write_rows(paths.folds, [["case_id", "fold"], *folds])
    _write_radiomic(models, paths)
    _write_responses(cohort, paths)


def tabulate_scores(
    cohort: FitCohort, rows: IntArray, columns: Columns, name: str | None = None
) -> list[list[object]]:
    """Returns header and lines of a table of scores, as ``train.evaluate.score_file`` reads it.

    Args:
        cohort: outcomes, clinical variables and groups.
        rows: cases of the table.
        columns: scores of all cases; a column that is empty in these rows is left out with its pair.
        name: of the cohort of every row; None takes each row's split.
    """
    shown = {
        title: pair
        for title, pair in columns.items()
        if all(np.isfinite(values[rows]).any() for values in pair.values())
    }
    variables = [
        variable
        for variable in Variable
        if any(cohort.clinical[row].get(variable) is not None for row in rows)
    ]
    head: list[object] = ["patient_id", "cohort", "os_months", "os_event", "pfs_months", "pfs_event"]
    head += [VARIABLE_COLUMNS[variable] for variable in variables]
    head += list(cohort.groups)
    head += [f"{title}_{endpoint.value.lower()}" for title, pair in shown.items() for endpoint in pair]
    lines: list[list[object]] = [head]
    for row in rows:
        clinical = cohort.clinical[row]
        line: list[object] = [cohort.data.patient_keys[row], name or cohort.data.splits[row].value]
        for endpoint in Endpoint:
            follow = cohort.follow(endpoint)
            known = math.isfinite(follow.months[row])
            line += [float(follow.months[row]), int(follow.event[row])] if known else ["", ""]
        for variable in variables:
            value = clinical.get(variable)
            line.append("" if value is None else value.category if value.number is None else value.number)
        line += [words[row] for words in cohort.groups.values()]
        line += [_cell(values[row]) for pair in shown.values() for values in pair.values()]
        lines.append(line)
    return lines


def write_seeds(cohort: FitCohort, plan: FitPlan, paths: FitFolder) -> None:
    """Writes seeds.csv: Harrell's C of every network and seed of ``whole``, on the validation and the testing cases."""
    lines: list[Sequence[object]] = [["network", "seed", "endpoint", "rows", "patients", "c"]]
    for seed in plan.seeds:
        log_risks = read_log_risks(paths, WHOLE, seed, cohort.data.case_ids)
        for endpoint in Endpoint:
            known = np.isfinite(cohort.follow(endpoint).months)
            for split in (Split.VALIDATION, Split.TESTING):
                rows = cohort.data.rows(split)
                rows = rows[known[rows]]
                if rows.size < 2 or not cohort.outcome(endpoint, rows).events:
                    continue
                outcome = cohort.outcome(endpoint, rows)
                for place, name in enumerate(ENSEMBLE):
                    c = harrell_c(log_risks[endpoint][rows, place], outcome)
                    lines.append([name.value, seed, endpoint.value, split.value, rows.size, c])
    write_rows(paths.seeds, lines)


def _cell(value: float) -> object:
    return float(value) if math.isfinite(value) else ""


def _write_radiomic(models: FittedModels, paths: FitFolder) -> None:
    if not models.radiomic:
        return
    lines: list[Sequence[object]] = [["unit", "endpoint", "feature", "coefficient"]]
    for (unit, endpoint), fit in models.radiomic.items():
        if fit.cox is not None:
            lines += [
                [unit, endpoint.value, feature, float(coefficient)]
                for feature, coefficient in zip(fit.features, fit.cox.coefficients, strict=True)
            ]
    write_rows(paths.radiomic, lines)


def _write_responses(cohort: FitCohort, paths: FitFolder) -> None:
    responses = cohort.responses
    known = np.flatnonzero(np.isfinite(responses.non_responder)).tolist()
    if not known:
        return
    told = responses.progressive
    lines: list[Sequence[object]] = [["case_id", "non_responder", "progressive", "months"]]
    lines += [
        [
            cohort.data.case_ids[row],
            int(responses.non_responder[row]),
            "" if told is None else int(told[row]),
            _cell(responses.months[row]),
        ]
        for row in known
    ]
    write_rows(paths.response, lines)
