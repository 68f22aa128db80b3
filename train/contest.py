"""Candidate against running model: what is asked before the locked cases are read, and the reading itself."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from engines.mmf import ModelName
from engines.models.model import Model
from engines.models.promotion import CandidateRecord, Decision, unseen_cases
from train.fit_folder import ConcordanceRecord
from train.gate import GateRules, Verdict, judge_candidate, plan_power
from train.locked import Ledger, Look, end_look, note_look
from train.locked_scores import count_compared, score_locked
from train.night_cohort import NightCase

CHANCE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contest:
    """Two models and the cases that may be read to compare them.

    Attributes:
        candidate: the new model.
        record: of the candidate: version and the cases it has learned from.
        running: the model in service; None = there is none.
        running_record: what the store remembers of it; None = nothing.
        locked: locked cases with both outcomes.
        own: C of the candidate's models out-of-fold.
    """

    candidate: Model
    record: CandidateRecord
    running: Model | None
    running_record: CandidateRecord | None
    locked: tuple[NightCase, ...]
    own: tuple[ConcordanceRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What came of a contest.

    Attributes:
        planned_power: probability to release an equal model, from the number of cases to be compared alone.
        reasons: of the decision, in sentences.
        verdict: of the gate; None = the locked cases were not read.
        compared: which model of both was compared.
        notes: what a reader must know beside the decision.
    """

    decision: Decision
    reasons: tuple[str, ...]
    planned_power: float
    verdict: Verdict | None = None
    compared: str = ""
    notes: tuple[str, ...] = ()


def judge_contest(
    contest: Contest,
    rules: GateRules,
    ledger: Ledger,
    now: Callable[[], datetime],
    save: Callable[[Ledger], None],
) -> Judgement:
    """Returns the decision on a candidate; the locked cases are read only where the reading can decide something.

    Args:
        contest: models and cases.
        rules: of the gate.
        ledger: of the locked set in use.
        now: aware time.
        save: writes the ledger; called before the locked cases are read, and after.
    """
    records = [contest.record, *([contest.running_record] if contest.running_record else [])]
    unseen = {case.case_id for case in unseen_cases((one.seen for one in contest.locked), records)}
    cases = tuple(one for one in contest.locked if one.identity.case_id in unseen)
    notes = [*_note_overlap(len(contest.locked) - len(cases)), *_note_shown(cases)]
    compared = count_compared(cases, contest.candidate, contest.running)
    power = plan_power(compared, rules.margin)
    closed = _find_obstacle(contest, rules, (len(cases), compared), power)
    if closed is not None:
        decision, reason = closed
        return Judgement(
            decision=decision,
            reasons=(reason,),
            planned_power=power,
            notes=(*notes, "the locked cases were not read"),
        )
    running = contest.running.card.version if contest.running else ""
    look = Look(at=now(), candidate=contest.record.version, running=running, patients=len(cases))
    begun = note_look(ledger, look)
    save(begun)
    scores = score_locked(cases, contest.candidate, contest.running)
    verdict = judge_candidate(scores.rows, rules)
    save(end_look(begun, verdict.decision))
    if scores.left_out:
        notes.append(f"{scores.left_out} locked cases lack a variable of MMF and were not compared")
    return Judgement(
        decision=verdict.decision,
        reasons=verdict.reasons,
        planned_power=power,
        verdict=verdict,
        compared=scores.compared.value,
        notes=tuple(notes),
    )


def _find_obstacle(
    contest: Contest, rules: GateRules, counts: tuple[int, int], power: float
) -> tuple[Decision, str] | None:
    """Why the locked cases are not read; None when they are. ``counts``: of the cases, and of those to be compared."""
    cases, compared = counts
    for entry in contest.own:
        if entry.model != ModelName.MMF:
            continue
        interval = "" if entry.low is None else f" ({entry.low:.3f} to {entry.high:.3f})"
        words = f"{entry.endpoint}: C of MMF is {entry.value:.3f}{interval} out-of-fold"
        if entry.value <= CHANCE:
            return Decision.REFUSE, f"{words}: no better than chance"
        if entry.low is not None and entry.low <= CHANCE:
            return Decision.CANNOT_DECIDE, f"{words}: not clearly better than chance"
    if cases == 0:
        return Decision.CANNOT_DECIDE, "no locked case has both outcomes and is unseen by both models"
    if contest.running is not None and contest.running_record is None:
        return Decision.CANNOT_DECIDE, (
            f"the store does not know which cases the running model {contest.running.card.version} has learned from:"
            " install it with --trained-elsewhere if it has seen no patient of this site"
        )
    if power < rules.minimum_power:
        words = f"{compared} of {cases} locked cases have every variable of MMF"
        return Decision.CANNOT_DECIDE, (
            f"{words if compared < cases else f'{cases} locked cases'}: with a margin of {rules.margin:g} an equal model would be released in {power:.0%} of"
            f" tries, at least {rules.minimum_power:.0%} are asked for"
        )
    return None


def _note_overlap(dropped: int) -> list[str]:
    if not dropped:
        return []
    return [
        f"{dropped} locked cases were left out: one of the two models has learned from the patient or the images"
    ]


def _note_shown(cases: tuple[NightCase, ...]) -> list[str]:
    shown = sum(one.shown for one in cases)
    if not shown:
        return []
    return [
        f"a result of the node was shown for {shown} of {len(cases)} locked cases: treatment may have followed it, and the"
        " comparison favours the model that was shown"
    ]
