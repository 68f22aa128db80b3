"""``mmf-train nightly``: train on what is new, compare with the running model on locked cases, install the candidate."""

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from train.cli import log_to_standard_error
from train.commands.networks import LARGEST_SEED


def nightly(
    cohort: Annotated[Path, typer.Option(help="Folder of exported cases.")],
    store: Annotated[Path, typer.Option(help="Folder of the model versions; the candidate lands there.")],
    runs: Annotated[Path, typer.Option(help="Folder of the nights and their reports.")],
    recipe: Annotated[str, typer.Option(help="conf/recipes/NAME.toml, or a file of your own.")] = "paper",
    margin: Annotated[float, typer.Option(help="Of C, by which a candidate may be worse.")] = 0.02,
    minimum_power: Annotated[
        float, typer.Option(help="Chance to release an equal model below which the gate does not look.")
    ] = 0.5,
    looks: Annotated[int, typer.Option(min=1, help="Readings of one locked set.")] = 5,
    locked_share: Annotated[float, typer.Option(help="Of new patients that are locked.")] = 0.25,
    minimum_follow_up: Annotated[
        float, typer.Option(help="Months a patient must have been followable.")
    ] = 6.0,
    minimum_new: Annotated[int, typer.Option(min=1, help="New patients that a training needs.")] = 20,
    folds: Annotated[int, typer.Option(min=2, max=20, help="Folds of the out-of-fold scores.")] = 5,
    epochs: Annotated[int | None, typer.Option(min=5, help="Epochs instead of the recipe's.")] = None,
    trees: Annotated[int, typer.Option(min=10, help="Trees of the survival forests.")] = 500,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Of folds, splits and networks.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda. Default: a GPU when there is one.")] = None,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Networks trained side by side.")] = 1,
    automatic: Annotated[
        bool, typer.Option("--automatic", help="A candidate that the gate releases goes into service.")
    ] = False,
    allow_demo_models: Annotated[
        bool, typer.Option("--allow-demo-models", help="That may be a model of phantoms.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Standard output holds JSON alone.")] = False,
) -> None:
    """Train by recipe on new cases and judge the candidate against the running model on cases neither has learned from.

    A night that was ended goes on with the same command. Never two at once. The candidate is installed, not in service.
    """
    log_to_standard_error()
    from train.commands.fit import open_executor
    from train.commands.networks import shorten_schedule
    from train.device import choose_device
    from train.fit_plan import FitPlan
    from train.fusion import ForestSettings
    from train.gate import GateRules
    from train.locked import LockRules
    from train.night_report import describe_json, write_night_report
    from train.nightly import NightPlan, run_nightly
    from train.recipes import read_recipe

    own = Path(recipe)
    chosen = read_recipe(own.stem, own) if own.suffix == ".toml" else read_recipe(recipe)
    plan = NightPlan(
        cohort=cohort,
        store=store,
        runs=runs,
        fit=FitPlan(
            recipe=replace(
                chosen,
                schedules={name: shorten_schedule(each, epochs) for name, each in chosen.schedules.items()},
            ),
            folds=folds,
            seed=seed,
            seeds=(seed,),
            forest=ForestSettings(trees=trees),
            device=choose_device(device),
        ),
        gate=GateRules(margin=margin, minimum_power=minimum_power),
        locks=LockRules(share=locked_share, looks=looks),
        minimum_follow_up_months=minimum_follow_up,
        minimum_new_patients=minimum_new,
        automatic=automatic,
        allow_demonstration=allow_demo_models,
    )
    with open_executor(processes, None) as executor:
        report = run_nightly(
            plan, lambda: datetime.now(UTC), lambda line: typer.echo(line, err=True), executor=executor
        )
    paths = write_night_report(report, report.folder or runs)
    if as_json:
        sys.stdout.write(json.dumps(describe_json(report), indent=1) + "\n")
        return
    judgement = report.judgement
    typer.echo(f"{report.status.value}: {judgement.decision.value if judgement else '; '.join(report.notes)}")
    if judgement is not None:
        typer.echo(f"candidate {report.version}, running {report.running or 'none'}")
        for reason in judgement.reasons:
            typer.echo(f"  {reason}")
        power = judgement.verdict.power if judgement.verdict else judgement.planned_power
        typer.echo(f"power (an equal model is released): {0.0 if power is None else power:.0%}")
        typer.echo(f"looks at the locked set: {report.looks[0]} of {report.looks[1]}")
    typer.echo(f"report: {paths['html']}")
