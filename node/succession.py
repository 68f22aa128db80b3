"""Does a study that grew need another result? Pure: the earlier result and the new findings come in as data."""

from collections.abc import Sequence
from dataclasses import dataclass

from engines.phase import ASSESSED_PHASES, Phase
from node.phases.plan import PhasePlan
from node.report.record import NotAssessable, PhaseEntry, Report, Status
from node.study import Acquisition


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierResult:
    """The result of a study that a new one may replace.

    Attributes:
        document: SOP Instance UID and Series Instance UID of its Structured Report; None when it made no objects.
    """

    report: Report
    document: tuple[str, str] | None


def uses_same_passes(earlier: Report, plan: PhasePlan) -> bool:
    """Returns whether every phase was assessed on the pass of the scanner that would be used now.

    A reconstruction that came late is another picture of a pass that was used already: it replaces nothing. Slices that
    came late make another acquisition of the same series, and they do.

    Source: dicom.md, section 1 (a later reconstruction of a pass that was used already must not supersede anything).
    """
    if earlier.status != Status.ASSESSED:
        return False
    used = {entry.phase: entry for entry in earlier.phases if entry.used}
    return all(_same_pass(used.get(phase), plan, phase) for phase in ASSESSED_PHASES)


def says_the_same(earlier: Report, refusal: NotAssessable | None) -> bool:
    """Returns whether the earlier result gave no risk for the very reason that is given now."""
    if refusal is None or earlier.status != Status.NOT_ASSESSABLE:
        return False
    return (earlier.reason_code, earlier.reason) == (refusal.code, refusal.reason)


def tell_replacement(earlier: Report) -> str:
    """Returns the sentence that a result says about the one it replaces."""
    return f"this result replaces the one of {earlier.concluded_at:%Y-%m-%d %H:%M} UTC: the study has changed since"


def _same_pass(before: PhaseEntry | None, plan: PhasePlan, phase: Phase) -> bool:
    chosen = plan.chosen.get(phase)
    if before is None or chosen is None:
        return False
    siblings: Sequence[Acquisition] = next(
        (group for group in plan.passes if chosen.label in {member.label for member in group}), (chosen,)
    )
    return any(
        (member.series_instance_uid, len(member.instances)) == (before.series_instance_uid, before.slices)
        for member in siblings
    )
