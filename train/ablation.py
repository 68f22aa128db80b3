"""The ablations of the supplement: every architecture, every set of phases; planned, priced, resumable, on any executor."""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from engines.case import write_json
from engines.errors import InvalidInput, MmfError
from engines.networks.settings import ENSEMBLE, NetworkName, NetworkSettings
from engines.phase import ASSESSED_PHASES, Phase
from train.ablation_identity import digest_run, refuse_other_fit
from train.campaign import Plan, run_campaign
from train.cohort import read_cohort
from train.errors import AblationRefused
from train.estimate import CaseCounts, Estimate, estimate_run
from train.evaluate.ablation_cells import ALL_PHASES, PHASE_SETS
from train.fit_folder import WHOLE, Fit
from train.fit_units import PLAN_FILE
from train.progress import EpochRecord
from train.ranks import Ranks
from train.recipes import Recipe

LOG = structlog.get_logger(__name__)

_LETTERS = {phase.letter: phase for phase in ASSESSED_PHASES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The cohort that is ablated.

    Attributes:
        folder: of case folders.
        digest: SHA-256 of its cases and splits, as ``train.fit_cohort.FitCohort`` has it.
        seed: of splits that are drawn; one for all runs, or they would be validated on different patients.
    """

    folder: Path
    digest: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One run of the grid.

    Attributes:
        network: which.
        phases: input channels as letters, e.g. ``A+V``.
        seed: of the run.
        folder: where the run writes, or where the fit left it.
        fitted: the run belongs to a fit and is read, never written.
        plan: SHA-256 of network, schedule, seed and cohort: a run of another plan is never taken for this one.
    """

    network: NetworkName
    phases: str
    seed: int
    folder: Path
    fitted: bool
    plan: str

    @property
    def words(self) -> str:
        """Which run, for a reader."""
        return f"{self.network.value} on {self.phases}, seed {self.seed}"

    @property
    def finished(self) -> bool:
        """Whether the run has left its summary and its scores."""
        return (self.folder / "summary.json").is_file() and (self.folder / "scores.csv").is_file()


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """What is to be made of one cohort.

    Attributes:
        cohort: what is ablated.
        out: folder of the ablation.
        recipe: sizes and schedules.
        seeds: of the networks.
        tables: of the supplement, that are asked for.
        units: the runs, those of Table 2 first.
        fit: whose A+V+D runs of the three networks are taken over; None trains them here.
    """

    cohort: Source
    out: Path
    recipe: Recipe
    seeds: tuple[int, ...]
    tables: tuple[int, ...]
    units: tuple[Unit, ...]
    fit: Fit | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the runs still to be made would take, one network a row."""

    estimate: Estimate
    runs: int

    @property
    def hours(self) -> float:
        """All runs of this network together."""
        return self.estimate.hours * self.runs


def choose_split_seed(seeds: Sequence[int], fit: Fit | None) -> int:
    """Returns the seed of drawn splits: the fit's, or the first of the ablation."""
    return seeds[0] if fit is None else fit.record.seeds[0]


def plan_grid(
    cohort: Source,
    out: Path,
    recipe: Recipe,
    seeds: Sequence[int],
    *,
    tables: Sequence[int] = (2, 3, 4),
    networks: Sequence[NetworkName] = tuple(NetworkName),
    fit: Fit | None = None,
) -> Grid:
    """Returns the runs of the tables asked for; a run that two tables need is there once.

    Args:
        cohort: what is ablated.
        out: folder of the ablation.
        recipe: sizes and schedules.
        seeds: of the networks.
        tables: 2 (architectures), 3 (phases), 4 (ensembles, which are made of the three networks on A+V+D).
        networks: only these.
        fit: of the same cohort.

    Raises:
        AblationRefused: the fit was made of another cohort, with another recipe or without one of the seeds; or ``out``
            holds runs of another cohort or recipe.
    """
    if fit is not None:
        refuse_other_fit(fit, cohort.digest, recipe, seeds)
    wanted: dict[tuple[NetworkName, str], None] = {}
    if 2 in tables:
        wanted |= dict.fromkeys((name, ALL_PHASES) for name in networks)
    if 3 in tables:
        wanted |= dict.fromkeys(
            (name, phases) for name in ENSEMBLE if name in networks for phases in PHASE_SETS
        )
    if 4 in tables:
        wanted |= dict.fromkeys((name, ALL_PHASES) for name in ENSEMBLE if name in networks)
    if not wanted:
        raise InvalidInput(
            f"Table {' and '.join(map(str, tables))} holds no run of {', '.join(name.value for name in networks)}"
        )
    units = []
    for name, phases in wanted:
        for seed in seeds:
            own = out / "networks" / phases / name.value / f"seed-{seed}"
            taken = None if fit is None else fit.paths.run(WHOLE, name, seed)
            fitted = taken is not None and phases == ALL_PHASES and name in ENSEMBLE
            units.append(
                Unit(
                    network=name,
                    phases=phases,
                    seed=seed,
                    folder=taken if fitted and taken is not None else own,
                    fitted=fitted,
                    plan=digest_run(
                        cohort.digest, name, size_of(recipe, name, phases), recipe.schedules[name], seed
                    ),
                )
            )
    _refuse_other_runs(units, out)
    return Grid(
        cohort=cohort,
        out=out,
        recipe=recipe,
        seeds=tuple(seeds),
        tables=tuple(tables),
        units=tuple(units),
        fit=fit,
    )


def estimate_grid(grid: Grid, device: str, counts: CaseCounts) -> tuple[Cost, ...]:
    """Returns the cost of the runs that are not finished, from one measured step of each network and channel count.

    Args:
        grid: the plan.
        device: to measure on.
        counts: of the cases.
    """
    waiting = [unit for unit in grid.units if not unit.finished and not unit.fitted]
    costs = []
    for name, channels in dict.fromkeys((unit.network, unit.phases.count("+") + 1) for unit in waiting):
        runs = [u for u in waiting if (u.network, u.phases.count("+") + 1) == (name, channels)]
        settings = size_of(grid.recipe, name, runs[0].phases)
        estimate = estimate_run(name, settings, grid.recipe.schedules[name], counts, device)
        costs.append(Cost(estimate=estimate, runs=len(runs)))
    return tuple(costs)


def size_of(recipe: Recipe, name: NetworkName, phases: str) -> NetworkSettings:
    """Returns the size of a network on some phases."""
    return replace(recipe.settings[name], phases=parse_letters(phases))


def parse_letters(phases: str) -> tuple[Phase, ...]:
    """Returns the phases of letters joined by ``+``, in the order of the method's channels."""
    return tuple(_LETTERS[letter] for letter in phases.split("+"))


def run_grid(
    grid: Grid,
    device: str,
    *,
    executor: Executor | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[str, ...]:
    """Makes every run of the plan that is not finished, and returns those that failed, in words.

    A run that was interrupted continues from its last whole epoch; a finished one is left alone. A run that fails does
    not stop the others.

    Args:
        grid: the plan.
        device: cpu or cuda.
        executor: of processes, or dask's ``Client.get_executor()``, whose workers see the same folders; None runs them
            here in turn.
        progress: told of each run that starts or ends.
    """
    waiting = [unit for unit in grid.units if not unit.finished]
    failed = [f"{unit.words}: not in the fit" for unit in waiting if unit.fitted]
    tasks = [unit for unit in waiting if not unit.fitted]
    if executor is None:
        for unit in tasks:
            progress(f"{unit.words} starts")
            try:
                train_unit(unit, grid.cohort, grid.recipe, device)
            except MmfError as error:
                failed.append(f"{unit.words}: {error}")
                progress(f"{unit.words} failed: {error}")
        return tuple(failed)
    futures = {executor.submit(train_unit, unit, grid.cohort, grid.recipe, device): unit for unit in tasks}
    for future in as_completed(futures):
        unit = futures[future]
        try:
            future.result()
            progress(f"{unit.words} is finished")
        except MmfError as error:
            failed.append(f"{unit.words}: {error}")
            progress(f"{unit.words} failed: {error}")
    return tuple(failed)


def train_unit(unit: Unit, cohort: Source, recipe: Recipe, device: str) -> None:
    """Trains one run and writes its folder as ``train.campaign`` does; safe to call again after a kill.

    Raises:
        CohortRefused: a fault of the cohort.
        TrainingStopped: a value is not finite.
        CheckpointRefused: the folder holds another run.
    """
    settings = size_of(recipe, unit.network, unit.phases)
    data = read_cohort(cohort.folder, settings.phases, settings.side, seed=cohort.seed)
    write_json({"plan": unit.plan}, unit.folder / PLAN_FILE)
    plan = Plan(name=unit.network, settings=settings, schedule=recipe.schedules[unit.network], seed=unit.seed)

    def tell(plan: Plan, record: EpochRecord) -> None:
        LOG.info(
            "epoch finished",
            network=plan.name.value,
            phases=unit.phases,
            seed=plan.seed,
            epoch=record.epoch + 1,
            epochs=plan.schedule.epochs,
        )

    # run_campaign adds NETWORK/seed-N to the folder it is given.
    run_campaign([plan], data, unit.folder.parent.parent, device=device, ranks=Ranks(), progress=tell)


def _refuse_other_runs(units: Sequence[Unit], out: Path) -> None:
    """Refuses a folder whose runs were made of other cases, splits, sizes or schedules, or do not tell of which."""
    for unit in units:
        path = unit.folder / PLAN_FILE
        if unit.fitted or not (path.is_file() or unit.finished):
            continue
        found = json.loads(path.read_text(encoding="utf-8")).get("plan") if path.is_file() else "not told"
        if found != unit.plan:
            raise AblationRefused(
                f"{out} holds {unit.words} of another cohort or recipe ({str(found)[:12]}, this is {unit.plan[:12]}):"
                " its figures are not of these cases; choose another --out"
            )


def describe_plan(grid: Grid, costs: Sequence[Cost]) -> list[str]:
    """Returns the plan and its cost in lines for a person."""
    state: Mapping[str, int] = {
        "finished": sum(unit.finished for unit in grid.units),
        "of the fit": sum(unit.fitted for unit in grid.units),
    }
    lines = [
        f"{len(grid.units)} runs of recipe {grid.recipe.name}, seeds {', '.join(map(str, grid.seeds))}:"
        f" {state['finished']} finished ({state['of the fit']} belong to the fit)"
    ]
    for phases in dict.fromkeys(unit.phases for unit in grid.units):
        names = dict.fromkeys(unit.network.value for unit in grid.units if unit.phases == phases)
        lines.append(f"  {phases:<6} {', '.join(names)}")
    for cost in costs:
        estimate = cost.estimate
        lines.append(
            f"  {estimate.network:<13} {cost.runs:3d} runs x {estimate.hours:7.2f} h = {cost.hours:8.2f} h,"
            f" {estimate.memory_gib:5.1f} GiB, {estimate.seconds_a_case:.3f} s a case on {estimate.device}"
        )
    lines.append(f"  together {sum(cost.hours for cost in costs):.2f} h, one run after the other")
    return lines
