"""``mmf-train tune``: searches hyper-parameters of one network on the validation cases."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engines.errors import InvalidInput
from engines.networks.settings import NetworkName
from train.commands.networks import LARGEST_SEED, Cache, parse_channels

if TYPE_CHECKING:
    from train.tune import Trial

Cohort = Annotated[Path, typer.Option("--cohort", help="Folder of case folders.")]
Network = Annotated[str, typer.Option("--network", help="Which network.")]
RecipeName = Annotated[str, typer.Option("--recipe", help="Start of the search: conf/recipes/NAME.toml.")]
Phases = Annotated[str, typer.Option("--phases", help="Input channels, e.g. A,V,D.")]
Trials = Annotated[
    int, typer.Option("--trials", min=1, help="Trials in all; a finished log is only continued.")
]
Log = Annotated[Path, typer.Option("--log", help="JSON lines: the search, then one trial a line.")]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Of the draws and of every training.")
]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda. Default: a GPU when there is one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Standard output holds JSON alone.")]


def tune(
    cohort: Cohort,
    network: Network = NetworkName.NETWORK1,
    recipe: RecipeName = "paper",
    phases: Phases = "A,V,D",
    trials: Trials = 20,
    log: Log = Path("trials.jsonl"),
    seed: Seed = 0,
    device: Device = None,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Search learning rate, L1, dropout, augmentation and batch size at random; trial 0 is the recipe itself.

    Every trial is a whole training, judged on the validation cases alone, and a line of the log when it ends. The same
    command again continues the log; with more --trials it goes on. The best values are copied into a recipe by hand:
    the best of many trials looks better than it is, so no C of a search supports a claim.
    """
    from engines.networks.registry import parse_network
    from train.cohort import read_cohort
    from train.device import choose_device
    from train.recipes import read_recipe
    from train.tune import Search, tune_network

    name = parse_network(network)
    if name is NetworkName.UNSUPERVISED:
        raise InvalidInput(
            "the unsupervised rival chooses no epoch on the validation cases; there is nothing to tune"
        )
    chosen = read_recipe(recipe)
    settings = replace(chosen.settings[name], phases=parse_channels(phases))
    data = read_cohort(cohort, settings.phases, settings.side, seed=seed, cache=cache)
    search = Search(name=name, settings=settings, schedule=chosen.schedules[name], trials=trials, seed=seed)
    found = tune_network(search, data, log, device=choose_device(device), progress=_tell)
    if as_json:
        sys.stdout.write(json.dumps([asdict(trial) for trial in found], indent=1) + "\n")
        return
    typer.echo("best first; chosen on the validation cases, so no C here supports a claim")
    for trial in found:
        typer.echo(_line(trial))


def _tell(trial: "Trial") -> None:
    typer.echo(_line(trial), err=True)


def _line(trial: "Trial") -> str:
    quality = trial.stopped or f"C {trial.c_index:.3f}"
    dropout = "own" if trial.dropout is None else f"{trial.dropout:.2f}"
    return (
        f"trial {trial.number:>3}  {quality}  learning rate {trial.learning_rate:.1e}  L1 {trial.l1:.1e}  "
        f"dropout {dropout}  augmentation {trial.augmentation:.2f}  batch {trial.batch_size}"
    )
