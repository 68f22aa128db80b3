"""From a cohort to a fit folder: networks of every unit, then everything that stands on them, tables, model folder, record."""

import hashlib
import json
import platform
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from shutil import rmtree

import numpy as np
import numpy.typing as npt
import torch

from engines.endpoint import Endpoint
from engines.models.card import ConcordanceCard, TrainingCard
from engines.models.reference import Reference, describe_clinical, describe_inputs, describe_log_risks
from engines.networks.heads import RiskNetwork
from engines.networks.settings import ENSEMBLE, NetworkName
from engines.networks.weights import read_network
from engines.novelty import FEWEST_INPUTS, describe_input, fit_novelty
from engines.survival.bootstrap import bootstrap_concordance, draw_resamples, percentile_interval
from engines.survival.concordance import harrell_c
from engines.survival.outcome import Outcome
from train.data import Split
from train.fit_cohort import FitCohort
from train.fit_folder import (
    MRECIST,
    SCHEMA_VERSION,
    WHOLE,
    CohortRecord,
    ConcordanceRecord,
    CutoffRecord,
    Fit,
    FitFolder,
    FitRecord,
    read_fit,
    write_record,
)
from train.fit_models import Columns, FittedModels, fit_models
from train.fit_plan import FitPlan, check_plan, check_units, draw_cohort_folds, plan_units
from train.fit_tables import write_seeds, write_tables
from train.fit_units import claim_folder, measure_seconds, read_log_risks, train_units
from train.release import FittedParts, Statement, write_release

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

OUT_OF_FOLD = "out-of-fold"
TESTING = "testing"

FEWEST_PATIENTS = 10
FEWEST_EVENTS = 5
"""No C-index of fewer testing patients or events is stated. Source: validity, groups that are not shown."""

INTENDED_USE = "A candidate inside a fit folder, for evaluation alone. `mmf-train release` writes the model that may be installed."


def fit_cohort(
    cohort: FitCohort,
    plan: FitPlan,
    out: Path,
    *,
    created: datetime,
    executor: Executor | None = None,
    tell: Callable[[str], None],
) -> Fit:
    """Trains, fits and writes everything into a fit folder, and returns the fit.

    A fit that was interrupted continues; networks that are finished are read back. Only discovery and unlabelled cases
    decide what is fitted: testing cases are scored at the end.

    Args:
        cohort: the cohort.
        plan: how.
        out: the fit folder, beside the cohort.
        created: aware time for the record.
        executor: of processes that train networks side by side; None trains them in turn.
        tell: is told of the progress, line by line.

    Raises:
        CohortRefused: the cohort cannot be fitted; all faults that can be known before training are named before it.
        FitRefused: the folder holds another fit.
    """
    paths = FitFolder(root=out)
    fold = draw_cohort_folds(cohort, plan)
    check_plan(cohort, plan, fold)
    units = plan_units(cohort, plan, fold)
    check_units(cohort, units)
    claim_folder(paths, plan.digest(cohort))
    paths.record.unlink(missing_ok=True)  # unfinished from here on
    train_units(cohort, plan, units, paths, executor=executor, tell=tell)
    ids = cohort.data.case_ids
    log_risks = {unit.name: read_log_risks(paths, unit.name, plan.seeds[0], ids) for unit in units}
    tell("fitting forests, comparators and Cox models")
    models = fit_models(cohort, plan, fold, log_risks)
    write_tables(cohort, models, paths)
    write_seeds(cohort, plan, paths)
    concordance = measure_concordance(cohort, models)
    record = describe_fit(cohort, plan, models, concordance, created, measure_seconds(paths, units))
    rmtree(paths.model, ignore_errors=True)
    write_release(
        paths.model,
        state_candidate(record),
        gather_parts(cohort, plan, models, paths),
        np.asarray(cohort.data.inputs[cohort.discovery()[0]]),
    )
    write_record(record, paths)
    return read_fit(out)


def measure_concordance(cohort: FitCohort, models: FittedModels) -> tuple[ConcordanceRecord, ...]:
    """Returns Harrell's C of every model, out-of-fold and of the released parts on the testing cases."""
    testing = np.array([split is Split.TESTING for split in cohort.data.splits], dtype=np.bool_)
    return (
        *_concordances(cohort, models.out_of_fold, cohort.discovery(), OUT_OF_FOLD),
        *_concordances(cohort, models.apparent, np.flatnonzero(testing).astype(np.int64), TESTING),
    )


def describe_fit(
    cohort: FitCohort,
    plan: FitPlan,
    models: FittedModels,
    concordance: tuple[ConcordanceRecord, ...],
    created: datetime,
    seconds: float,
) -> FitRecord:
    """Returns the record of a fit."""
    rows = cohort.discovery()
    splits = [split.value for split in cohort.data.splits]
    clinical = plan.clinical
    words = {"networks": plan.digest(cohort), "clinical": asdict(clinical), "schema": SCHEMA_VERSION}
    words |= {"forest": asdict(plan.forest), "radiomic": plan.radiomic.value, "seeds": plan.seeds}
    return FitRecord(
        created=created,
        plan=hashlib.sha256(json.dumps(words, sort_keys=True, default=str).encode()).hexdigest(),
        recipe=plan.recipe.name,
        networks=ENSEMBLE,
        phases=tuple(phase.value for phase in cohort.preprocessing.phases),
        side=cohort.preprocessing.side,
        folds=plan.folds,
        seeds=plan.seeds,
        preset=clinical.preset.value,
        estimator=clinical.estimator.value,
        with_radiomic=clinical.with_radiomic,
        radiomic=plan.radiomic.value if models.radiomic else "none",
        epochs={name.value: plan.network(name)[1].epochs for name in ENSEMBLE},
        cohort=CohortRecord(
            name=cohort.name,
            digest=cohort.digest,
            synthetic=cohort.synthetic,
            cases=cohort.n,
            patients=int(cohort.with_follow_up().size),
            splits={word: splits.count(word) for word in dict.fromkeys(splits)},
            events_os=cohort.outcome(Endpoint.OS, rows).events,
            events_pfs=cohort.outcome(Endpoint.PFS, rows).events,
        ),
        device=_name_device(plan.device),
        seconds=seconds,
        versions=_versions(),
        cutoffs=tuple(
            CutoffRecord(endpoint=endpoint, model=model, value=value, rule=rule)
            for (model, endpoint), (value, rule) in models.cutoffs.items()
        ),
        concordance=concordance,
        used=dict(models.used),
        limits=models.limits,
        feature_origin="" if cohort.feature_origin is None else cohort.feature_origin.text(),
    )


def gather_parts(cohort: FitCohort, plan: FitPlan, models: FittedModels, paths: FitFolder) -> FittedParts:
    """Returns everything that is released: networks of ``whole``, forests, Cox models, reference data."""
    return FittedParts(
        preprocessing=cohort.preprocessing,
        networks=_read_networks(paths, plan.seeds[0]),
        half=plan.half,
        ensembles=models.ensembles,
        risk_fits=models.risk_fits,
        comparators=models.comparators,
        reference=_describe_reference(cohort, models),
    )


def state_candidate(record: FitRecord) -> Statement:
    """Returns the words of the card of the model inside a fit folder."""
    cohort = record.cohort
    discovery = cohort.splits.get("training", 0) + cohort.splits.get("validation", 0)
    kind = "phantoms (no patients) with made-up hazards" if cohort.synthetic else "patients"
    epochs = ", ".join(f"{name} {epochs}" for name, epochs in record.epochs.items())
    demonstration = ("Trained on phantoms: its numbers have no clinical meaning at all.",)
    return Statement(
        name="mmf-candidate",
        version=f"fit-{record.plan[:12]}",
        created=record.created,
        demonstration=cohort.synthetic,
        intended_use=INTENDED_USE,
        limits=(*(demonstration if cohort.synthetic else ()), *record.limits),
        training=TrainingCard(
            trained_on=f"{discovery} {kind} of cohort {cohort.name}",
            patients=discovery,
            events_os=cohort.events_os,
            events_pfs=cohort.events_pfs,
            description=(
                f"recipe {record.recipe}, epochs {epochs}, seeds {', '.join(map(str, record.seeds))}; {record.folds} folds"
                f" for the out-of-fold scores; MMF {record.estimator}, preset {record.preset}; {record.device}"
            ),
            software_version=record.versions["mmf-node"],
        ),
        concordance=tuple(
            ConcordanceCard(
                endpoint=entry.endpoint,
                model=entry.model,
                rows=f"{entry.rows}, {entry.patients} of cohort {cohort.name}",
                value=entry.value,
                low=entry.low,
                high=entry.high,
            )
            for entry in record.concordance
        ),
    )


def _name_device(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def _versions() -> dict[str, str]:
    packages = ("mmf-node", "torch", "numpy", "scikit-survival")
    return {"python": platform.python_version()} | {name: installed_version(name) for name in packages}


def _concordances(cohort: FitCohort, columns: Columns, rows: IntArray, words: str) -> list[ConcordanceRecord]:
    found: list[ConcordanceRecord] = []
    for endpoint in Endpoint:
        for model, pair in columns.items():
            scores, months = pair[endpoint], cohort.follow(endpoint).months
            used = rows[np.isfinite(scores[rows]) & np.isfinite(months[rows])]
            if not used.size:
                continue
            outcome = cohort.outcome(endpoint, used)
            if model == MRECIST and endpoint is Endpoint.PFS:  # time starts at the first follow-up CT
                outcome = Outcome(outcome.time - cohort.responses.months[used], outcome.event)
            if outcome.n < FEWEST_PATIENTS or outcome.events < FEWEST_EVENTS:
                continue
            draws = bootstrap_concordance(scores[used][np.newaxis], outcome, draw_resamples(outcome.n))
            interval = percentile_interval(draws[:, 0])
            found.append(
                ConcordanceRecord(
                    endpoint=endpoint,
                    model=model,
                    rows=words,
                    patients=outcome.n,
                    events=outcome.events,
                    value=harrell_c(scores[used], outcome),
                    low=None if interval is None else interval.low,
                    high=None if interval is None else interval.high,
                )
            )
    return found


def _read_networks(paths: FitFolder, seed: int) -> dict[tuple[NetworkName, Endpoint], RiskNetwork]:
    """The released networks; one object where both endpoints chose the same epoch."""
    networks: dict[tuple[NetworkName, Endpoint], RiskNetwork] = {}
    for name in ENSEMBLE:
        run = paths.run(WHOLE, name, seed)
        chosen = json.loads((run / "summary.json").read_text(encoding="utf-8"))["sha256"]
        by_hash: dict[str, RiskNetwork] = {}
        for endpoint in Endpoint:
            word = endpoint.value.lower()
            if chosen[word] not in by_hash:
                _, by_hash[chosen[word]] = read_network(run / f"{word}.safetensors", sha256=chosen[word])
            networks[name, endpoint] = by_hash[chosen[word]]
    return networks


def _describe_reference(cohort: FitCohort, models: FittedModels) -> Reference:
    """Aggregates of the discovery cases alone."""
    rows = cohort.discovery()
    shape = (rows.size, len(cohort.preprocessing.phases))
    means, sds = np.empty(shape), np.empty(shape)
    descriptions: list[FloatArray] = []
    for place, row in enumerate(rows):  # one input at a time: a cohort does not fit into memory
        array = np.asarray(cohort.data.inputs[row], dtype=np.float64)
        voxels = array.reshape(shape[1], -1)
        means[place], sds[place] = voxels.mean(axis=1), voxels.std(axis=1)
        descriptions.append(describe_input(array))
    return Reference(
        models=tuple(fit.reference for fit in models.risk_fits),
        network_input=describe_inputs(means, sds, cohort.preprocessing.phases),
        log_risks=tuple(
            describe_log_risks(endpoint, [name.value for name in ENSEMBLE], models.standardised[endpoint])
            for endpoint in Endpoint
        ),
        clinical=describe_clinical([cohort.clinical[row] for row in rows]),
        novelty=fit_novelty(np.stack(descriptions)) if rows.size >= FEWEST_INPUTS else None,
    )
