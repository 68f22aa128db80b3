"""One study from its received instances to a concluded report and its objects: this file is the product."""

from collections.abc import Callable
from pathlib import Path

import structlog

from engines.case import Case, replaced
from node.admission import choose_acquisitions, judge_request
from node.closing import conclude, gather_sources, seal
from node.explanation import explain_scores
from node.imaging import align_phases, measure_features, read_phases, segment_liver
from node.report.bundle import REPORT_NAME, write_objects
from node.report.json_form import write_json
from node.report.record import NotAssessable, ReasonCode, Report
from node.scoring import prepare_input, score_study
from node.steps import Progress, Steps, ignore_progress
from node.succession import says_the_same, tell_replacement
from node.walk import Request, Tools, Walk

log = structlog.get_logger(__name__)

PREPARATION: tuple[Callable[[Walk], NotAssessable | None], ...] = (
    judge_request,
    choose_acquisitions,
    read_phases,
    align_phases,
    segment_liver,
    measure_features,
)
"""What a cohort needs of a study too. Each stage adds to the walk, or gives the reason why there can be no risk."""

STAGES = (*PREPARATION, prepare_input, score_study, explain_scores)
"""Everything that comes before the report."""

_KEPT_FROM_THE_LOG = {ReasonCode.CLINICAL_ROW_INVALID: "it holds a patient's value: see report.json"}
"""Reasons whose words stay out of the operational log."""


def assess_study(
    request: Request, tools: Tools, case: Case, out: Path, progress: Progress = ignore_progress
) -> Report:
    """Returns the report of a study after writing its case folder and its result objects.

    A study that cannot be assessed has a report and objects too: the reason is their content. A study that nobody asked
    for has report.json alone where the site wants it so. Steps that an earlier run finished on the same input are not
    done again, and the same report gives the same objects with the same UIDs. Where the study had a result already and
    nothing that it rests on (images, clinical row, model) has changed, that earlier report comes back and nothing is
    written, unless an operator had the assessment repeated.

    Args:
        request: what is to be assessed.
        tools: models, rules, settings.
        case: folder of the case; made when missing.
        out: folder of the result objects and report.json.
        progress: told each step before it starts.

    Raises:
        MmfError: a fault that is not the study's: a damaged model, a full disk, an object that does not validate.
    """
    walk = Walk(request=request, tools=tools, case=case, steps=Steps(folder=case.folder, progress=progress))
    refusal = None
    for stage in STAGES:
        refusal = stage(walk)
        if refusal is not None or walk.stands:
            break
    earlier = request.earlier
    if earlier is not None:
        if walk.stands or says_the_same(earlier, refusal):
            log.info(
                "the earlier result stands: what came late does not change it",
                study=earlier.report.study_instance_uid,
                concluded_at=earlier.report.concluded_at.isoformat(),
            )
            return earlier.report
        walk.flags.append(tell_replacement(earlier))
    report = conclude(walk, refusal)
    if report.reason_code == ReasonCode.NOT_REQUESTED and not tools.report_unrequested:
        with replaced(out / REPORT_NAME) as draft:
            draft.write_text(write_json(report), encoding="utf-8")
    else:
        report = write_objects(report, gather_sources(walk), out)
    seal(walk)
    log.info(
        "study assessed",
        study=report.study_instance_uid,
        status=report.status.value,
        reason_code=report.reason_code.value if report.reason_code else None,
        reason=_KEPT_FROM_THE_LOG.get(report.reason_code, report.reason) if report.reason_code else None,
        phases={
            entry.phase.value: entry.series_instance_uid
            for entry in report.phases
            if entry.used and entry.phase
        },
        models=[f"{model.name} {model.version}" for model in report.models],
        seconds={name: round(seconds, 2) for name, seconds in report.seconds_per_step},
    )
    return report


def prepare_case(
    request: Request, tools: Tools, case: Case, progress: Progress = ignore_progress
) -> NotAssessable | None:
    """Writes the case folder of a study up to its features and returns None, or the reason why it can be no case.

    Nothing is scored and no object is made: this is what a cohort needs of a study. Steps that an earlier run finished on
    the same input are not done again.

    Args:
        request: what is to be prepared.
        tools: rules, segmenter, radiomics; no model is read.
        case: folder of the case; made when missing.
        progress: told each step before it starts.

    Raises:
        MmfError: a fault that is not the study's.
    """
    walk = Walk(request=request, tools=tools, case=case, steps=Steps(folder=case.folder, progress=progress))
    for stage in PREPARATION:
        refusal = stage(walk)
        if refusal is not None:
            return refusal
    seal(walk)
    return None
