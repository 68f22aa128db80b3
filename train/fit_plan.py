"""The plan of a fit: what is trained on what, checked before the first hour is spent, and what it will cost."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import numpy.typing as npt

from engines.clinical.variables import ALL_VARIABLES
from engines.endpoint import Endpoint
from engines.mmf import PRESET_VARIABLES
from engines.networks.settings import ENSEMBLE, NetworkName, NetworkSettings
from train.clinical_model import CoxSettings, complete_rows
from train.data import Split, TrainingData, check_assignments
from train.errors import CohortRefused
from train.fit_cohort import FitCohort
from train.fit_folder import WHOLE, fold_unit
from train.fusion import PAPER_FOREST, ForestSettings
from train.out_of_fold import Cohort, deal_folds, draw_folds
from train.radiomic_model import RadiomicMode
from train.recipes import Recipe, Schedule

IntArray = npt.NDArray[np.int64]

CPU_THREADS = 1
"""Of each network that a fit trains on a CPU: side by side or in turn, the weights are the same (OURS)."""

INNER_FOLDS = 5
"""One of these parts of the rows a unit may see chooses its checkpoints (OURS)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitPlan:
    """How a cohort is fitted.

    Attributes:
        recipe: sizes and schedules of the three networks.
        folds: of the out-of-fold scores.
        seed: of folds, inner splits, lasso.
        seeds: of the networks; the first is released, the others train in the unit ``whole`` alone.
        clinical: preset, estimator, ridge, cut-off of MMF and Benchmark.
        radiomic: selection or the paper's list.
        forest: of Ensemble-DL.
        half: store the networks' kernels as float16.
        device: cpu, cuda ...
    """

    recipe: Recipe
    folds: int = 5
    seed: int = 0
    seeds: tuple[int, ...] = (0,)
    clinical: CoxSettings = field(default_factory=CoxSettings)
    radiomic: RadiomicMode = RadiomicMode.SELECTED
    forest: ForestSettings = PAPER_FOREST
    half: bool = False
    device: str = "cpu"

    def network(self, name: NetworkName) -> tuple[NetworkSettings, Schedule]:
        """Returns size and schedule of one network."""
        return self.recipe.settings[name], self.recipe.schedules[name]

    def digest(self, cohort: FitCohort) -> str:
        """Returns the SHA-256 of cohort, folds and networks: what decides the trained networks, but not where they train."""
        return self.digest_networks(cohort.digest)

    def digest_networks(self, cohort: str) -> str:
        """Returns the same for a cohort of which the digest alone is known."""
        words = {
            "cohort": cohort,
            "networks": {
                name.value: [self.network(name)[0].table(), asdict(self.network(name)[1])]
                for name in ENSEMBLE
            },
            "folds": [self.folds, self.seed, INNER_FOLDS],
            "seed": self.seeds[0],
            "half": self.half,
        }
        return hashlib.sha256(json.dumps(words, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unit:
    """The networks of one set of rows.

    Attributes:
        name: ``whole`` or ``fold-K``.
        splits: of every case of the cohort, as this unit sees them: what it must not see is TESTING.
        seen: discovery rows that forest and standardisation are fitted on.
        held_out: discovery rows of the fold; none for ``whole``.
        seeds: of the networks.
    """

    name: str
    splits: tuple[Split, ...]
    seen: IntArray
    held_out: IntArray
    seeds: tuple[int, ...]

    def data(self, cohort: FitCohort) -> TrainingData:
        """Returns the cohort as this unit sees it."""
        return replace(cohort.data, splits=list(self.splits))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one network of the plan costs.

    Attributes:
        runs: how often it is trained.
        hours: of all its runs, one after the other.
        memory_gib: of one run.
    """

    network: str
    runs: int
    hours: float
    memory_gib: float
    device: str


def draw_cohort_folds(cohort: FitCohort, plan: FitPlan) -> IntArray:
    """Returns the fold of each discovery row, balanced in who died and who progressed.

    Raises:
        CohortRefused: too few patients or events for so many folds.
    """
    rows = cohort.discovery()
    return draw_folds(describe_rows(cohort, rows), plan.folds, plan.seed)


def describe_rows(cohort: FitCohort, rows: IntArray, networks: Sequence[NetworkName] = ENSEMBLE) -> Cohort:
    """Returns some rows as out-of-fold scoring takes them."""
    return Cohort(
        networks=tuple(name.value for name in networks),
        patient_keys=[cohort.data.patient_keys[row] for row in rows],
        outcomes={endpoint: cohort.outcome(endpoint, rows) for endpoint in Endpoint},
    )


def plan_units(cohort: FitCohort, plan: FitPlan, fold: IntArray) -> tuple[Unit, ...]:
    """Returns the units of a fit: ``whole`` first, then one for each fold.

    Args:
        cohort: the cohort.
        plan: folds and seeds.
        fold: (discovery rows,), as ``draw_cohort_folds`` gives it.
    """
    rows = cohort.discovery()
    splits = list(cohort.data.splits)
    if not any(splits[row] is Split.VALIDATION for row in rows):
        splits = _with_inner_split(cohort, splits, rows, plan.seed)
    units = [
        Unit(name=WHOLE, splits=tuple(splits), seen=rows, held_out=rows[:0], seeds=plan.seeds),
    ]
    for number in range(plan.folds):
        seen, held_out = rows[fold != number], rows[fold == number]
        own = [Split.TRAINING if split is Split.VALIDATION else split for split in cohort.data.splits]
        for row in held_out:
            own[row] = Split.TESTING
        units.append(
            Unit(
                name=fold_unit(number),
                splits=tuple(_with_inner_split(cohort, own, seen, plan.seed)),
                seen=seen,
                held_out=held_out,
                seeds=plan.seeds[:1],
            )
        )
    return tuple(units)


def check_plan(cohort: FitCohort, plan: FitPlan, fold: IntArray) -> None:
    """Refuses at once what would fail after hours of training.

    Raises:
        CohortRefused: no discovery row; MMF lacks complete rows or events in a fold; the Radiomic score is wanted
            without features. All faults are named.
    """
    rows = cohort.discovery()
    faults: list[str] = []
    variables = PRESET_VARIABLES[plan.clinical.preset]
    complete = np.zeros(cohort.n, dtype=np.bool_)
    complete[complete_rows(cohort.clinical, variables)] = True
    if not complete[rows].any():
        known = [
            variable.value
            for variable in ALL_VARIABLES
            if variable in variables and not any(cohort.clinical[row].get(variable) for row in rows)
        ]
        faults.append(
            f"no discovery case has all {len(variables)} clinical variables of MMF"
            + (f"; none has {', '.join(known)}" if known else "")
        )
    else:
        for endpoint in Endpoint:
            event = cohort.outcome(endpoint, rows).event
            for number in range(plan.folds):
                seen = complete[rows] & (fold != number)
                if not event[seen].any():
                    faults.append(
                        f"fold {number}: no {endpoint} event among the {int(seen.sum())} cases outside it whose clinical"
                        " variables are complete; use fewer folds or complete more cases"
                    )
    if plan.clinical.with_radiomic and not cohort.features.names:
        faults.append("the Radiomic score is wanted in MMF, but no case has features.csv")
    if faults:
        raise CohortRefused("; ".join(faults))


def check_units(cohort: FitCohort, units: Sequence[Unit]) -> None:
    """Refuses before the first unit trains what the training of any unit would refuse; each input is read once.

    Raises:
        CohortRefused: nearly the same volume on both sides of a unit, no event to learn or to choose from in one, or
            another fault of the data; the message names the unit.
    """
    check_assignments(cohort.data, {unit.name: unit.splits for unit in units})


def estimate_cost(plan: FitPlan, units: Sequence[Unit]) -> tuple[Cost, ...]:
    """Returns what each network costs, from measured steps of random cases on the plan's device."""
    from train.estimate import CaseCounts, count_passes, estimate_run

    costs: list[Cost] = []
    for name in ENSEMBLE:
        settings, schedule = plan.network(name)
        hours, memory, runs = 0.0, 0.0, 0
        for unit in units:
            counts = CaseCounts(
                training=sum(split is Split.TRAINING for split in unit.splits),
                validation=sum(split is Split.VALIDATION for split in unit.splits),
                unlabelled=sum(split is Split.UNLABELLED for split in unit.splits),
            )
            passes = count_passes(name, schedule, counts)
            if not runs:
                one = estimate_run(name, settings, schedule, counts, plan.device, threads=CPU_THREADS)
                measured = passes
            hours += len(unit.seeds) * one.hours * passes / measured
            memory, runs = one.memory_gib, runs + len(unit.seeds)
        costs.append(Cost(network=name.value, runs=runs, hours=hours, memory_gib=memory, device=plan.device))
    return tuple(costs)


def _with_inner_split(cohort: FitCohort, splits: Sequence[Split], rows: IntArray, seed: int) -> list[Split]:
    """The splits with one fifth of ``rows`` for the choice of checkpoints, balanced in who died and who progressed."""
    stratum = sum(
        (2**place) * cohort.outcome(endpoint, rows).event.astype(np.int64)
        for place, endpoint in enumerate(Endpoint)
    )
    inner = deal_folds(np.asarray(stratum), INNER_FOLDS, seed)
    drawn = list(splits)
    for row, part in zip(rows, inner, strict=True):
        drawn[row] = Split.VALIDATION if part == 0 else Split.TRAINING
    return drawn
