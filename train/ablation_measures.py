"""What the runs of an ablation are worth: C of each architecture, set of phases and ensemble, in each part of the cohort."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import numpy as np
import structlog

from engines.endpoint import Endpoint
from engines.errors import InvalidInput, SurvivalRefused
from engines.networks.settings import ENSEMBLE, NetworkName
from engines.survival.bootstrap import bootstrap_concordance, draw_resamples, percentile_interval
from engines.survival.concordance import harrell_c
from engines.survival.outcome import BoolArray, FloatArray, Outcome
from train.ablation import Grid, Unit
from train.data import Split, TrainingData
from train.errors import AblationRefused
from train.evaluate.ablation_cells import (
    ALL_PHASES,
    AblationCell,
    AblationRecord,
    EnsembleCell,
    Measure,
    write_ablation,
)
from train.evaluate.fit_scores import read_ensemble_scores
from train.evaluate.network_runs import read_score_file
from train.evaluate.score_file import read_score_table
from train.evaluate.score_table import COPIES, DISCOVERY, FIT_COPIES, ScoreTable
from train.fit_folder import NETWORK_TITLES, Fit
from train.fit_models import name_combination
from train.out_of_fold import Cohort, fit_ensembles

LOG = structlog.get_logger(__name__)

REPEATS = 1000
BOOTSTRAP_SEED = 20250185


def write_grid(grid: Grid, data: TrainingData, device: str, failed: Sequence[str], synthetic: bool) -> Path:
    """Measures the finished runs, writes ablation.csv, ensembles.csv and ablation.json, and returns the folder.

    Args:
        grid: the plan, some of its runs perhaps unfinished.
        data: the cohort, for outcomes and splits; its inputs are not read.
        device: where the runs were made.
        failed: runs that failed, in words.
        synthetic: every case is made of phantoms.

    Raises:
        AblationRefused: a run does not score every case.
    """
    ensembles, unfitted = measure_ensembles(grid, data)
    for words in unfitted:
        LOG.warning("an ensemble is left out", reason=words)
    missing = (*(unit.words for unit in grid.units if not unit.finished), *unfitted)
    record = AblationRecord(
        cohort=grid.cohort.folder.resolve().name,
        cases=data.n,
        synthetic=synthetic,
        recipe=grid.recipe.name,
        seeds=grid.seeds,
        device=device,
        fit="" if grid.fit is None else grid.fit.paths.root.resolve().name,
        complete=not missing,
        missing=tuple(dict.fromkeys((*missing, *failed))),
        digest=grid.cohort.digest,
    )
    write_ablation(grid.out, record, measure_grid(grid, data), ensembles)
    return grid.out


def measure_grid(grid: Grid, data: TrainingData) -> tuple[AblationCell, ...]:
    """Returns C with its interval of every finished run in each part of the cohort, and out-of-fold where the fit has it.

    Args:
        grid: the plan, some of its runs perhaps unfinished.
        data: the cohort, for outcomes and splits; its inputs are not read.
    """
    follow = {
        word.upper(): {
            case_id: (float(months), bool(event))
            for case_id, months, event in zip(data.case_ids, source.months, source.event, strict=True)
            if np.isfinite(months)
        }
        for word, source in (("os", data.os), ("pfs", data.pfs))
    }
    cells: list[AblationCell] = []
    for unit in grid.units:
        if not unit.finished:
            continue
        rows = read_score_file(unit.folder / "scores.csv")
        for split in (Split.TRAINING, Split.VALIDATION, Split.TESTING):
            members = [row for row in rows if row["split"] == split.value]
            for endpoint, outcomes in follow.items():
                known = [row for row in members if row["case_id"] in outcomes]
                measure = _measure(
                    [float(row[endpoint.lower()]) for row in known],
                    [outcomes[row["case_id"]] for row in known],
                )
                if measure is not None:
                    cells.append(_cell(unit, endpoint, COPIES.get(split.value, split.value), measure))
    return (*cells, *_out_of_fold(grid))


def measure_ensembles(grid: Grid, data: TrainingData) -> tuple[tuple[EnsembleCell, ...], tuple[str, ...]]:
    """Returns C of every network, every pair and all three on A+V+D, where Table 4 is asked for, and what has none.

    Those of the fit, out-of-fold too, where its runs are taken over; else of forests fitted on the discovery cases'
    log-risks, as the released ones of a fit are. A combination of which a run is not finished is left out; one of which
    no forest can be fitted is named in words: no event, or a network that says the same of everyone.

    Args:
        grid: the plan, some of its runs perhaps unfinished.
        data: the cohort, for outcomes and splits; its inputs are not read.

    Raises:
        AblationRefused: a run does not score every case.
    """
    if 4 not in grid.tables:
        return (), ()
    cells: list[EnsembleCell] = []
    unfitted: list[str] = []
    for seed in grid.seeds:
        table = _ensembles_of(grid.fit, seed)
        cells += (
            _fit_combinations(grid, data, seed, unfitted)
            if table is None
            else _read_combinations(table, seed)
        )
    return tuple(cells), tuple(unfitted)


def _measure(scores: Sequence[float], follow: Sequence[tuple[float, bool]]) -> Measure | None:
    if not scores:
        return None
    outcome = Outcome(np.array([months for months, _ in follow]), np.array([event for _, event in follow]))
    value = low = high = None
    try:
        value = harrell_c(scores, outcome)
        resamples = draw_resamples(outcome.n, REPEATS, BOOTSTRAP_SEED)
        interval = percentile_interval(
            bootstrap_concordance(np.array([scores], dtype=np.float64), outcome, resamples)[:, 0]
        )
        if interval is not None:
            low, high = interval.low, interval.high
    except SurvivalRefused:
        value = None
    return Measure(n=outcome.n, events=outcome.events, c_index=value, low=low, high=high)


def _cell(unit: Unit, endpoint: str, cohort: str, measure: Measure) -> AblationCell:
    return AblationCell(
        network=unit.network,
        phases=unit.phases,
        seed=unit.seed,
        endpoint=endpoint,
        cohort=cohort,
        **asdict(measure),
    )


def _out_of_fold(grid: Grid) -> list[AblationCell]:
    """Cells of the out-of-fold scores of the three networks, which the fit has for its first seed."""
    if grid.fit is None or grid.fit.record.seeds[0] not in grid.seeds:
        return []
    table = read_score_table(grid.fit.paths.out_of_fold)
    cells: list[AblationCell] = []
    for unit in grid.units:
        title = NETWORK_TITLES.get(unit.network, "")
        if not unit.fitted or unit.seed != grid.fit.record.seeds[0] or title not in table.scores:
            continue
        for cohort in COPIES:
            for endpoint in table.endpoints:
                measure = _measure_column(table, title, endpoint.name, table.cohort == cohort)
                if measure is not None:
                    cells.append(_cell(unit, endpoint.name, cohort, measure))
    return cells


def _measure_column(table: ScoreTable, title: str, endpoint: str, rows: BoolArray) -> Measure | None:
    columns = next(one for one in table.endpoints if one.name == endpoint)
    score = table.scores[title][endpoint]
    used = rows & columns.known & ~np.isnan(score)
    follow = zip(columns.time[used].tolist(), columns.event[used].tolist(), strict=True)
    return _measure(score[used].tolist(), list(follow))


def _ensembles_of(fit: Fit | None, seed: int) -> ScoreTable | None:
    """The fit's scores of every combination, which it has for its first seed."""
    return None if fit is None or seed != fit.record.seeds[0] else read_ensemble_scores(fit)


def _read_combinations(table: ScoreTable, seed: int) -> list[EnsembleCell]:
    cells = []
    for title in table.scores:
        for endpoint in table.endpoints:
            for cohort in (name for name in table.cohorts if name != DISCOVERY):
                measure = _measure_column(table, title, endpoint.name, table.rows(cohort))
                if measure is not None:
                    cells.append(
                        EnsembleCell(
                            ensemble=title,
                            seed=seed,
                            endpoint=endpoint.name,
                            cohort=cohort,
                            **asdict(measure),
                        )
                    )
    return cells


def _fit_combinations(grid: Grid, data: TrainingData, seed: int, unfitted: list[str]) -> list[EnsembleCell]:
    """Cells of one seed from forests fitted here; apparent in training and validation alike; adds what has no forest."""
    ready = {
        unit.network: unit
        for unit in grid.units
        if (unit.phases, unit.seed) == (ALL_PHASES, seed) and unit.network in ENSEMBLE and unit.finished
    }
    said = {name: _read_log_risks(unit, data) for name, unit in ready.items()}
    splits = np.array([split.value for split in data.splits])
    known = np.isfinite(data.os.months) & np.isfinite(data.pfs.months)
    discovery = np.flatnonzero(known & np.isin(splits, tuple(FIT_COPIES)))
    cells = []
    for size in range(1, len(said) + 1):
        for networks in combinations([name for name in ENSEMBLE if name in said], size):
            try:
                scores = _score_combination(networks, said, data, discovery)
            except (InvalidInput, SurvivalRefused) as error:
                unfitted.append(f"{name_combination(networks)}, seed {seed} ({error})")
                continue
            for endpoint, column in scores.items():
                source = data.os if endpoint is Endpoint.OS else data.pfs
                for split in (*FIT_COPIES, Split.TESTING.value):
                    rows = (splits == split) & np.isfinite(source.months)
                    follow = zip(source.months[rows].tolist(), (source.event[rows] > 0).tolist(), strict=True)
                    measure = _measure(column[rows].tolist(), list(follow))
                    if measure is not None:
                        cells.append(
                            EnsembleCell(
                                ensemble=name_combination(networks),
                                seed=seed,
                                endpoint=endpoint.value,
                                cohort=FIT_COPIES.get(split, split),
                                **asdict(measure),
                            )
                        )
    return cells


def _read_log_risks(unit: Unit, data: TrainingData) -> Mapping[Endpoint, FloatArray]:
    rows = {row["case_id"]: row for row in read_score_file(unit.folder / "scores.csv")}
    absent = [case_id for case_id in data.case_ids if case_id not in rows]
    if absent:
        raise AblationRefused(f"{unit.folder} does not score {absent[0]}: it is a run of other cases")
    return {
        endpoint: np.array([float(rows[case_id][endpoint.value.lower()]) for case_id in data.case_ids])
        for endpoint in Endpoint
    }


def _score_combination(
    networks: Sequence[NetworkName],
    said: Mapping[NetworkName, Mapping[Endpoint, FloatArray]],
    data: TrainingData,
    discovery: np.typing.NDArray[np.int64],
) -> dict[Endpoint, FloatArray]:
    """(n,) scores of all cases by endpoint: the raw network, or the forest of several (method, section 5)."""
    raw = {end: np.column_stack([said[name][end] for name in networks]) for end in Endpoint}
    if len(networks) == 1:
        return {end: values[:, 0] for end, values in raw.items()}
    cohort = Cohort(
        networks=tuple(name.value for name in networks),
        patient_keys=[data.patient_keys[row] for row in discovery],
        outcomes={
            end: Outcome(source.months[discovery], source.event[discovery] > 0)
            for end, source in ((Endpoint.OS, data.os), (Endpoint.PFS, data.pfs))
        },
    )
    fitted = fit_ensembles(
        cohort, {end: values[discovery] for end, values in raw.items()}, np.arange(discovery.size)
    )
    return {end: fitted[end].scores(values) for end, values in raw.items()}
