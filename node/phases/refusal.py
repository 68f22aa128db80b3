"""Says why a phase of the method has no acquisition: none was taken, none was recognised, or the one there cannot be used."""

from node.phases.plan import PhasePlan
from node.report.record import NotAssessable, ReasonCode
from node.study import CT_STORAGE, PhaseFinding

MOST_LEFT_OUT = 4
"""Series that are named where nothing is a phase; the report lists all."""


def explain_missing(plan: PhasePlan, sure: float) -> NotAssessable:
    """Returns the reason of a study that lacks a phase, with the series and what is wrong with each.

    The code is that of the phase that is hardest to help: one that was never taken, then one that is not recognised, then
    one in another Frame of Reference, then one whose images are no regular stack.

    Args:
        plan: with at least one missing phase.
        sure: least probability of a phase that is used.
    """
    undecided = [finding for finding in plan.findings if finding.phase is None and finding.excluded is None]
    sentences: list[str] = []
    codes: set[ReasonCode] = set()
    for phase in plan.missing:
        found = [finding for finding in plan.findings if finding.phase == phase]
        for finding in found:
            codes.add(_code_of(finding, plan, sure))
            sentences.append(f"series {finding.acquisition.label} shows {phase.value} but {_told(finding)}")
        if found:
            continue
        codes.add(ReasonCode.AMBIGUOUS_PHASE if undecided else ReasonCode.MISSING_PHASE)
        verb = "is recognised as" if undecided else "shows the phase"
        sentences.append(f"no acquisition {verb} {phase.value}")
    if undecided:
        labels = ", ".join(finding.acquisition.label for finding in undecided)
        sentences.append(f"not determined: {labels}")
    sentences += [
        f"series {finding.acquisition.label} cannot be used: {finding.acquisition.refused}"
        for finding in plan.findings
        if finding.phase is None and finding.acquisition.refused and _is_image(finding)
    ]
    if all(finding.phase is None for finding in plan.findings):
        sentences += _told_left_out(plan)
    return NotAssessable(
        code=next(code for code in _HARDEST_FIRST if code in codes), reason="; ".join(sentences)
    )


_HARDEST_FIRST = (
    ReasonCode.MISSING_PHASE,
    ReasonCode.AMBIGUOUS_PHASE,
    ReasonCode.FRAME_OF_REFERENCE_DIFFERS,
    ReasonCode.VOLUME_REFUSED,
)


def _code_of(finding: PhaseFinding, plan: PhasePlan, sure: float) -> ReasonCode:
    """Why an acquisition of a missing phase was not taken."""
    if finding.acquisition.refused:
        return ReasonCode.VOLUME_REFUSED
    frames = {chosen.first.frame_of_reference_uid for chosen in plan.chosen.values()}
    if frames and finding.acquisition.first.frame_of_reference_uid not in frames:
        return ReasonCode.FRAME_OF_REFERENCE_DIFFERS
    if (finding.probability or 0.0) < sure:
        return ReasonCode.AMBIGUOUS_PHASE
    return ReasonCode.VOLUME_REFUSED


def _told(finding: PhaseFinding) -> str:
    excluded = finding.excluded or "not used"
    return f"is {excluded}" if excluded.startswith("not used") else f"cannot be used: {excluded}"


def _told_left_out(plan: PhasePlan) -> list[str]:
    """Why the images of a study in which nothing is a phase were left out."""
    told = [
        f"series {finding.acquisition.label} is left out: {finding.excluded}"
        for finding in plan.findings
        if finding.excluded and not finding.acquisition.refused and _is_image(finding)
    ]
    more = len(told) - MOST_LEFT_OUT
    return [*told[:MOST_LEFT_OUT], *([f"and {more} more"] if more > 0 else [])]


def _is_image(finding: PhaseFinding) -> bool:
    return finding.acquisition.first.sop_class_uid in CT_STORAGE
