"""``mmf-train fit``: from a cohort of case folders to every model of the method, out-of-fold and released, in one folder."""

import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engines.errors import InvalidInput
from engines.mmf import Preset
from engines.networks.settings import ENSEMBLE
from train.cli import log_to_standard_error
from train.commands.networks import LARGEST_SEED, MOST_SEEDS

if TYPE_CHECKING:
    from train.fit_folder import FitRecord
    from train.fit_plan import Cost
    from train.recipes import Recipe

LARGE_RECIPE = "paper"
"""Made for GPUs: on a CPU it takes months, so nobody begins it there without having said so."""
PRE_SPECIFIED = "pre-specified"
PRESETS = {PRE_SPECIFIED: Preset.STANDARD13, "all16": Preset.ALL16, "univariable": Preset.UNIVARIABLE}
"""Words of --preset. Source: method, section 7."""

CohortFolder = Annotated[Path, typer.Option("--cohort", help="Folder of case folders.")]
RecipeName = Annotated[
    str, typer.Option("--recipe", help="conf/recipes/NAME.toml: paper, mini, or your own.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="Folder of the fit. Default: the cohort's name with -fit, beside it."),
]
Folds = Annotated[int, typer.Option("--folds", min=2, max=20, help="Folds of the out-of-fold scores.")]
Seeds = Annotated[
    int,
    typer.Option(
        "--seeds",
        min=1,
        max=MOST_SEEDS,
        help="Seeds of the networks: the first is released, the others show the spread.",
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        min=0,
        max=LARGEST_SEED - MOST_SEEDS,
        help="First seed; also of folds and inner splits.",
    ),
]
PresetWord = Annotated[
    str, typer.Option("--preset", help="Variables of MMF: pre-specified (13), all16, univariable (p < 0.05).")
]
EstimatorWord = Annotated[str, typer.Option("--mmf", help="What MMF is: cox, or forest.")]
WithRadiomic = Annotated[bool, typer.Option("--with-radiomic", help="The Radiomic score is an input of MMF.")]
RadiomicWord = Annotated[
    str, typer.Option("--radiomic", help="Radiomic features: selected, or fixed (the paper's 9 and 6).")
]
CutoffText = Annotated[
    str, typer.Option("--cutoff", help="median, maxstat, or a log hazard of MMF; from out-of-fold scores.")
]
Trees = Annotated[int, typer.Option("--trees", min=10, help="Trees of the survival forests.")]
Epochs = Annotated[int | None, typer.Option("--epochs", min=5, help="Epochs instead of the recipe's.")]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda, cuda:1. Default: a GPU when there is one.")
]
Processes = Annotated[int, typer.Option("--processes", min=1, max=64, help="Networks trained side by side.")]
Dask = Annotated[
    str | None,
    typer.Option("--dask", help="Address of a dask scheduler whose workers share this file system."),
]
Planned = Annotated[
    bool, typer.Option("--plan", help="Print what would be trained, its hours, its memory; stop.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Standard output holds JSON alone.")]


def fit(
    cohort: CohortFolder,
    recipe: RecipeName = LARGE_RECIPE,
    out: Out = None,
    folds: Folds = 5,
    seeds: Seeds = 1,
    seed: Seed = 0,
    preset: PresetWord = PRE_SPECIFIED,
    estimator: EstimatorWord = "cox",
    with_radiomic: WithRadiomic = False,
    radiomic: RadiomicWord = "selected",
    cutoff: CutoffText = "median",
    trees: Trees = 500,
    epochs: Epochs = None,
    device: Device = None,
    processes: Processes = 1,
    dask: Dask = None,
    planned: Planned = False,
    as_json: AsJson = False,
) -> None:
    """Fit networks, Ensemble-DL, MMF and the comparators to a cohort, out-of-fold and for release.

    Interrupted fits continue: give the same command again. Then: mmf-train evaluate --cohort, mmf-train release --fit.
    """
    from engines.network_input import Preprocessing
    from train.clinical_model import MMF_FOREST, CoxSettings, Estimator
    from train.cutoff import parse_cutoff
    from train.device import choose_device
    from train.fit import fit_cohort
    from train.fit_cohort import read_fit_cohort
    from train.fit_folder import default_fit_folder
    from train.fit_plan import FitPlan, check_plan, check_units, draw_cohort_folds, estimate_cost, plan_units
    from train.fusion import PAPER_FOREST
    from train.radiomic_model import RadiomicMode
    from train.recipes import read_recipe

    clinical = CoxSettings(
        preset=PRESETS[_choice("--preset", preset, tuple(PRESETS))],
        estimator=Estimator(_choice("--mmf", estimator, tuple(Estimator))),
        forest=replace(MMF_FOREST, trees=trees),
        with_radiomic=with_radiomic,
        cutoff=parse_cutoff(cutoff),
    )
    plan = FitPlan(
        recipe=_shortened(read_recipe(recipe), epochs),
        folds=folds,
        seed=seed,
        seeds=tuple(range(seed, seed + seeds)),
        clinical=clinical,
        radiomic=RadiomicMode(_choice("--radiomic", radiomic, tuple(RadiomicMode))),
        forest=replace(PAPER_FOREST, trees=trees),
        device=choose_device(device),
    )
    if not planned:
        refuse_unasked_cpu(plan.recipe.name, plan.device, device)
    target = out or default_fit_folder(cohort)
    if target.resolve().is_relative_to(cohort.resolve()):
        raise InvalidInput(f"--out {target} lies in the cohort; a fit is kept beside it")
    read = read_fit_cohort(cohort, Preprocessing(side=_side(plan.recipe)), seed=seed)
    fold = draw_cohort_folds(read, plan)
    check_plan(read, plan, fold)
    units = plan_units(read, plan, fold)
    _tell(f"{read.name}: {read.n} cases, {fold.size} of discovery in {folds} folds; fit in {target}")
    costs = estimate_cost(plan, units)
    if planned:
        check_units(read, units)  # a fit does so itself: it reads every input
        _show_costs(costs, processes, as_json)
        return
    for line in describe_costs(costs, processes):
        _tell(line)
    with open_executor(processes, dask) as executor:
        fitted = fit_cohort(read, plan, target, created=datetime.now(UTC), executor=executor, tell=_tell)
    if as_json:
        sys.stdout.write(fitted.paths.record.read_text(encoding="utf-8"))
        return
    for line in describe_record(fitted.record):
        typer.echo(line)
    typer.echo(f"{target}: tables and model folder; next: mmf-train evaluate --cohort {cohort}")


def refuse_unasked_cpu(recipe: str, chosen: str, asked: str | None) -> None:
    """Refuses to begin the paper's networks on a CPU that nobody asked for.

    Args:
        recipe: its name.
        chosen: device that would train.
        asked: device that a person named; None = nobody did.

    Raises:
        InvalidInput: the recipe is the paper's, and no GPU was found.
    """
    if recipe == LARGE_RECIPE and asked is None and chosen == "cpu":
        raise InvalidInput(
            f"recipe {LARGE_RECIPE} needs a GPU, and none was found here: give --recipe mini, or --device cpu to train on the"
            " CPU all the same; --plan tells the hours"
        )


def describe_record(record: "FitRecord") -> list[str]:
    """Returns the C-indices and limits of a fit, line by line."""
    lines = [
        f"  {entry.endpoint:<4}{entry.model:<22} C {entry.value:.3f}"
        + ("" if entry.low is None or entry.high is None else f" ({entry.low:.3f} to {entry.high:.3f})")
        + f"  {entry.rows}, {entry.patients} patients, {entry.events} events"
        for entry in record.concordance
    ]
    return lines + [f"  note: {words}" for words in record.limits]


def _choice(option: str, word: str, known: Sequence[str]) -> str:
    if word.lower() not in known:
        raise InvalidInput(f"{option} {word}: expected one of {', '.join(known)}")
    return word.lower()


def _shortened(recipe: "Recipe", epochs: int | None) -> "Recipe":
    from train.commands.networks import shorten_schedule

    schedules = {name: shorten_schedule(schedule, epochs) for name, schedule in recipe.schedules.items()}
    return replace(recipe, schedules=schedules)


def _side(recipe: "Recipe") -> int:
    sides = {recipe.settings[name].side for name in ENSEMBLE}
    if len(sides) != 1:
        raise InvalidInput(
            f"the three networks share one input, but recipe {recipe.name} gives them sides {sorted(sides)}"
        )
    return sides.pop()


def check_dask() -> None:
    """Refuses a wish for dask where it is not installed.

    Raises:
        InvalidInput: it is not.
    """
    if find_spec("distributed") is None:
        raise InvalidInput("--dask needs the package dask.distributed: pip install 'mmf-node[train,dask]'")


@contextmanager
def open_executor(processes: int, dask: str | None) -> Iterator[Executor | None]:
    """Gives what trains networks side by side: dask's workers, fresh processes, or nothing for one."""
    if dask is not None:
        check_dask()
        from dask.distributed import Client

        with Client(dask) as client:
            yield client.get_executor()
        return
    if processes == 1:
        yield None
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=log_to_standard_error) as pool:
        yield pool


def _show_costs(costs: "Sequence[Cost]", processes: int, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps([asdict(cost) for cost in costs], indent=1) + "\n")
        return
    for line in describe_costs(costs, processes):
        typer.echo(line)


def describe_costs(costs: "Sequence[Cost]", processes: int) -> list[str]:
    """Returns hours and memory of a fit, line by line; finished networks of an interrupted fit are counted too."""
    lines = [
        f"{cost.network:<12} {cost.runs:3} runs {cost.hours:8.2f} h  {cost.memory_gib:6.1f} GiB a run on {cost.device}"
        for cost in costs
    ]
    hours, memory = sum(cost.hours for cost in costs), max(cost.memory_gib for cost in costs)
    return [
        *lines,
        f"in all {hours:.2f} h in turn; with {processes} side by side about {hours / processes:.2f} h and"
        f" {memory * processes:.1f} GiB, if the device has room",
    ]


def _tell(line: str) -> None:
    typer.echo(line, err=True)
