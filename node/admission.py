"""Is a study one that may be assessed, and which of its acquisitions show the three phases? The first stages of the pipeline."""

from dataclasses import replace
from importlib.metadata import version

from pydantic import TypeAdapter

from engines.clinical.table import complete_age
from engines.enhancement import Enhancement, measure_enhancement
from engines.errors import ModelRefused
from engines.models.store import load_model
from engines.phase import ASSESSED_PHASES
from node.conclusion import describe_clinical, describe_model, examined_on
from node.dicom.volumes import read_volume
from node.eligibility import judge_eligibility
from node.errors import SeriesRefused
from node.identity import flag_names, judge_study
from node.phases.acquisitions import split_acquisitions
from node.phases.plan import PhasePlan, list_candidates, plan_phases
from node.phases.refusal import explain_missing
from node.report.record import NotAssessable, ReasonCode
from node.steps import digest_words
from node.study import Acquisition
from node.succession import stands
from node.walk import Walk, digest_acquisition

MOST_FAULTS_SHOWN = 3
"""Of files that could not be read; all are counted."""


def judge_request(walk: Walk) -> NotAssessable | None:
    """Is it one patient's CT, is the clinical row the right one, and may a risk be given at all?"""
    images = walk.images
    unreadable = walk.request.study.unreadable
    if unreadable:
        shown = "; ".join(unreadable[:MOST_FAULTS_SHOWN])
        walk.flags.append(f"{len(unreadable)} files could not be read, slices may be missing: {shown}")
    refusal = judge_study(walk.received)
    if refusal is not None:
        return refusal
    walk.flags += flag_names(images)
    row = walk.request.row
    if isinstance(row, NotAssessable):
        return row
    examined = examined_on(images)
    walk.row = row if row is None or examined is None else complete_age(row, examined)
    eligibility = judge_eligibility(
        walk.row,
        requested=walk.request.requested,
        examined_on=examined,
        maximum_scan_age_weeks=walk.tools.maximum_scan_age_weeks,
    )
    walk.flags += eligibility.flags
    return eligibility.refusal


def choose_acquisitions(walk: Walk) -> NotAssessable | None:
    """Which acquisition shows which phase: headers, order, texts, and the enhancement measured in the pixels."""
    acquisitions = split_acquisitions(walk.received)
    rules = walk.tools.phase_rules
    hounsfield: dict[str, dict[str, float]] = {}
    unreadable: dict[str, str] = {}
    for acquisition in list_candidates(acquisitions, rules):

        def produce(chosen: Acquisition = acquisition) -> Enhancement:
            return measure_enhancement(read_volume(chosen))

        try:
            found = walk.steps.run(
                f"enhancement-{digest_words([acquisition.label])[:12]}",
                [version("mmf-node"), *digest_acquisition(acquisition)],
                produce,
                TypeAdapter(Enhancement),
            )
        except SeriesRefused as refused:
            unreadable[acquisition.label] = str(refused).removeprefix(f"{acquisition.label}: ")
            continue
        hounsfield[acquisition.label] = found.medians()
    acquisitions = tuple(replace(one, refused=unreadable.get(one.label, one.refused)) for one in acquisitions)
    plan = walk.plan = plan_phases(acquisitions, hounsfield, rules, walk.request.overrides)
    if plan.missing:
        return explain_missing(plan, rules.decision.used)
    frames = {walk.plan.chosen[phase].first.frame_of_reference_uid for phase in ASSESSED_PHASES}
    if len(frames) > 1 or "" in frames:
        told = (
            f"have {len(frames)} different Frames of Reference"
            if any(frames)
            else "name no Frame of Reference"
        )
        return NotAssessable(
            code=ReasonCode.FRAME_OF_REFERENCE_DIFFERS,
            reason=f"the phases {told}: their positions cannot be compared",
        )
    walk.flags += _flag_lossy(plan)
    walk.stands = _earlier_stands(walk, plan)
    return None


def _flag_lossy(plan: PhasePlan) -> tuple[str, ...]:
    spoiled = [
        phase.value
        for phase in ASSESSED_PHASES
        if any(instance.lossy for instance in plan.chosen[phase].instances)
    ]
    if not spoiled:
        return ()
    return (
        f"images of {', '.join(spoiled)} were compressed with loss: Hounsfield units and features are not as scanned",
    )


def _earlier_stands(walk: Walk, plan: PhasePlan) -> bool:
    earlier, tools = walk.request.earlier, walk.tools
    if earlier is None or earlier.repeated:
        return False
    try:
        model = load_model(tools.model_folder, allow_demonstration=tools.allow_demonstration)
    except ModelRefused:
        return False  # the walk goes on and tells why
    return stands(earlier, plan, describe_clinical(walk.row), (describe_model(model.card, model.sha256),))
