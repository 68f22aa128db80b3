"""Whose runs an ablation may take for its own: those of the same cohort, splits, sizes and schedules."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace

from engines.networks.settings import ENSEMBLE, NetworkName, NetworkSettings
from train.errors import AblationRefused
from train.fit_folder import Fit
from train.fit_plan import FitPlan
from train.fit_units import PLAN_FILE
from train.recipes import Recipe, Schedule


def digest_run(
    cohort: str, name: NetworkName, settings: NetworkSettings, schedule: Schedule, seed: int
) -> str:
    """Returns the SHA-256 of what decides a run, but not where it is trained.

    Args:
        cohort: digest of cases and splits.
        name: which network.
        settings: its size and phases.
        schedule: how it is trained.
        seed: of the run.
    """
    words = {
        "cohort": cohort,
        "network": [name.value, settings.table()],
        "schedule": asdict(schedule),
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(words, sort_keys=True, default=str).encode()).hexdigest()


def refuse_other_fit(fit: Fit, cohort: str, recipe: Recipe, seeds: Sequence[int]) -> None:
    """Refuses a fit whose networks are not those that an ablation would train.

    Args:
        fit: whose runs are to be taken over.
        cohort: digest of the cohort that is ablated.
        recipe: of the ablation.
        seeds: of the ablation.

    Raises:
        AblationRefused: another cohort, recipe, size or schedule, or one of the seeds is absent.
    """
    record = fit.record
    if record.recipe != recipe.name:
        raise AblationRefused(
            f"the fit was made with the recipe {record.recipe}, the ablation asks for {recipe.name}: they would not be"
            " comparable; give --recipe with the fit's, or --no-fit"
        )
    absent = [seed for seed in seeds if seed not in record.seeds]
    if absent:
        raise AblationRefused(
            f"the fit has the seeds {', '.join(map(str, record.seeds))}, the ablation asks for {absent[0]} too: give"
            " --seeds from the fit's, or --no-fit"
        )
    if record.cohort.digest != cohort:
        raise AblationRefused(
            f"the fit is of another state of the cohort ({record.cohort.name}, {record.cohort.digest[:12]}; this is"
            f" {cohort[:12]}): other cases, outcomes or splits; fit the cohort again, or --no-fit"
        )
    if not _has_schedules(fit, recipe):
        raise AblationRefused(
            f"the fit was made with other sizes or schedules than the recipe {recipe.name} has now: they would not be"
            " comparable; give --recipe with the fit's, or --no-fit"
        )


def _has_schedules(fit: Fit, recipe: Recipe) -> bool:
    """Whether the networks of a fit have the recipe's epochs, and its sizes and schedules as their plan tells."""
    record = fit.record
    if record.epochs != {name.value: recipe.schedules[name].epochs for name in ENSEMBLE}:
        return False
    path = fit.paths.networks / PLAN_FILE
    if not path.is_file():
        return True
    first = record.seeds[0]
    plan = FitPlan(recipe=recipe, folds=record.folds, seed=first, seeds=record.seeds)
    found = json.loads(path.read_text(encoding="utf-8")).get("plan")
    return found in {replace(plan, half=half).digest_networks(record.cohort.digest) for half in (False, True)}
