"""Does a study that grew need another result? Pure: the earlier result and the new findings come in as data."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from engines.phase import ASSESSED_PHASES, Phase
from node.phases.plan import PhasePlan
from node.report.record import ClinicalEntry, ModelEntry, NotAssessable, PhaseEntry, Report, Status
from node.report.sources import DocumentPlace
from node.study import Acquisition


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingResult:
    """A result that an attempt which failed left standing.

    Attributes:
        document: SOP Instance UID and Series Instance UID of its Structured Report.
        concluded_at: aware UTC.
    """

    document: DocumentPlace
    concluded_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierResult:
    """The result of a study that a new one may replace.

    Attributes:
        document: SOP Instance UID and Series Instance UID of its Structured Report; None when it made no objects.
        images: SOP Instance UIDs of all that the document names as its evidence, the used slices among them.
        repeated: an operator had the assessment repeated: a new result is made, whatever it says.
        standing: of a report that tells a failure, the result before it, which it did not replace; None when there is none.
    """

    report: Report
    document: DocumentPlace | None
    images: frozenset[str] = frozenset()
    repeated: bool = False
    standing: StandingResult | None = None

    @property
    def failed(self) -> bool:
        """Whether it tells a failure: it replaces nothing but other failures."""
        return self.report.status == Status.FAILED


def stands(
    earlier: EarlierResult,
    plan: PhasePlan,
    clinical: Sequence[ClinicalEntry],
    models: Sequence[ModelEntry],
) -> bool:
    """Returns whether a risk given earlier rests on all that a new one would rest on.

    Args:
        earlier: the result until now.
        plan: the acquisitions that would be used now.
        clinical: the variables of the patient's row as it is now.
        models: the models that are in service now.
    """
    if earlier.repeated or (earlier.report.clinical, earlier.report.models) != (
        tuple(clinical),
        tuple(models),
    ):
        return False
    return uses_same_passes(earlier, plan)


def uses_same_passes(earlier: EarlierResult, plan: PhasePlan) -> bool:
    """Returns whether every phase was assessed on the pass of the scanner that would be used now.

    A reconstruction that came late is another picture of a pass that was used already: it replaces nothing. Slices that
    came late make another acquisition of the same series, and they do. A series of several passes is compared image by
    image, for its parts may be of equal length and are numbered anew when one more comes.

    Source: dicom.md, section 1 (a later reconstruction of a pass that was used already must not supersede anything).
    """
    if earlier.report.status != Status.ASSESSED:
        return False
    used = {entry.phase: entry for entry in earlier.report.phases if entry.used}
    return all(_same_pass(used.get(phase), earlier.images, plan, phase) for phase in ASSESSED_PHASES)


def says_the_same(earlier: EarlierResult, refusal: NotAssessable | None) -> bool:
    """Returns whether the earlier result gave no risk for the very reason that is given now, and nobody had it repeated."""
    report = earlier.report
    if refusal is None or earlier.repeated or report.status != Status.NOT_ASSESSABLE:
        return False
    return (report.reason_code, report.reason) == (refusal.code, refusal.reason)


def tell_replacement(earlier: EarlierResult) -> str:
    """Returns the sentence that a result says about the one it replaces."""
    if earlier.failed:
        why = "that attempt failed"
    elif earlier.repeated:
        why = "the assessment was repeated on an operator's word"
    else:
        why = "the study has changed since"
    told = f"this result replaces the one of {_tell_time(earlier.report.concluded_at)}: {why}"
    if earlier.standing is None:
        return told
    return f"{told}, and the one of {_tell_time(earlier.standing.concluded_at)}, which stood until now"


def list_replaced(earlier: EarlierResult) -> tuple[DocumentPlace, ...]:
    """Returns the documents that a result with a conclusion replaces: the latest, and what stood beside a failure."""
    standing = None if earlier.standing is None else earlier.standing.document
    return tuple(place for place in (earlier.document, standing) if place is not None)


def find_standing(earlier: EarlierResult | None) -> StandingResult | None:
    """Returns the result that stays valid when the new attempt fails; None when no earlier one can be named."""
    if earlier is None or earlier.failed:
        return None if earlier is None else earlier.standing
    if earlier.document is None:
        return None
    return StandingResult(document=earlier.document, concluded_at=earlier.report.concluded_at)


def tell_standing(standing: StandingResult) -> str:
    """Returns the sentence that the report of a failure says about the result that it does not replace."""
    return (
        f"the result of {_tell_time(standing.concluded_at)} stands: this attempt failed and does not replace it"
        f" (Structured Report {standing.document[0]})"
    )


def _tell_time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _same_pass(before: PhaseEntry | None, images: frozenset[str], plan: PhasePlan, phase: Phase) -> bool:
    """Part and images agree: a part alone may be another one by now, an image alone may hold the frames of all parts."""
    chosen = plan.chosen.get(phase)
    if before is None or chosen is None:
        return False
    siblings: Sequence[Acquisition] = next(
        (group for group in plan.passes if chosen.label in {member.label for member in group}), (chosen,)
    )
    return any(
        (member.series_instance_uid, member.part, len(member.instances))
        == (before.series_instance_uid, before.part, before.slices)
        and images.issuperset(instance.sop_instance_uid for instance in member.instances)
        for member in siblings
    )
