"""One study from its received instances to a concluded report and its objects: this file is the product."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import SimpleITK as sitk
import structlog
from pydantic import TypeAdapter

from engines.case import (
    Case,
    CaseIdentity,
    PhaseSource,
    hash_file,
    replaced,
    seal_case,
    write_array,
    write_image,
    write_json,
    write_transform,
)
from engines.clinical.table import complete_age
from engines.clinical.variables import encode_variables
from engines.enhancement import Enhancement, measure_enhancement
from engines.errors import (
    InvalidInput,
    ModelRefused,
    NoLiverFound,
    RegistrationRefused,
    SegmentationRefused,
)
from engines.models.model import Scores
from engines.models.store import load_model
from engines.network_input import network_input
from engines.phase import ASSESSED_PHASES, REFERENCE_PHASE, Phase
from engines.radiomics.feature_file import write_features
from engines.radiomics.features import MaskSource, extract_features
from engines.registration import AlignmentQuality, align, invert
from engines.segmentation.lesions import PRIMARY_TUMOUR, measure_lesions
from engines.segmentation.quality import check_segmentation
from node.conclusion import (
    SegmentedLiver,
    describe_clinical,
    describe_missing,
    describe_model,
    describe_phases,
    describe_registration,
    describe_risk,
    describe_structures,
    draw_cohort_curves,
    draw_patient_curves,
    examined_on,
    flag_diameter,
    flag_scores,
)
from node.dicom.scanner import MANUFACTURER as SYNTHETIC_MANUFACTURER
from node.dicom.volumes import read_volume
from node.eligibility import judge_eligibility
from node.errors import SeriesRefused
from node.explanation import explain_scores
from node.identity import judge_study
from node.phases.acquisitions import split_acquisitions
from node.phases.plan import PhasePlan, list_candidates, plan_phases
from node.phases.refusal import explain_missing
from node.report.bundle import REPORT_NAME, write_objects
from node.report.json_form import write_json as write_report
from node.report.record import NotAssessable, ReasonCode, Report, Status
from node.report.sources import CohortCurve, PatientCurve, ReportSources, UsedAcquisition
from node.steps import Progress, Steps, digest_words, ignore_progress
from node.study import Acquisition
from node.succession import says_the_same, stands, tell_replacement
from node.walk import Request, Tools, Walk

log = structlog.get_logger(__name__)

MOST_FAULTS_SHOWN = 3
"""Of files that could not be read; all are counted."""
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
    for stage in _STAGES:
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
    report = _conclude(walk, refusal)
    if report.reason_code == ReasonCode.NOT_REQUESTED and not tools.report_unrequested:
        with replaced(out / REPORT_NAME) as draft:
            draft.write_text(write_report(report), encoding="utf-8")
    else:
        report = write_objects(report, _sources(walk), out)
    _seal(walk)
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
    for stage in _PREPARATION:
        refusal = stage(walk)
        if refusal is not None:
            return refusal
    _seal(walk)
    return None


def _judge_request(walk: Walk) -> NotAssessable | None:
    """Is it one patient's CT, is the clinical row the right one, and may a risk be given at all?"""
    images = walk.images
    unreadable = walk.request.study.unreadable
    if unreadable:
        shown = "; ".join(unreadable[:MOST_FAULTS_SHOWN])
        walk.flags.append(f"{len(unreadable)} files could not be read, slices may be missing: {shown}")
    refusal = judge_study(walk.received)
    if refusal is not None:
        return refusal
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


def _plan_phases(walk: Walk) -> NotAssessable | None:
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
                [version("mmf-node"), *_contents(acquisition)],
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
    if len(frames) > 1:
        return NotAssessable(
            code=ReasonCode.FRAME_OF_REFERENCE_DIFFERS,
            reason=f"the phases have {len(frames)} different Frames of Reference: their positions cannot be compared",
        )
    walk.stands = _earlier_stands(walk, plan)
    return None


def _earlier_stands(walk: Walk, plan: PhasePlan) -> bool:
    earlier, tools = walk.request.earlier, walk.tools
    if earlier is None or earlier.repeated:
        return False
    try:
        model = load_model(tools.model_folder, allow_demonstration=tools.allow_demonstration)
    except ModelRefused:
        return False  # the walk goes on and tells why
    return stands(earlier, plan, describe_clinical(walk.row), (describe_model(model.card, model.sha256),))


def _contents(acquisition: Acquisition) -> list[str]:
    """What a step that reads an acquisition depends on: which images in which order, and the bytes of their files."""
    paths = dict.fromkeys(instance.path for instance in acquisition.instances)
    places = [f"{instance.sop_instance_uid} {instance.frame_number}" for instance in acquisition.instances]
    return [acquisition.label, *places, *(hash_file(path) for path in paths)]


def _read_volumes(walk: Walk) -> NotAssessable | None:
    """The pixels of the three phases, as Hounsfield units on their native grids."""
    chosen = _chosen(walk)
    words = [version("mmf-node"), *(word for phase in ASSESSED_PHASES for word in _contents(chosen[phase]))]

    def produce() -> None:
        for phase in ASSESSED_PHASES:
            walk.volumes[phase] = read_volume(chosen[phase])
            write_image(walk.volumes[phase], walk.case.volume_path(phase))

    try:
        outputs = [walk.case.volume_path(phase) for phase in ASSESSED_PHASES]
        walk.steps.run("volumes", words, produce, TypeAdapter(None), outputs)
    except SeriesRefused as refused:
        return NotAssessable(code=ReasonCode.VOLUME_REFUSED, reason=str(refused))
    for phase in ASSESSED_PHASES:
        if phase not in walk.volumes:
            walk.volumes[phase] = walk.case.read_volume(phase)
    return None


def _align_phases(walk: Walk) -> NotAssessable | None:
    """Arterial and delayed are laid on the portal venous phase; a poor fit is a reason to stop."""
    fixed = walk.volumes[REFERENCE_PHASE]
    walk.transforms[REFERENCE_PHASE] = sitk.Transform(3, sitk.sitkIdentity)
    for phase in ASSESSED_PHASES:
        if phase == REFERENCE_PHASE:
            continue
        path = walk.case.transform_path(phase)

        def produce(phase: Phase = phase, path: Path = path) -> AlignmentQuality:
            alignment = align(walk.volumes[phase], fixed)
            write_transform(alignment.transform, path)
            return alignment.quality

        try:
            walk.registration[phase] = walk.steps.run(
                f"align-{phase.value}",
                [version("mmf-node"), walk.steps.digest("volumes")],
                produce,
                TypeAdapter(AlignmentQuality),
                [path],
            )
        except RegistrationRefused as refused:
            return NotAssessable(code=ReasonCode.POOR_REGISTRATION, reason=f"{phase.value}: {refused}")
        walk.transforms[phase] = walk.case.read_transform(phase)
        walk.inverses[phase] = invert(walk.transforms[phase], fixed.grid)
    return None


def _segment(walk: Walk) -> NotAssessable | None:
    """Liver and lesions on the portal venous grid; an implausible liver is a reason to stop."""
    case = walk.case

    def produce() -> SegmentedLiver:
        volume = walk.volumes[REFERENCE_PHASE]
        found = walk.tools.segmenter.segment(volume)
        quality = check_segmentation(found, volume)
        write_image(found.liver, case.mask_path("liver"))
        write_image(found.lesions, case.mask_path("lesions"))
        return SegmentedLiver(
            provider=found.provider,
            version=found.version,
            liver_ml=quality.liver_volume_ml,
            lesions=measure_lesions(found.lesions),
        )

    try:
        walk.segmented = walk.steps.run(
            "segment",
            [
                version("mmf-node"),
                walk.tools.segmenter.provider,
                walk.tools.segmenter.version,
                walk.steps.digest("volumes"),
            ],
            produce,
            TypeAdapter(SegmentedLiver),
            [case.mask_path("liver"), case.mask_path("lesions")],
        )
    except NoLiverFound as refused:
        return NotAssessable(code=ReasonCode.NO_LIVER, reason=str(refused))
    except SegmentationRefused as refused:
        return NotAssessable(code=ReasonCode.IMPLAUSIBLE_LIVER, reason=str(refused))
    walk.flags += flag_diameter(walk.row, walk.segmented)
    liver = case.read_mask("liver")
    walk.liver = replace(liver, array=liver.array.astype(bool))
    walk.lesions = case.read_mask("lesions")
    if not walk.segmented.lesions:
        walk.flags.append(
            "no tumour was found by the segmentation; tumour measurements and features are missing"
        )
    return None


def _chosen(walk: Walk) -> Mapping[Phase, Acquisition]:
    if walk.plan is None:
        raise InvalidInput("volumes were asked for before the phases")
    return walk.plan.chosen


def _extract_features(walk: Walk) -> NotAssessable | None:
    """Radiomic features of liver and primary tumour in every phase, into features.csv; what cannot be measured is flagged.

    Source: method, section 7 (liver and primary tumour); the primary tumour is the largest lesion (OURS).
    """
    settings = walk.tools.radiomics
    if settings is None or walk.liver is None or walk.lesions is None or walk.segmented is None:
        return None
    regions = {"liver": walk.liver}
    if walk.segmented.lesions:
        regions["tumour"] = replace(walk.lesions, array=walk.lesions.array == PRIMARY_TUMOUR)
    source = MaskSource(provider=walk.segmented.provider, version=walk.segmented.version)

    def produce() -> tuple[str, ...]:
        table = extract_features(
            walk.volumes, walk.transforms, regions, settings, sources=dict.fromkeys(regions, source)
        )
        write_features(table, walk.case.features_path)
        return tuple(
            f"radiomics of {one.region} in {one.phase or 'any phase'}: {one.reason}" for one in table.refusals
        )

    walk.flags += walk.steps.run(
        "features",
        [version("mmf-node"), settings.sha256, *_placed(walk)],
        produce,
        TypeAdapter(tuple[str, ...]),
        [walk.case.features_path],
    )
    return None


def _placed(walk: Walk) -> list[str]:
    """What every derived grid depends on: pixels, alignments, masks."""
    moved = [f"align-{phase.value}" for phase in ASSESSED_PHASES if phase != REFERENCE_PHASE]
    return [walk.steps.digest(name) for name in ("volumes", *moved, "segment")]


def _prepare_input(walk: Walk) -> NotAssessable | None:
    """The model in service, and the liver box of the three phases as it wants it."""
    tools = walk.tools
    try:
        model = load_model(tools.model_folder, allow_demonstration=tools.allow_demonstration)
    except ModelRefused as refused:
        return NotAssessable(code=ReasonCode.MODEL_NOT_ALLOWED, reason=str(refused))
    walk.model = model
    liver = walk.liver
    if liver is None:
        raise InvalidInput("the network input was asked for before the segmentation")

    def produce() -> None:
        array = network_input(walk.volumes, walk.transforms, liver, model.card.preprocessing)
        write_array(array, walk.case.network_input_path)

    try:
        walk.steps.run(
            "input",
            [version("mmf-node"), repr(model.card.preprocessing), *_placed(walk)],
            produce,
            TypeAdapter(None),
            [walk.case.network_input_path],
        )
    except RegistrationRefused as refused:
        return NotAssessable(code=ReasonCode.POOR_REGISTRATION, reason=str(refused))
    return None


def _score(walk: Walk) -> NotAssessable | None:
    """The three networks, Ensemble-DL, and MMF where every clinical variable that it needs is known."""
    model, row = walk.model, walk.row
    if model is None:
        raise InvalidInput("the scores were asked for before the model")
    clinical = None if row is None else row.variables
    known = None if clinical is None else encode_variables(clinical)
    form = TypeAdapter(Scores)
    walk.scores = walk.steps.run(
        "score",
        [model.sha256, walk.steps.digest("input"), json.dumps(known)],
        lambda: model.score(walk.case.read_network_input(), clinical),
        form,
    )
    write_json(form.dump_python(walk.scores, mode="json"), walk.case.folder / "scores.json")
    walk.steps.outputs.add(walk.case.folder / "scores.json")
    if known is not None:
        write_json(known, walk.case.folder / "clinical.json")
        walk.steps.outputs.add(walk.case.folder / "clinical.json")
    walk.flags += flag_scores(model, walk.scores)
    return None


_PREPARATION: tuple[Callable[[Walk], NotAssessable | None], ...] = (
    _judge_request,
    _plan_phases,
    _read_volumes,
    _align_phases,
    _segment,
    _extract_features,
)
_STAGES = (*_PREPARATION, _prepare_input, _score, explain_scores)


def _conclude(walk: Walk, refusal: NotAssessable | None) -> Report:
    """Returns the report; its date and time are set once and kept for every later run on the same findings."""
    plan, scores = walk.plan, walk.scores
    report = Report(
        study_instance_uid=walk.request.study.study_instance_uid,
        status=Status.ASSESSED if refusal is None else Status.NOT_ASSESSABLE,
        concluded_at=datetime.min.replace(tzinfo=UTC),
        reason_code=None if refusal is None else refusal.code,
        reason="" if refusal is None else refusal.reason,
        phases=() if plan is None else describe_phases(plan.findings),
        structures=() if walk.segmented is None else describe_structures(walk.segmented),
        risks=() if scores is None else tuple(describe_risk(one) for one in scores.endpoints),
        models=() if walk.model is None else (describe_model(walk.model.card, walk.model.sha256),),
        clinical=describe_clinical(walk.row),
        missing=_describe_missing(walk),
        flags=tuple(dict.fromkeys(walk.flags)),
        registration=describe_registration(walk.registration),
        software_version=version("mmf-node"),
        synthetic=any(one.manufacturer == SYNTHETIC_MANUFACTURER for one in walk.images),
    )
    form = TypeAdapter(Report)
    concluded_at = walk.steps.run(
        "conclude", [form.dump_json(report).decode()], walk.tools.now, TypeAdapter(datetime)
    )
    seconds = tuple((done.name, done.seconds) for done in walk.steps.done)
    return replace(report, concluded_at=concluded_at, seconds_per_step=seconds)


def _describe_missing(walk: Walk) -> tuple[str, ...]:
    """What was not there; a row that is not believed, or was not yet looked at, is not called missing."""
    given = walk.request.row
    if isinstance(given, NotAssessable):
        return ("clinical variables: the row of this patient is not believed",)
    return describe_missing(walk.row or given, walk.scores)


def _sources(walk: Walk) -> ReportSources:
    """What the objects are drawn from."""
    used = tuple(
        UsedAcquisition(
            phase=phase,
            acquisition=acquisition,
            volume=walk.volumes[phase],
            to_reference=walk.inverses.get(phase),
        )
        for phase, acquisition in ({} if walk.plan is None else walk.plan.chosen).items()
        if phase in walk.transforms
    )
    instances = walk.images or walk.request.study.instances
    segmented = REFERENCE_PHASE in {one.phase for one in used}
    cohort_curves: tuple[CohortCurve, ...] = ()
    patient_curves: tuple[PatientCurve, ...] = ()
    if walk.model is not None and walk.scores is not None:
        cohort_curves = draw_cohort_curves(walk.model, walk.scores)
        clinical = None if walk.row is None else walk.row.variables
        patient_curves = draw_patient_curves(walk.model, walk.scores, clinical)
    return ReportSources(
        instance=instances[0],
        used=used,
        liver=walk.liver if segmented else None,
        lesions=walk.lesions if segmented else None,
        cohort_curves=cohort_curves,
        patient_curves=patient_curves,
        saliency=walk.saliency,
        predecessor=None if walk.request.earlier is None else walk.request.earlier.document,
    )


def _seal(walk: Walk) -> None:
    """Makes the case folder a whole: identity and the hash of every file."""
    chosen = {} if walk.plan is None else walk.plan.chosen
    findings = () if walk.plan is None else walk.plan.findings
    seconds = {finding.acquisition.label: finding.seconds_after_injection for finding in findings}
    patient = walk.request.study.patient
    study = walk.request.study.study_instance_uid
    segmented = walk.segmented
    seal_case(
        walk.case,
        CaseIdentity(
            case_id=digest_words([study])[:16],
            patient_key=digest_words([patient.issuer_of_patient_id, patient.patient_id])[:32],
            study=study,
            synthetic=any(one.manufacturer == SYNTHETIC_MANUFACTURER for one in walk.images),
            mask_provider="" if segmented is None else f"{segmented.provider} {segmented.version}".strip(),
            phases={
                phase: PhaseSource(
                    series=acquisition.series_instance_uid,
                    part=acquisition.part,
                    seconds_after_injection=seconds.get(acquisition.label),
                )
                for phase, acquisition in chosen.items()
                if phase in ASSESSED_PHASES
            },
        ),
        walk.steps.outputs,
    )
