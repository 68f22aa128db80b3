"""``mmf-train evaluate``: every table and figure of the supplement from a table of ready scores."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from engines.survival.bootstrap import DEFAULT_REPEATS
from train.evaluate.folder import encode_json, write_report
from train.evaluate.json_form import encode_records
from train.evaluate.measures import CutoffRule, Settings
from train.evaluate.report import evaluate_scores
from train.evaluate.score_table import read_score_table


def evaluate(
    out: Annotated[Path, typer.Option(help="Folder of the report: HTML, PDF, CSV of every table, figures.")],
    table: Annotated[
        Path,
        typer.Option(
            help="CSV: patient_id, cohort, os_months, os_event, pfs_months, pfs_event, then one column per model"
            " score (higher = higher risk) or clinical variable.",
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the records, unrounded, as JSON.")] = False,
    repeats: Annotated[int, typer.Option(min=100, help="Bootstrap resamples.")] = DEFAULT_REPEATS,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = Settings().seed,
    cutoff: Annotated[
        CutoffRule, typer.Option(help="Rule of the cut-offs on the discovery cohort.")
    ] = CutoffRule.MEDIAN,
) -> None:
    """Evaluate ready scores: discrimination, risk groups, calibration, net benefit, subgroups, beside the published values.

    Cut-offs come from discovery (= training + validation), or from the first cohort named when there is none.
    """
    settings = Settings(repeats=repeats, seed=seed, cutoff=cutoff)
    evaluation = evaluate_scores(read_score_table(table), settings)
    records = encode_records(evaluation.records, evaluation.risks)
    files = write_report(evaluation.document, records, out)
    if as_json:
        sys.stdout.write(encode_json(records))
    typer.echo(f"{len(files)} files written; open {out / 'report.html'}", err=True)
