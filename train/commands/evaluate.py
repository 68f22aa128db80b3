"""``mmf-train evaluate``: every table and figure of the supplement from ready scores, or from a cohort and its fit."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from engines.case import list_cases
from engines.errors import InvalidInput
from engines.survival.bootstrap import DEFAULT_REPEATS
from train.errors import CohortRefused
from train.evaluate.case_scores import read_case_scores
from train.evaluate.evidence import Evidence, gather_evidence, read_facts
from train.evaluate.folder import encode_json, write_report
from train.evaluate.json_form import encode_records
from train.evaluate.measures import CutoffRule, Settings
from train.evaluate.report import evaluate_scores
from train.evaluate.score_file import read_score_table
from train.evaluate.score_table import ScoreTable
from train.evaluate.table_benchmark import add_benchmark
from train.fit_folder import Fit, default_fit_folder, read_fit

EXTERNAL = "external"
"""Folder of the report that holds the scores of external cohorts."""


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
        typer.Option(help="Folder of case folders with a fit, or that a released model has scored."),
    ] = None,
    external: Annotated[
        list[Path] | None,
        typer.Option(help="Further cohort, scored by the released parts of the fit; may be repeated."),
    ] = None,
    fit: Annotated[
        Path | None, typer.Option(help="Folder of the fit of --cohort. Default: COHORT-fit beside it.")
    ] = None,
    ablation: Annotated[
        Path | None,
        typer.Option(
            help="Folder of `mmf-train ablate`. Default: COHORT-ablation beside it, where there is one."
        ),
    ] = None,
    benchmark: Annotated[
        bool,
        typer.Option(
            "--fit-benchmark", help="With --table: make the Benchmark score from its clinical variables."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records, unrounded, as JSON.")] = False,
    repeats: Annotated[int, typer.Option(min=100, help="Bootstrap resamples.")] = DEFAULT_REPEATS,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = Settings().seed,
    cutoff: Annotated[
        CutoffRule, typer.Option(help="Rule of the cut-offs on the discovery cohort.")
    ] = CutoffRule.MEDIAN,
) -> None:
    """Evaluate prognostic models: discrimination, risk groups, calibration, net benefit, subgroups, beside published values.

    Give --table, or --cohort with any --external. Cut-offs come from discovery (= training + validation), or from the
    first cohort named when there is none; those of a fit or a released model belong to it.
    """
    settings = Settings(repeats=repeats, seed=seed, cutoff=cutoff)
    folders = () if cohort is None else (cohort, *(external or ()))
    if (table is None) == (cohort is None):
        raise InvalidInput("give either --table FILE.csv or --cohort DIR")
    if table is not None and (external or fit or ablation):
        raise InvalidInput(
            "--external, --fit and --ablation go with --cohort; a table names its cohorts in a column"
        )
    if out.exists() and not out.is_dir():
        raise InvalidInput(f"--out {out} is a file; name a folder for the report")
    scores, evidence = (
        (read_score_table(table), Evidence())
        if table is not None
        else read_source(folders, out / EXTERNAL, fit=fit, ablation=ablation)
    )
    if benchmark:
        scores = add_benchmark(scores, seed)
    evaluation = evaluate_scores(scores, settings, evidence)
    records = encode_records(evaluation.records, evaluation.risks)
    files = write_report(evaluation.document, records, out)
    if as_json:
        sys.stdout.write(encode_json(records))
    typer.echo(f"{len(files)} files written; open {out / 'report.html'}", err=True)


def read_source(
    folders: tuple[Path, ...], scored: Path, *, fit: Path | None = None, ablation: Path | None = None
) -> tuple[ScoreTable, Evidence]:
    """Returns the scores of a cohort and what is known beside them: from its fit, else from its cases' own scores.

    Args:
        folders: the cohort, then external cohorts.
        scored: where the scores of external cohorts by the released parts are written.
        fit: folder; None looks beside the cohort.
        ablation: folder; None looks beside the cohort.

    Raises:
        CohortRefused: neither a fit nor scored cases; cohorts that do not go together.
        FitRefused: the fit is damaged or unfinished, or of another cohort.
    """
    finished = _find_fit(folders[0], fit)
    if finished is not None:
        external = _score_external(finished, folders, scored)
        return gather_evidence(finished, folders, external, ablation)
    if not any((case / "scores.json").is_file() for case in list_cases(folders[0])):
        raise CohortRefused(
            f"{folders[0]} has no fit ({default_fit_folder(folders[0])}) and no scored case; run"
            f" `mmf-train fit --cohort {folders[0]}` first"
        )
    scores, facts = read_facts(read_case_scores(folders[0], folders[1:]), folders)
    return scores, Evidence(facts=facts)


def _find_fit(cohort: Path, explicit: Path | None) -> Fit | None:
    """The fit that was named, or the one beside the cohort; an unfinished one beside the cohort is refused, not passed by."""
    if explicit is not None:
        return read_fit(explicit)
    folder = default_fit_folder(cohort)
    return read_fit(folder) if folder.is_dir() else None


def _score_external(fit: Fit, folders: tuple[Path, ...], scored: Path) -> tuple[ScoreTable, ...]:
    """The cohorts after the first, scored by the released parts of the fit; none shares a scan with it or another."""
    if not folders[1:]:
        return ()
    from train.fitted import read_learned, write_external_table

    scored.mkdir(parents=True, exist_ok=True)
    tables = []
    read = [read_learned(fit, folders[0])]
    for folder in folders[1:]:
        path = scored / f"{folder.resolve().name}.csv"
        read.append(write_external_table(fit, folder, path, apart_from=read))
        tables.append(read_score_table(path))
    return tuple(tables)
