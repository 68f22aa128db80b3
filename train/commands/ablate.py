"""``mmf-train ablate``: the grids of supplementary Tables 2 to 4 on a cohort, planned and priced before they run."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engines.errors import InvalidInput
from engines.networks.settings import NetworkName
from train.commands.fit import check_dask, open_executor
from train.commands.networks import parse_seeds

if TYPE_CHECKING:
    from train.ablation import Cost, Grid
    from train.fit_folder import Fit

DEFAULT_RECIPE = "paper"

Cohort = Annotated[Path, typer.Option("--cohort", help="Folder of case folders.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="Folder of the ablation. Default: COHORT-ablation beside the cohort."),
]
FitFolder = Annotated[
    Path | None,
    typer.Option(
        "--fit", help="Fit of the same cohort, whose A+V+D runs are taken over. Default: COHORT-fit."
    ),
]
NoFit = Annotated[bool, typer.Option("--no-fit", help="Train A+V+D of the three networks here too.")]
RecipeName = Annotated[
    str | None, typer.Option("--recipe", help="conf/recipes/NAME.toml. Default: that of the fit, else paper.")
]
Tables = Annotated[
    str, typer.Option("--tables", help="2 (architectures), 3 (phases), 4 (ensembles), with commas.")
]
Only = Annotated[str | None, typer.Option("--networks", help="Only these, with commas.")]
Seeds = Annotated[
    str | None,
    typer.Option(
        "--seeds",
        help="How many seeds, from 0, or the seeds themselves with commas. Default: the first of the fit, else 0.",
    ),
]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda. Default: a GPU when there is one.")]
Planned = Annotated[bool, typer.Option("--plan", help="Print plan and cost, and stop.")]
Processes = Annotated[int, typer.Option("--processes", min=1, max=64, help="Networks trained side by side.")]
Dask = Annotated[
    str | None,
    typer.Option(
        "--dask", help="Address of a dask scheduler whose workers see the same folders, e.g. tcp://HOST:8786."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Standard output holds JSON alone.")]


def ablate(
    cohort: Cohort,
    out: Out = None,
    fit: FitFolder = None,
    no_fit: NoFit = False,
    recipe: RecipeName = None,
    tables: Tables = "2,3,4",
    networks: Only = None,
    seeds: Seeds = None,
    device: Device = None,
    planned: Planned = False,
    processes: Processes = 1,
    dask: Dask = None,
    as_json: AsJson = False,
) -> None:
    """Make the grids of supplementary Tables 2 (architectures), 3 (phases) and 4 (ensembles).

    Prints the plan and its cost first. Killed and started again, it continues; finished runs are not made again.
    ``mmf-train evaluate --cohort`` reads the folder and lays the tables out.
    """
    from engines.case import check_case, list_cases
    from engines.network_input import Preprocessing
    from train.ablation import (
        Source,
        choose_split_seed,
        describe_plan,
        estimate_grid,
        plan_grid,
        run_grid,
    )
    from train.ablation_measures import write_grid
    from train.data import Split
    from train.device import choose_device
    from train.estimate import CaseCounts
    from train.evaluate.evidence import default_ablation_folder
    from train.fit_cohort import read_fit_cohort
    from train.recipes import read_recipe

    if dask is not None:
        check_dask()
    finished = None if no_fit else _find_fit(cohort, fit)
    chosen = read_recipe(recipe or (finished.record.recipe if finished else DEFAULT_RECIPE))
    where = choose_device(device)
    numbers = _parse_seeds(seeds, finished)
    split_seed = choose_split_seed(numbers, finished)
    side = next(iter(chosen.settings.values())).side
    read = read_fit_cohort(cohort, Preprocessing(side=side), seed=split_seed)
    grid = plan_grid(
        Source(folder=cohort, digest=read.digest, seed=split_seed),
        out or default_ablation_folder(cohort),
        chosen,
        numbers,
        tables=_parse_tables(tables),
        networks=_parse_networks(networks),
        fit=finished,
    )
    data = read.data
    counts = CaseCounts(
        training=data.rows(Split.TRAINING).size,
        validation=data.rows(Split.VALIDATION).size,
        unlabelled=data.rows(Split.UNLABELLED).size,
    )
    costs = estimate_grid(grid, where, counts)
    for line in describe_plan(grid, costs):
        typer.echo(line, err=True)
    if planned:
        if as_json:
            sys.stdout.write(_encode(grid, costs) + "\n")
        return
    with open_executor(processes, dask) as executor:
        failed = run_grid(grid, where, executor=executor, progress=lambda line: typer.echo(line, err=True))
    synthetic = all(check_case(folder, ())[1].synthetic for folder in list_cases(cohort))
    folder = write_grid(grid, data, where, failed, synthetic)
    for line in failed:
        typer.echo(f"failed: {line}", err=True)
    if as_json:
        sys.stdout.write((folder / "ablation.json").read_text(encoding="utf-8"))
    typer.echo(f"ablation written to {folder}; `mmf-train evaluate --cohort {cohort}` lays it out", err=True)
    if failed:
        raise typer.Exit(1)


def _find_fit(cohort: Path, explicit: Path | None) -> "Fit | None":
    """The fit that was named, or the one beside the cohort, or none."""
    from train.fit_folder import default_fit_folder, read_fit

    if explicit is not None:
        return read_fit(explicit)
    folder = default_fit_folder(cohort)
    return read_fit(folder) if folder.is_dir() else None


def _parse_tables(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",")]
    if any(word not in ("2", "3", "4") for word in words):
        raise InvalidInput(f"--tables {text}: expected 2, 3, 4 or several of them with commas")
    return tuple(int(word) for word in dict.fromkeys(words))


def _parse_networks(text: str | None) -> tuple[NetworkName, ...]:
    from engines.networks.registry import parse_network

    return tuple(NetworkName) if text is None else tuple(parse_network(word) for word in text.split(","))


def _parse_seeds(text: str | None, fit: "Fit | None") -> tuple[int, ...]:
    if text is None:
        return (fit.record.seeds[0],) if fit else (0,)
    return parse_seeds(text)


def _encode(grid: "Grid", costs: "tuple[Cost, ...]") -> str:
    content = {
        "runs": [
            {
                "network": unit.network.value,
                "phases": unit.phases,
                "seed": unit.seed,
                "finished": unit.finished,
                "of_the_fit": unit.fitted,
            }
            for unit in grid.units
        ],
        "costs": [
            {**asdict(cost.estimate), "runs": cost.runs, "hours_together": cost.hours} for cost in costs
        ],
    }
    return json.dumps(content, indent=1)
