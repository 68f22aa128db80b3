"""``mmf-train networks``: trains the networks of the supplement on a cohort."""

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engines.errors import InvalidInput
from engines.networks.settings import ENSEMBLE, NetworkName, NetworkSettings
from engines.phase import ASSESSED_PHASES, Phase, parse_phase

if TYPE_CHECKING:
    from train.campaign import Plan, RunSummary
    from train.estimate import CaseCounts
    from train.progress import EpochRecord
    from train.recipes import Schedule

ALL = "all"
LARGEST_SEED = 2**32 - 1
"""What every random generator of the training takes."""
MOST_SEEDS = 20
"""A larger number of seeds is a seed that somebody meant (OURS)."""

Cohort = Annotated[
    Path | None, typer.Option("--cohort", help="Folder of case folders, as `mmf-node export` writes it.")
]
RecipeName = Annotated[
    str, typer.Option("--recipe", help="conf/recipes/NAME.toml: paper, mini, or your own.")
]
Only = Annotated[
    str, typer.Option("--networks", help="Names with commas, or all. Default: the three of Ensemble-DL.")
]
Phases = Annotated[
    str, typer.Option("--phases", help="Input channels: letters or words with commas, e.g. A,V or arterial.")
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        help="Folder of the inputs made ready for reading; the size of all network_input.npy. Default: COHORT/.cache.",
    ),
]
Out = Annotated[Path, typer.Option("--out", help="Folder of weights, scores, histories, summaries.")]
Seeds = Annotated[
    str,
    typer.Option(
        "--seeds",
        help="How many seeds, from 0, or the seeds themselves with commas: 3 is 0,1,2. Their spread is reported.",
    ),
]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda, cuda:1. Default: a GPU when there is one.")
]
Epochs = Annotated[
    int | None,
    typer.Option(
        "--epochs", min=5, help="Epochs instead of the recipe's; warm-up and reconstruction in proportion."
    ),
]
Board = Annotated[
    Path | None,
    typer.Option("--tensorboard", help="Folder of TensorBoard events; needs the package tensorboard."),
]
Listed = Annotated[bool, typer.Option("--list", help="Print every network of the recipe and stop.")]
Estimated = Annotated[bool, typer.Option("--estimate", help="Print hours and memory of the run and stop.")]
AsJson = Annotated[bool, typer.Option("--json", help="Standard output holds JSON alone.")]


def networks(
    cohort: Cohort = None,
    recipe: RecipeName = "paper",
    only: Only = ",".join(ENSEMBLE),
    phases: Phases = "A,V,D",
    out: Out = Path("networks"),
    seeds: Seeds = "1",
    device: Device = None,
    epochs: Epochs = None,
    cache: Cache = None,
    tensorboard: Board = None,
    listed: Listed = False,
    estimated: Estimated = False,
    as_json: AsJson = False,
) -> None:
    """Train Networks 1-3 and their rivals on a cohort, checkpoints chosen on its validation cases.

    A case gives network_input.npy, and clinical.json and outcomes.json where they are known; splits.csv in the cohort
    (case_id, split: training, validation, testing, unlabelled) says what a case is for, else a fifth of the patients is
    drawn to validate. Testing cases are scored, never learned from.

    OUT/NETWORK/seed-N gets weights (os, pfs, combined), history.csv, scores.csv and summary.json. The same command again
    continues what was interrupted, with the same weights in the end; what is finished is read back.

    Try ``--recipe mini --epochs 5`` first, and ``--estimate`` before ``--recipe paper``, which wants a GPU. Several GPUs:
    ``torchrun --nproc-per-node N -m train.cli networks ...``.
    """
    from train.campaign import run_campaign
    from train.cohort import read_cohort
    from train.data import Split
    from train.device import choose_device
    from train.estimate import CaseCounts
    from train.ranks import join_ranks
    from train.recipes import read_recipe

    if tensorboard is not None and find_spec("tensorboard") is None:
        raise InvalidInput("--tensorboard needs the package tensorboard: pip install tensorboard")
    channels = parse_channels(phases)
    chosen = read_recipe(recipe)
    sizes = {name: replace(size, phases=channels) for name, size in chosen.settings.items()}
    if listed:
        show_list(sizes, as_json)
        return
    if cohort is None:
        raise InvalidInput("--cohort is needed: a folder of case folders")
    plans = _plans(
        only, seeds, sizes, {name: shorten_schedule(s, epochs) for name, s in chosen.schedules.items()}
    )
    sides = {plan.settings.side for plan in plans}
    if len(sides) != 1:
        raise InvalidInput(
            f"the networks of one run share one input, but the recipe gives them sides {sorted(sides)}"
        )
    where = choose_device(device)
    ranks = join_ranks(where)
    folder, side = cohort, sides.pop()
    data = ranks.first_alone(lambda: read_cohort(folder, channels, side, seed=plans[0].seed, cache=cache))
    counts = {split.value: int(data.rows(split).size) for split in Split}
    if ranks.rank == 0:
        typer.echo(f"{cohort}: " + ", ".join(f"{count} {word}" for word, count in counts.items()), err=True)
    if estimated:
        if ranks.rank == 0:
            share = CaseCounts(
                training=-(-counts[Split.TRAINING.value] // ranks.count),
                validation=counts[Split.VALIDATION.value],
                unlabelled=-(-counts[Split.UNLABELLED.value] // ranks.count),
            )
            show_estimates(plans, share, where, as_json)
        ranks.leave()
        return
    progress = _tell if tensorboard is None or ranks.rank != 0 else _show_on_board(tensorboard)
    summaries = run_campaign(plans, data, out, device=where, ranks=ranks, progress=progress)
    ranks.leave()
    if ranks.rank == 0:
        show_summaries(summaries, out, as_json)


def parse_channels(text: str) -> tuple[Phase, ...]:
    """Returns the phases that a person listed, in the order of the method's channels.

    Args:
        text: letters (A, V, D) or words, separated by commas or plus signs.

    Raises:
        InvalidInput: a word that is no assessed phase, or one twice.
    """
    letters = {phase.letter: phase for phase in ASSESSED_PHASES}
    found: list[Phase] = []
    for word in text.replace("+", ",").split(","):
        try:
            phase = letters.get(word.strip().upper()) or parse_phase(word)
        except ValueError as error:
            raise InvalidInput(f"--phases: {error}") from error
        if phase in found or phase not in ASSESSED_PHASES:
            raise InvalidInput(
                f"--phases {text}: {phase.value} is given twice or is no input of the networks"
            )
        found.append(phase)
    return tuple(phase for phase in ASSESSED_PHASES if phase in found)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Returns the seeds that a person asked for.

    Args:
        text: one number is how many, from 0; with commas they are the seeds themselves (``7,`` is seed 7 alone).

    Raises:
        InvalidInput: no number, none, too many, one twice, or one that no generator takes.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    try:
        numbers = [int(word) for word in words]
    except ValueError:
        raise InvalidInput(f"--seeds {text}: expected whole numbers with commas") from None
    if "," not in text and numbers:
        if numbers[0] > MOST_SEEDS:
            raise InvalidInput(
                f"--seeds {text}: expected how many seeds, 1 to {MOST_SEEDS}; seed {text} alone is written {text.strip()},"
            )
        numbers = list(range(numbers[0]))
    if not numbers or len(set(numbers)) != len(numbers) or min(numbers) < 0 or max(numbers) > LARGEST_SEED:
        raise InvalidInput(
            f"--seeds {text}: expected how many seeds, 1 or more, or each seed once, 0 to {LARGEST_SEED}"
        )
    return tuple(numbers)


def show_list(sizes: dict[NetworkName, NetworkSettings], as_json: bool) -> None:
    """Prints name, parameters, input shape and heads of every network."""
    import torch

    from engines.networks.registry import build_network, count_parameters, number_of_outputs

    rows = []
    for name, settings in sizes.items():
        with torch.device("meta"):
            parameters = count_parameters(build_network(name, settings))
        rows.append(
            {
                "name": name.value,
                "parameters": parameters,
                "input_shape": list(settings.input_shape),
                "heads": number_of_outputs(),
            }
        )
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return
    for row in rows:
        heads = ", ".join(f"{head} {outputs}" for head, outputs in number_of_outputs().items())
        typer.echo(f"{row['name']:<12} {row['parameters']:>12,}  {row['input_shape']}  {heads}")


def show_estimates(plans: Sequence["Plan"], counts: "CaseCounts", device: str, as_json: bool) -> None:
    """Prints hours and memory of each network's run, and the hours of all runs together."""
    from train.estimate import estimate_run

    total, rows = 0.0, []
    for name in dict.fromkeys(plan.name for plan in plans):
        seeds = [plan for plan in plans if plan.name is name]
        plan = seeds[0]
        estimate = estimate_run(name, plan.settings, plan.schedule, counts, device)
        total += estimate.hours * len(seeds)
        rows.append(asdict(estimate) | {"runs": len(seeds)})
        if not as_json:
            typer.echo(
                f"{estimate.network:<12} {len(seeds)} x {_say_hours(estimate.hours)}  {estimate.memory_gib:6.1f} GiB  "
                f"{estimate.seconds_a_case:.3f} s a case on {estimate.device}"
            )
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return
    typer.echo(f"{'all':<12}     {_say_hours(total)}, measured by a few steps each")


def _say_hours(hours: float) -> str:
    """Hours, or minutes where there is less than one hour."""
    return f"{hours:8.1f} h  " if hours >= 1 else f"{hours * 60:8.1f} min"


def show_summaries(summaries: Sequence["RunSummary"], out: Path, as_json: bool) -> None:
    """Prints the validation C of each network, with its spread over seeds, and the chosen epochs."""
    from train.evaluate.words import CHOSEN_EPOCHS, epochs_text

    if as_json:
        sys.stdout.write(json.dumps([asdict(summary) for summary in summaries], indent=1) + "\n")
        return
    typer.echo(
        "validation C (the epoch was chosen on these cases: no claim), mean +- deviation over the seeds"
    )
    for name in dict.fromkeys(summary.network for summary in summaries):
        runs = [summary for summary in summaries if summary.network == name]
        own, combined = (
            [
                _spread([run.c_index[selection]["validation"][endpoint] for run in runs])
                for selection, endpoint in pairs
            ]
            for pairs in ((("os", "os"), ("pfs", "pfs")), (("combined", "os"), ("combined", "pfs")))
        )
        seconds = sum(run.seconds for run in runs)
        typer.echo(
            f"{name:<12} a checkpoint each: OS {own[0]}  PFS {own[1]}   one for both: OS {combined[0]}  PFS {combined[1]}"
        )
        typer.echo(f"{'':<12} {_describe_auxiliary(runs)}")
        epochs = "; ".join(f"seed {run.seed}: {epochs_text(run.chosen_epoch)}" for run in runs)
        typer.echo(f"{'':<12} {CHOSEN_EPOCHS}: {epochs}")
        typer.echo(
            f"{'':<12} {len(runs)} runs, {runs[0].epochs} epochs, {seconds:.0f} s on {runs[0].device} ({runs[0].hardware}), "
            f"{max(run.data_wait for run in runs):.1%} of them waiting for data"
        )
    typer.echo(f"weights, scores and histories are in {out}")


def _describe_auxiliary(runs: Sequence["RunSummary"]) -> str:
    """How the age and label heads do on the validation cases, in words."""
    if runs[0].network == NetworkName.UNSUPERVISED:
        return "learns no age and no labels"
    errors = [run.auxiliary.age_error_years for run in runs if run.auxiliary.age_error_years is not None]
    words = [f"age error {_spread(errors, 1)} years" if errors else "age not known"]
    for label in runs[0].auxiliary.label_auc:
        areas = [area for run in runs if (area := run.auxiliary.label_auc[label]) is not None]
        if areas:
            words.append(f"{label} AUC {_spread(areas, 2)}")
    return ", ".join(words)


def _plans(
    only: str, seeds: str, sizes: dict[NetworkName, NetworkSettings], schedules: dict[NetworkName, "Schedule"]
) -> list["Plan"]:
    from engines.networks.registry import parse_network
    from train.campaign import Plan

    names = (
        list(NetworkName)
        if only.strip().lower() == ALL
        else [parse_network(word) for word in only.split(",")]
    )
    if len(set(names)) != len(names):
        raise InvalidInput(f"--networks {only}: each network once")
    return [
        Plan(name=name, settings=sizes[name], schedule=schedules[name], seed=number)
        for name in names
        for number in parse_seeds(seeds)
    ]


def shorten_schedule(schedule: "Schedule", epochs: int | None) -> "Schedule":
    """Returns the schedule with another number of epochs; the shares of warm-up and reconstruction stay.

    As many epochs as a checkpoint is judged by are left to learn the outcome.
    """
    from train.recipes import SMOOTHING_EPOCHS

    if epochs is None:
        return schedule
    share = epochs / schedule.epochs
    return replace(
        schedule,
        epochs=epochs,
        warm_up_epochs=min(round(schedule.warm_up_epochs * share), epochs - SMOOTHING_EPOCHS),
        reconstruction_epochs=min(round(schedule.reconstruction_epochs * share), epochs - SMOOTHING_EPOCHS),
    )


def _spread(values: Sequence[float], digits: int = 3) -> str:
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.mean(values):.{digits}f} +- {statistics.stdev(values):.{digits}f}"


def _show_on_board(folder: Path) -> Callable[["Plan", "EpochRecord"], None]:
    """What tells of an epoch on standard error and on TensorBoard."""
    from torch.utils.tensorboard.writer import SummaryWriter

    writers: dict[str, SummaryWriter] = {}

    def tell(plan: "Plan", record: "EpochRecord") -> None:
        _tell(plan, record)
        word = f"{plan.name.value}-seed-{plan.seed}"
        writer = writers.setdefault(word, SummaryWriter(str(folder / word)))
        groups = {"loss": record.losses, "c_index": record.c_index, "log_variance": record.log_variances}
        for group, values in groups.items():
            for key, value in values.items():
                writer.add_scalar(f"{group}/{key}", value, record.epoch)
        writer.add_scalar("learning_rate", record.learning_rate, record.epoch)
        writer.flush()

    return tell


def _tell(plan: "Plan", record: "EpochRecord") -> None:
    """One line an epoch on standard error."""
    losses = " ".join(f"{task} {loss:.3f}" for task, loss in record.losses.items())
    concordance = " ".join(f"C_{endpoint} {value:.3f}" for endpoint, value in record.c_index.items())
    typer.echo(
        f"{plan.name.value} seed {plan.seed} epoch {record.epoch + 1}/{plan.schedule.epochs} {losses} {concordance} "
        f"lr {record.learning_rate:.1e} {record.seconds:.1f} s, {record.remaining_seconds / 60:.1f} min left",
        err=True,
    )
