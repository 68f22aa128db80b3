"""The trained networks of a fit: spread over seeds, auxiliary heads, time and hardware of each run."""

import csv
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from engines.errors import SurvivalRefused
from engines.survival.concordance import harrell_c
from engines.survival.outcome import Outcome
from train.errors import FitRefused
from train.evaluate.document import Row, Table
from train.evaluate.words import CHOSEN_EPOCHS, NOT_ESTIMABLE, epochs_text
from train.fit_folder import NETWORK_TITLES, WHOLE, FitFolder

FEWEST_SEEDS = 3
"""Below it the spread is not known. Source: validity, "What a reviewer will ask"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Auxiliary:
    """Performance of the auxiliary heads on the validation cases; None where one class alone is known."""

    age_error_years: float | None
    label_auc: dict[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What summary.json of a run says, as far as the report needs it.

    Attributes:
        chosen_epoch: by selection, from 0.
        data_wait: share of the seconds spent waiting for data.
    """

    network: str
    seed: int
    parameters: int
    epochs: int
    chosen_epoch: dict[str, int]
    auxiliary: Auxiliary
    seconds: float
    data_wait: float
    device: str
    versions: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRun:
    """One trained network.

    Attributes:
        unit: ``whole`` or ``fold-K``.
        facts: of its summary.
        c_index: (split, endpoint) -> C of the endpoint's own checkpoint; None where not estimable.
    """

    unit: str
    facts: RunFacts
    c_index: Mapping[tuple[str, str], float | None]


def read_network_runs(
    fit: FitFolder, outcomes: Mapping[str, Mapping[str, tuple[float, bool]]]
) -> tuple[NetworkRun, ...]:
    """Returns every finished run of a fit, the whole ones first.

    Args:
        fit: the folder.
        outcomes: case id -> endpoint in capitals -> months and event; cases without are left out.

    Raises:
        FitRefused: a summary or a table of scores is damaged.
    """
    runs = [_read_run(path, outcomes) for path in sorted(fit.networks.glob("*/*/seed-*/summary.json"))]
    return tuple(
        sorted(runs, key=lambda run: (run.unit != WHOLE, run.unit, run.facts.network, run.facts.seed))
    )


def seeds_table(runs: Sequence[NetworkRun]) -> Table:
    """Returns mean and standard deviation of C over the seeds of each whole network."""
    whole = [run for run in runs if run.unit == WHOLE]
    rows: list[Row] = []
    short: list[str] = []
    for name in dict.fromkeys(run.facts.network for run in whole):
        of_name = [run for run in whole if run.facts.network == name]
        if len(of_name) < FEWEST_SEEDS:
            short.append(_title(name))
        for endpoint in ("OS", "PFS"):
            cells = [
                _spread([run.c_index.get((split, endpoint)) for run in of_name])
                for split in ("training", "validation", "testing")
            ]
            rows.append(Row(cells=(_title(name), endpoint, str(len(of_name)), *cells)))
    notes = [
        "Mean +- standard deviation of Harrell's C over seeds; the networks differ in initial weights, batches,"
        " augmentation and dropout alone. Training is apparent; the epoch was chosen on the validation cases.",
    ]
    if short:
        notes.append(
            f"{', '.join(short)}: fewer than {FEWEST_SEEDS} seeds, the spread is not known; fit with more seeds."
        )
    return Table(
        name="seeds",
        title="Spread of the networks over seeds",
        header=("Network", "Endpoint", "Seeds", "Training (apparent)", "Validation (selected on)", "Testing"),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def auxiliary_table(runs: Sequence[NetworkRun]) -> Table:
    """Returns the performance of the auxiliary heads of the whole networks on the validation cases."""
    whole = [run for run in runs if run.unit == WHOLE]
    labels = list(dict.fromkeys(label for run in whole for label in run.facts.auxiliary.label_auc))
    names = list(dict.fromkeys(run.facts.network for run in whole))
    rows = [
        Row(
            cells=(
                "Age, mean absolute error, years",
                *(
                    _mean(run.facts.auxiliary.age_error_years for run in whole if run.facts.network == n)
                    for n in names
                ),
            )
        )
    ]
    rows += [
        Row(
            cells=(
                f"{label.replace('_', ' ')}, AUC",
                *(
                    _mean(run.facts.auxiliary.label_auc.get(label) for run in whole if run.facts.network == n)
                    for n in names
                ),
            )
        )
        for label in labels
    ]
    return Table(
        name="auxiliary_heads",
        title="Auxiliary heads of the networks, validation cases",
        header=("Head", *(_title(name) for name in names)),
        rows=tuple(rows),
        notes=(
            "Mean over seeds, combined checkpoint. An auxiliary head near AUC 0.5 taught the network nothing; none of them"
            " enters a score.",
        ),
    )


def hardware_table(runs: Sequence[NetworkRun]) -> Table:
    """Returns epochs, time and hardware of each network and unit."""
    rows = []
    for unit, name in dict.fromkeys((run.unit, run.facts.network) for run in runs):
        facts = [run.facts for run in runs if (run.unit, run.facts.network) == (unit, name)]
        first = facts[0]
        versions = ", ".join(f"{key} {value}" for key, value in first.versions.items())
        rows.append(
            Row(
                cells=(
                    unit,
                    _title(name),
                    f"{first.parameters:,}",
                    ", ".join(str(fact.seed) for fact in facts),
                    str(first.epochs),
                    epochs_text(first.chosen_epoch),
                    f"{sum(fact.seconds for fact in facts) / 3600:.2f}",
                    f"{first.device}; {versions}",
                )
            )
        )
    return Table(
        name="time_and_hardware",
        title="Time, hardware and epochs of each run",
        header=(
            "Unit",
            "Network",
            "Parameters",
            "Seeds",
            "Epochs",
            CHOSEN_EPOCHS,
            "Hours",
            "Hardware and versions",
        ),
        rows=tuple(rows),
        notes=(
            "Wall time of all seeds together; chosen epochs are those of the first seed. Its files history.csv and"
            " summary.json count epochs from 0.",
        ),
    )


def read_score_file(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a run's scores.csv.

    Raises:
        FitRefused: it is missing or has other columns.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if not {"case_id", "split", "os", "pfs"} <= set(reader.fieldnames or ()):
                raise FitRefused(f"{path} has columns {reader.fieldnames}; expected case_id, split, os, pfs")
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FitRefused(f"{path} cannot be read: {error}") from error


def concordance_by_split(
    rows: Sequence[Mapping[str, str]], outcomes: Mapping[str, Mapping[str, tuple[float, bool]]]
) -> dict[tuple[str, str], float | None]:
    """Returns C by split and endpoint of a run's scores, among the cases whose follow-up is known."""
    found: dict[tuple[str, str], float | None] = {}
    for split in dict.fromkeys(row["split"] for row in rows):
        for endpoint in ("OS", "PFS"):
            known = [
                (float(row[endpoint.lower()]), outcomes[row["case_id"]][endpoint])
                for row in rows
                if row["split"] == split and endpoint in outcomes.get(row["case_id"], {})
            ]
            found[split, endpoint] = None
            if known:
                outcome = Outcome(
                    np.array([follow[0] for _, follow in known]), np.array([follow[1] for _, follow in known])
                )
                try:
                    found[split, endpoint] = harrell_c([score for score, _ in known], outcome)
                except SurvivalRefused:
                    found[split, endpoint] = None
    return found


def _read_run(path: Path, outcomes: Mapping[str, Mapping[str, tuple[float, bool]]]) -> NetworkRun:
    try:
        facts = TypeAdapter(RunFacts).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise FitRefused(f"{path} is not the summary of a run: {error}") from error
    rows = read_score_file(path.with_name("scores.csv"))
    return NetworkRun(
        unit=path.parent.parent.parent.name, facts=facts, c_index=concordance_by_split(rows, outcomes)
    )


def _title(network: str) -> str:
    return next((title for name, title in NETWORK_TITLES.items() if name.value == network), network)


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return NOT_ESTIMABLE
    if len(known) == 1:
        return f"{known[0]:.3f}"
    return f"{statistics.mean(known):.3f} +- {statistics.stdev(known):.3f}"


def _mean(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return f"{statistics.mean(known):.2f}" if known else NOT_ESTIMABLE
