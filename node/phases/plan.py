"""Decides the phase of every acquisition of a study, with probability and reasons, and which ones are used."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from engines.errors import InvalidInput
from engines.phase import ASSESSED_PHASES, REFERENCE_PHASE, Phase
from node.phases.exclusion import coverage_mm, exclude_acquisition, is_soft_kernel
from node.phases.passes import VESSELS, Candidate, Pass, group_passes, read_candidates
from node.phases.rules import STATES, PhaseRules
from node.phases.sequence import Matrix, PassEvidence, infer_phases
from node.study import Acquisition, PhaseFinding

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhasePlan:
    """What was decided about a study.

    Attributes:
        findings: one for every acquisition, in the order given.
        chosen: the acquisition used for each phase that has one.
        missing: phases of the method (A, V, D) that have none.
        passes: the acquisitions of each pass of the scanner: reconstructions of one pass stand together.
    """

    findings: tuple[PhaseFinding, ...]
    chosen: Mapping[Phase, Acquisition]
    missing: tuple[Phase, ...]
    passes: tuple[tuple[Acquisition, ...], ...] = ()


def list_candidates(acquisitions: Sequence[Acquisition], rules: PhaseRules) -> tuple[Acquisition, ...]:
    """Returns the acquisitions that may be a phase and can be used: those whose pixels are worth measuring."""
    return tuple(
        acquisition for acquisition in acquisitions if exclude_acquisition(acquisition, rules) is None
    )


def plan_phases(
    acquisitions: Sequence[Acquisition],
    hounsfield: Mapping[str, Mapping[str, float]],
    rules: PhaseRules,
    overrides: Mapping[Phase, str] | None = None,
    *,
    geometry: bool = True,
) -> PhasePlan:
    """Returns the phase of every acquisition of one study and the acquisitions to use.

    Args:
        acquisitions: all of the study, as ``split_acquisitions`` returns them.
        hounsfield: median HU by structure (``aorta``, ``portal_vein``, ...), by ``Acquisition.label``; those not measured
            are absent.
        rules: of phases.toml.
        overrides: the operator's choice, ``SERIES_UID`` or ``SERIES_UID:PART`` by phase; it wins over all evidence.
        geometry: False where only descriptions are known; then nothing is refused for its geometry.

    Raises:
        InvalidInput: an override names no acquisition of the study, or one that is no regular stack of CT slices.
    """
    fixed = _check_overrides(acquisitions, overrides or {})
    exclusions = {
        acquisition.label: exclude_acquisition(acquisition, rules, geometry=geometry)
        for acquisition in acquisitions
        if acquisition.label not in fixed
    }
    passing = [a for a in acquisitions if (found := exclusions.get(a.label)) is None or found.is_phase]
    candidates = read_candidates(passing, hounsfield, fixed, rules)
    grouped = group_passes(candidates, rules)
    posterior = infer_phases(weigh_evidence(grouped.passes, with_pixels=True), grouped.order_from, rules)
    blind = posterior
    if hounsfield:
        blind = infer_phases(weigh_evidence(grouped.passes, with_pixels=False), grouped.order_from, rules)
    findings: dict[str, PhaseFinding] = {}
    for index, item in enumerate(grouped.passes):
        place = _tell_place(index, grouped.passes, grouped.order_from)
        for member in item.members:
            finding = _judge(member, item, posterior[index], blind[index], place, rules)
            out = exclusions.get(member.acquisition.label)
            findings[member.acquisition.label] = replace(
                finding, excluded=out.reason if out is not None else None
            )
    for acquisition in acquisitions:
        out = exclusions.get(acquisition.label)
        if acquisition.label not in findings and out is not None:
            findings[acquisition.label] = PhaseFinding(
                acquisition=acquisition,
                phase=None,
                probability=None,
                used=False,
                excluded=out.reason,
                reasons=(),
            )
    chosen = _choose(findings, [list(item.members) for item in grouped.passes], fixed, rules)
    ordered = tuple(findings[acquisition.label] for acquisition in acquisitions)
    missing = tuple(phase for phase in ASSESSED_PHASES if phase not in chosen)
    log.info(
        "phases planned",
        acquisitions=len(ordered),
        chosen=len(chosen),
        missing=[str(phase) for phase in missing],
    )
    passes = tuple(tuple(member.acquisition for member in item.members) for item in grouped.passes)
    return PhasePlan(findings=ordered, chosen=chosen, missing=missing, passes=passes)


def weigh_evidence(passes: Sequence[Pass], *, with_pixels: bool) -> list[PassEvidence]:
    """What the passes say, with or without their pixels."""
    return [
        PassEvidence(
            likelihood=tuple(a * b for a, b in zip(item.others, item.pixels, strict=True))
            if with_pixels
            else item.others,
            text=item.text,
            start_seconds=item.start_seconds,
        )
        for item in passes
    ]


def _check_overrides(acquisitions: Sequence[Acquisition], overrides: Mapping[Phase, str]) -> dict[str, Phase]:
    """Returns the operator's phases by label; refuses what cannot be."""
    known = {acquisition.label: acquisition for acquisition in acquisitions}
    fixed: dict[str, Phase] = {}
    for phase, label in overrides.items():
        if label not in known:
            choices = ", ".join(known) or "none"
            raise InvalidInput(
                f"--phase {phase.lower()}={label}: no such acquisition in the study; there are {choices}"
            )
        if known[label].refused:
            raise InvalidInput(f"--phase {phase.lower()}={label} cannot be used: {known[label].refused}")
        if label in fixed:
            raise InvalidInput(
                f"--phase names {label} as {fixed[label]} and as {phase}; one acquisition is one phase"
            )
        fixed[label] = phase
    return fixed


def _tell_place(index: int, passes: Sequence[Pass], order_from: str) -> str:
    """The place of a pass in the study, in words."""
    words = f"pass {index + 1} of {len(passes)} by {order_from.replace('_', ' ')}"
    before, here = passes[index - 1].start_seconds if index else None, passes[index].start_seconds
    if before is not None and here is not None:
        words += f", {here - before:.0f} s after the one before"
    return words


def _judge(
    member: Candidate, item: Pass, row: Matrix, blind: Matrix, place: str, rules: PhaseRules
) -> PhaseFinding:
    """Turns the posterior of a pass into the finding of one of its acquisitions."""
    reasons = [*item.reasons, place]
    vessels = tuple(sorted(member.hounsfield.items()))
    measured = [
        f"{name.replace('_', ' ')} {member.hounsfield[name]:.0f} HU"
        for name in VESSELS
        if name in member.hounsfield
    ]
    if measured:
        reasons.append(", ".join(measured))
    best = max(Phase, key=lambda phase: row[STATES.index(phase.value)])
    probability = float(row[STATES.index(best.value)])
    phase: Phase | None = best
    if probability < rules.decision.named:
        phase = None
        rivals = sorted(((float(p), s) for s, p in zip(STATES, row, strict=True)), reverse=True)[:2]
        told = ", ".join(f"{state} {share:.2f}" for share, state in rivals)
        reasons.append(f"not determined: {told}; {rules.decision.named:.2f} is needed")
    elif item.pixels[STATES.index(best.value)] < rules.decision.contradicted:
        phase = None
        reasons.append(f"not determined: text or times say {best}, pixels contradict")
    elif min(item.pixels) == 1.0 and item.text[STATES.index(best.value)] < rules.text.doubtful:
        phase = None
        reasons.append(f"not determined: times say {best}, text contradicts, and no pixels decide")
    elif best == Phase.DELAYED and blind[STATES.index(best.value)] < rules.decision.without_pixels_delayed:
        phase = None
        reasons.append("not determined: only pixels speak for DELAYED, and they never decide it alone")
    return PhaseFinding(
        acquisition=member.acquisition,
        phase=phase,
        probability=probability,
        used=False,
        excluded=None,
        reasons=tuple(reasons),
        seconds_after_injection=member.time.seconds_after_injection,
        hounsfield=vessels,
    )


def _choose(
    findings: dict[str, PhaseFinding],
    passes: Sequence[Sequence[Candidate]],
    fixed: Mapping[str, Phase],
    rules: PhaseRules,
) -> dict[Phase, Acquisition]:
    """Marks the acquisitions to use, at most one a phase, and says of the others why they are not."""
    chosen: dict[Phase, Acquisition] = {}
    home = _frame_of_reference(findings, fixed, rules)
    for phase in Phase:
        rivals = [
            finding for finding in findings.values() if finding.phase == phase and finding.excluded is None
        ]
        able: list[PhaseFinding] = []
        for finding in rivals:
            label = finding.acquisition.label
            why = "" if label in fixed else _why_not(finding, phase, fixed, home, rules)
            if why:
                findings[label] = replace(finding, excluded=f"not used, because {why}")
            else:
                able.append(finding)
        if not able:
            continue
        ranked = sorted(able, key=lambda finding: _preference(finding, passes, fixed, rules), reverse=True)
        best, label = ranked[0], ranked[0].acquisition.label
        findings[label] = replace(best, used=True)
        chosen[phase] = best.acquisition
        for finding in ranked[1:]:
            same = any(
                {label, finding.acquisition.label} <= {m.acquisition.label for m in item} for item in passes
            )
            what = "another reconstruction of this pass" if same else f"another {phase} pass"
            better = _tell_better(best.acquisition, finding.acquisition, rules)
            findings[finding.acquisition.label] = replace(
                finding, excluded=f"not used, because {what} is preferred: {label}{better}"
            )
    return chosen


def _frame_of_reference(
    findings: Mapping[str, PhaseFinding], fixed: Mapping[str, Phase], rules: PhaseRules
) -> str | None:
    """The Frame of Reference UID that the used phases share: that of most phases, the reference phase first."""
    votes: dict[str, set[Phase]] = {}
    for finding in findings.values():
        sure = finding.acquisition.label in fixed or (finding.probability or 0.0) >= rules.decision.used
        if finding.phase is not None and finding.excluded is None and sure:
            votes.setdefault(finding.acquisition.first.frame_of_reference_uid, set()).add(finding.phase)
    if not votes:
        return None
    return max(votes, key=lambda uid: (len(votes[uid] & set(ASSESSED_PHASES)), REFERENCE_PHASE in votes[uid]))


def _why_not(
    finding: PhaseFinding, phase: Phase, fixed: Mapping[str, Phase], home: str | None, rules: PhaseRules
) -> str:
    """Why a named acquisition is not used at all, "" when it may be."""
    if phase in fixed.values():
        return "the operator chose another acquisition for this phase"
    if (finding.probability or 0.0) < rules.decision.used:
        shown = math.floor(1000 * (finding.probability or 0.0)) / 1000
        return f"its probability {shown:.3f} is below {rules.decision.used:.2f}"
    if home is not None and finding.acquisition.first.frame_of_reference_uid != home:
        return "its Frame of Reference differs from that of the other phases"
    return ""


def _preference(
    finding: PhaseFinding,
    passes: Sequence[Sequence[Candidate]],
    fixed: Mapping[str, Phase],
    rules: PhaseRules,
) -> tuple[float, float, float]:
    """Sorting key among the acquisitions of one phase: operator, then reconstruction, then the surer and later pass."""
    label = finding.acquisition.label
    rank = next(i for i, item in enumerate(passes) if label in {member.acquisition.label for member in item})
    later = rank if finding.phase == Phase.ARTERIAL else -rank
    return float(label in fixed), score_reconstruction(finding.acquisition, rules), float(later)


def score_reconstruction(acquisition: Acquisition, rules: PhaseRules) -> float:
    """Returns how well a reconstruction suits the assessment: soft kernel, thickness, coverage, original images.

    Args:
        acquisition: a regular stack.
        rules: weights of ``[choice]``.
    """
    weights, first = rules.choice, acquisition.first
    score = weights.soft_kernel if is_soft_kernel(first, rules) else 0.0
    if first.image_type[:2] == ("ORIGINAL", "PRIMARY"):
        score += weights.original
    if first.slice_thickness_mm:
        score -= weights.thickness_weight * abs(
            math.log(first.slice_thickness_mm / weights.best_thickness_mm)
        )
    return score + weights.coverage_weight * min(coverage_mm(acquisition), 300.0) / 100.0


def _tell_better(best: Acquisition, other: Acquisition, rules: PhaseRules) -> str:
    """Both scores in words."""
    return (
        f" (score {score_reconstruction(best, rules):.2f} against {score_reconstruction(other, rules):.2f})"
    )
