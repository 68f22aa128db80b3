"""One night of the learning loop: train on what is new, compare with the running model on locked cases, write it down.

RUNS/
    locked.json                 who is locked, and every look at them
    nightly.lock                one night at a time
    RUN/                        one folder a state of cohort and recipe; a night that was ended goes on in it
        run.json                version and patients of the run
        snapshot/  fit/  model/ what was trained on, the fit folder, the candidate under its final name
        report.json report.html report.md
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import structlog

from engines.case import write_json
from engines.errors import MmfError
from engines.lock import hold_lock
from engines.models.model import Model
from engines.models.promotion import (
    CandidateRecord,
    Decision,
    promote_version,
    read_record,
    write_record,
)
from engines.models.store import ModelStore, load_model
from engines.network_input import Preprocessing
from engines.networks.settings import ENSEMBLE
from train.contest import Contest, Judgement, judge_contest
from train.fit import OUT_OF_FOLD, fit_cohort
from train.fit_cohort import read_fit_cohort
from train.fit_folder import ConcordanceRecord, Fit
from train.fit_plan import FitPlan
from train.gate import GateRules
from train.locked import Ledger, LockRules, assign_patients, read_ledger, write_ledger
from train.night_cohort import (
    FollowUpVerdict,
    NightCase,
    digest_cases,
    read_follow_up_verdict,
    read_kept_patients,
    read_night_cases,
    take_snapshot,
)
from train.release import ReleaseWords, release_fit

LOG = structlog.get_logger(__name__)

LOCK_NAME = "nightly.lock"
LEDGER_NAME = "locked.json"
RUN_NAME = "run.json"
REPORT_NAME = "report"

INTENDED_USE = (
    "Research: prognosis of overall and progression-free survival before immunotherapy of unresectable liver cancer, for the"
    " site whose patients it was trained on. Not for clinical decisions."
)


class NightStatus(StrEnum):
    """How a night ended."""

    JUDGED = "judged"
    """A candidate was trained, judged and installed."""
    NOTHING_NEW = "nothing new"
    """Too few new patients since the last run."""
    REFUSED = "refused"
    """The cohort must not be learned from; nothing was trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NightPlan:
    """One night.

    Attributes:
        cohort: exported cases.
        store: of the model versions; candidates land there, not in service.
        runs: folder of the nights.
        fit: how to train.
        gate: margin and power.
        locks: share and looks of the locked set.
        minimum_follow_up_months: patients who could be followed for less are not learned from, whatever happened to them.
        minimum_new_patients: fewer since the last run: no training.
        automatic: a candidate that the gate releases goes into service.
        allow_demonstration: whether that may be a model of phantoms.
    """

    cohort: Path
    store: Path
    runs: Path
    fit: FitPlan
    gate: GateRules = field(default_factory=GateRules)
    locks: LockRules = field(default_factory=LockRules)
    minimum_follow_up_months: float = 6.0
    minimum_new_patients: int = 20
    automatic: bool = False
    allow_demonstration: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NightReport:
    """What a night did and found: report.json.

    Attributes:
        version: of the candidate, "" when none was trained.
        running: version in service that it was compared with, "" = none.
        flow: counts of cases by what became of them, in order.
        looks: at the present locked set so far, and how many it bears.
        judgement: on the candidate; None = none was trained.
        own: C of the candidate's models on the cases it was trained on, out-of-fold.
        notes: what a reader must know.
        folder: of the run.
        promoted: whether the candidate went into service by itself.
    """

    status: NightStatus
    started: datetime
    version: str = ""
    running: str = ""
    flow: tuple[tuple[str, int], ...] = ()
    looks: tuple[int, int] = (0, 0)
    judgement: Judgement | None = None
    own: tuple[ConcordanceRecord, ...] = ()
    notes: tuple[str, ...] = ()
    folder: Path | None = None
    promoted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Night:
    """The cohort of a night, sorted; ``spoiled`` are patients kept for testing whom a model has learned from."""

    learning: tuple[NightCase, ...]
    locked: tuple[NightCase, ...]
    ledger: Ledger
    verdict: FollowUpVerdict
    flow: tuple[tuple[str, int], ...]
    spoiled: int


Tell = Callable[[str], None]


def run_nightly(
    plan: NightPlan, now: Callable[[], datetime], tell: Tell, *, executor: Executor | None = None
) -> NightReport:
    """Runs one night and returns its report; the candidate lies in the store afterwards, not in service.

    Args:
        plan: of the night.
        now: aware time.
        tell: is told of the progress, line by line.
        executor: of processes that train networks side by side; None trains them in turn.

    Raises:
        Busy: another night is under way.
        MmfError: the cohort, the store or the ledger is damaged, or training failed.
    """
    plan.runs.mkdir(parents=True, exist_ok=True)
    with hold_lock(plan.runs / LOCK_NAME, "nightly training"):
        started = now()
        store = ModelStore(plan.store)
        night = _gather(plan, store, started)
        tell(", ".join(f"{count} {word}" for word, count in night.flow))
        refusals = night.verdict.refusals
        if refusals and not night.verdict.accepted_by:
            return _stop(plan, night, NightStatus.REFUSED, started, refusals)
        folder = plan.runs / _name_run(plan.fit, night)
        stale = _explain_stale(plan, night, folder)
        if stale:
            return _stop(plan, night, NightStatus.NOTHING_NEW, started, (stale,))
        write_ledger(night.ledger, plan.runs / LEDGER_NAME)
        fit = _train(plan, night, folder, now, tell, executor)
        return _judge_and_install(plan, store, night, folder, fit, now)


def _gather(plan: NightPlan, store: ModelStore, now: datetime) -> _Night:
    """Sorts the cohort: locked or not, long enough followed or not, outcome known or not."""
    cases = read_night_cases(plan.cohort)
    learned: set[str] = set()
    for version in store.versions():
        record = read_record(store, version)
        learned |= {seen.patient_key for seen in record.cases} if record else set()
    kept = read_kept_patients(plan.cohort, cases)
    ledger = assign_patients(
        read_ledger(plan.runs / LEDGER_NAME),
        [one.identity.patient_key for one in cases],
        plan.locks,
        now,
        learned=frozenset(learned),
        kept=kept,
    )
    keys = ledger.locked()
    ripe = [one for one in cases if _followed_long_enough(one, plan.minimum_follow_up_months)]
    locked = tuple(one for one in ripe if one.identity.patient_key in keys and one.labelled)
    # who is kept for testing may leave the gate with a retired set, or never enter it, but trains nothing
    learning = tuple(one for one in ripe if one.identity.patient_key not in keys | kept)
    aside = sum(one.identity.patient_key in kept - keys for one in ripe)
    flow = (
        ("cases in the cohort", len(cases)),
        ("could not be followed long enough yet", len(cases) - len(ripe)),
        ("locked, with both outcomes", len(locked)),
        (
            "locked, outcome not known yet",
            sum(one.identity.patient_key in keys and not one.labelled for one in ripe),
        ),
        ("kept for testing by the site and not locked: never learned from", aside),
        ("to learn from, with both outcomes", sum(one.labelled for one in learning)),
        ("to learn from without outcome (autoencoder alone)", sum(not one.labelled for one in learning)),
    )
    return _Night(
        learning=learning,
        locked=locked,
        ledger=ledger,
        verdict=read_follow_up_verdict(plan.cohort),
        flow=flow,
        spoiled=len(kept & learned),
    )


def _name_run(fit: FitPlan, night: _Night) -> str:
    """The name of the run on these cases by this plan: a night that goes on after a change of recipe begins anew."""
    recipe = {
        name.value: [fit.recipe.settings[name].table(), asdict(fit.recipe.schedules[name])]
        for name in ENSEMBLE
    }
    words = [digest_cases(night.learning), recipe, fit.folds, fit.seed, asdict(fit.forest)]
    return hashlib.sha256(json.dumps(words, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _followed_long_enough(one: NightCase, months: float) -> bool:
    """By the start of treatment alone: what happened since must not decide who is learned from."""
    return one.potential_months is None or one.potential_months >= months


def _explain_stale(plan: NightPlan, night: _Night, folder: Path) -> str:
    """Why there is nothing to train on: too few patients whom no ended run knew; "" = there is enough."""
    if (folder / f"{REPORT_NAME}.json").is_file():
        return f"these cases were learned from and judged already, in {folder.name}"
    known: set[str] = set()
    for path in plan.runs.glob(f"*/{RUN_NAME}"):
        if (path.parent / f"{REPORT_NAME}.json").is_file():
            known |= set(json.loads(path.read_text(encoding="utf-8"))["patients"])
    fresh = len({one.identity.patient_key for one in night.learning if one.labelled} - known)
    if fresh >= plan.minimum_new_patients:
        return ""
    return f"{fresh} new patients since the last run, {plan.minimum_new_patients} are asked for"


def _stop(
    plan: NightPlan, night: _Night, status: NightStatus, started: datetime, notes: Sequence[str]
) -> NightReport:
    LOG.warning("no training tonight", status=status.value, reason="; ".join(notes))
    return NightReport(
        status=status,
        started=started,
        flow=night.flow,
        notes=(*notes, *_note_spoiled(night)),
        looks=_looks(plan, night.ledger),
    )


def _looks(plan: NightPlan, ledger: Ledger) -> tuple[int, int]:
    return (len(ledger.present.looks) if ledger.present else 0, plan.locks.looks)


def _train(
    plan: NightPlan,
    night: _Night,
    folder: Path,
    now: Callable[[], datetime],
    tell: Tell,
    executor: Executor | None,
) -> Fit:
    run = _begin_run(night, folder, now())
    tell(f"candidate {run.version}: {len(night.learning)} cases, in {folder}")
    take_snapshot(night.learning, folder / "snapshot")
    side = plan.fit.recipe.settings[ENSEMBLE[0]].side
    cohort = read_fit_cohort(folder / "snapshot", Preprocessing(side=side), seed=plan.fit.seed)
    return fit_cohort(cohort, plan.fit, folder / "fit", created=run.started, executor=executor, tell=tell)


def _judge_and_install(
    plan: NightPlan, store: ModelStore, night: _Night, folder: Path, fit: Fit, now: Callable[[], datetime]
) -> NightReport:
    run = _begin_run(night, folder, now())
    version, started = run.version, run.started
    candidate = _release(fit, folder / "model", version, started, night)
    running, running_record = _read_running(store)
    record = CandidateRecord(
        version=version, sha256=candidate.sha256, cases=tuple(one.seen for one in night.learning)
    )
    contest = Contest(
        candidate=candidate,
        record=record,
        running=running,
        running_record=running_record,
        locked=night.locked,
        own=tuple(entry for entry in fit.record.concordance if entry.rows == OUT_OF_FOLD),
    )
    path = plan.runs / LEDGER_NAME
    judged = judge_contest(contest, plan.gate, night.ledger, now, lambda ledger: write_ledger(ledger, path))
    store.install(folder / "model")
    write_record(
        store,
        replace(
            record,
            decision=judged.decision,
            reasons=judged.reasons,
            report=str(folder / f"{REPORT_NAME}.html"),
            at=now(),
        ),
    )
    promoted = _promote(plan, store, version, judged.decision, running is not None, now())
    LOG.info("night judged", candidate=version, decision=judged.decision.value, promoted=promoted)
    return NightReport(
        status=NightStatus.JUDGED,
        started=started,
        version=version,
        running=running.card.version if running else "",
        flow=night.flow,
        looks=_looks(plan, read_ledger(path)),
        judgement=judged,
        own=contest.own,
        notes=_note_cohort(night),
        folder=folder,
        promoted=promoted,
    )


def _note_cohort(night: _Night) -> tuple[str, ...]:
    """What a reader must know of the follow-up and of the training cases."""
    verdict, notes = night.verdict, []
    if verdict.completeness is None:
        notes.append(
            "completeness of follow-up is not known: the outcomes were not imported by mmf-node outcomes import"
        )
    else:
        notes.append(f"completeness of follow-up {verdict.completeness:.2f}")
    if verdict.refusals:
        notes.append(
            f"follow-up was refused and accepted by {verdict.accepted_by}: {'; '.join(verdict.refusals)}"
        )
    return (*notes, *_note_spoiled(night))


def _note_spoiled(night: _Night) -> tuple[str, ...]:
    if not night.spoiled:
        return ()
    return (
        f"{night.spoiled} patients whom the site keeps for testing were learned from before: what such a model says of them"
        " tests nothing",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    started: datetime
    version: str


def _begin_run(night: _Night, folder: Path, moment: datetime) -> _Run:
    """The start and version of the run: those of the night that began it, when this one goes on."""
    path = folder / RUN_NAME
    if path.is_file():
        content = json.loads(path.read_text(encoding="utf-8"))
        return _Run(started=datetime.fromisoformat(content["started"]), version=str(content["version"]))
    version = f"{moment:%Y%m%d-%H%M}-{folder.name[:6]}"
    patients = sorted(one.identity.patient_key for one in night.learning if one.labelled)
    write_json({"started": moment.isoformat(), "version": version, "patients": patients}, path)
    return _Run(started=moment, version=version)


def _release(fit: Fit, folder: Path, version: str, created: datetime, night: _Night) -> Model:
    if (folder / "manifest.json").is_file():
        return load_model(folder, allow_demonstration=True)
    limits = ["Trained by the nightly loop of one site; its locked patients were not learned from."]
    if night.verdict.accepted_by:
        limits.append(f"Follow-up was refused as incomplete and accepted by {night.verdict.accepted_by}.")
    shown = sum(one.shown for one in night.learning)
    if shown:
        limits.append(
            f"Of {shown} training patients an earlier result was shown: treatment may have followed it."
        )
    words = ReleaseWords(
        name="mmf", version=version, intended_use=INTENDED_USE, limits=tuple(limits), created=created
    )
    return release_fit(fit, folder, words)


def _read_running(store: ModelStore) -> tuple[Model | None, CandidateRecord | None]:
    history = store.history()
    if not history:
        return None, None
    model = load_model(store.current(), allow_demonstration=True)
    return model, read_record(store, history[-1].version)


def _promote(
    plan: NightPlan, store: ModelStore, version: str, decision: Decision, compared: bool, moment: datetime
) -> bool:
    """Puts a released candidate into service where the site has switched that on."""
    if not (plan.automatic and compared and decision is Decision.RELEASE):
        return False
    try:
        promote_version(
            store,
            version,
            since=moment,
            by="nightly (automatic)",
            allow_demonstration=plan.allow_demonstration,
        )
    except MmfError as error:
        LOG.warning("a released candidate could not go into service", version=version, reason=str(error))
        return False
    return True
