"""``mmf-train evaluate``: every table and figure of the supplement from ready scores."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from engines.errors import InvalidInput
from engines.survival.bootstrap import DEFAULT_REPEATS
from train.evaluate.case_scores import read_case_scores
from train.evaluate.folder import encode_json, write_report
from train.evaluate.json_form import encode_records
from train.evaluate.measures import CutoffRule, Settings
from train.evaluate.report import evaluate_scores
from train.evaluate.score_table import ScoreTable, read_score_table


def evaluate(
    out: Annotated[Path, typer.Option(help="Folder of the report: HTML, PDF, CSV of every table, figures.")],
    table: Annotated[
        Path | None,
        typer.Option(
            help="CSV: patient_id, cohort, os_months, os_event, pfs_months, pfs_event, then one column per model"
            " score (higher = higher risk) or clinical variable.",
        ),
    ] = None,
    cohort: Annotated[
        Path | None,
        typer.Option(
            help="Folder of case folders that a released model has scored; splits.csv names its parts."
        ),
    ] = None,
    external: Annotated[
        list[Path] | None, typer.Option(help="Further cohort of scored cases; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records, unrounded, as JSON.")] = False,
    repeats: Annotated[int, typer.Option(min=100, help="Bootstrap resamples.")] = DEFAULT_REPEATS,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = Settings().seed,
    cutoff: Annotated[
        CutoffRule, typer.Option(help="Rule of the cut-offs on the discovery cohort.")
    ] = CutoffRule.MEDIAN,
) -> None:
    """Evaluate ready scores: discrimination, risk groups, calibration, net benefit, subgroups, beside the published values.

    Give --table, or --cohort with any --external. Cut-offs come from discovery (= training + validation), or from the
    first cohort named when there is none; those of a released model belong to it.
    """
    settings = Settings(repeats=repeats, seed=seed, cutoff=cutoff)
    evaluation = evaluate_scores(read_source(table, cohort, tuple(external or ())), settings)
    records = encode_records(evaluation.records, evaluation.risks)
    files = write_report(evaluation.document, records, out)
    if as_json:
        sys.stdout.write(encode_json(records))
    typer.echo(f"{len(files)} files written; open {out / 'report.html'}", err=True)


def read_source(table: Path | None, cohort: Path | None, external: tuple[Path, ...]) -> ScoreTable:
    """Returns the table of the one source that was given.

    Raises:
        InvalidInput: none, both, or external cohorts beside a table; or a fault of the table.
        CohortRefused: a fault of a cohort.
    """
    if (table is None) == (cohort is None):
        raise InvalidInput("give either --table FILE.csv or --cohort DIR")
    if cohort is not None:
        return read_case_scores(cohort, external)
    if table is None or external:
        raise InvalidInput("--external goes with --cohort; a table names its cohorts in a column")
    return read_score_table(table)
