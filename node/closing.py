"""The end of a study's way: the report, what its objects are drawn from, and the sealed case folder."""

from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version

from pydantic import TypeAdapter

from engines.case import CaseIdentity, PhaseSource, seal_case
from engines.phase import ASSESSED_PHASES, REFERENCE_PHASE
from node.conclusion import (
    describe_clinical,
    describe_missing,
    describe_model,
    describe_phases,
    describe_registration,
    describe_risk,
    describe_structures,
    draw_cohort_curves,
    draw_patient_curves,
)
from node.dicom.scanner import MANUFACTURER as SYNTHETIC_MANUFACTURER
from node.report.record import NotAssessable, Report, Status
from node.report.sources import CohortCurve, PatientCurve, ReportSources, UsedAcquisition
from node.steps import digest_words
from node.succession import list_replaced
from node.walk import Walk


def conclude(walk: Walk, refusal: NotAssessable | None) -> Report:
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
        missing=_list_missing(walk),
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


def gather_sources(walk: Walk) -> ReportSources:
    """Returns what the objects are drawn from."""
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
        predecessors=() if walk.request.earlier is None else list_replaced(walk.request.earlier),
    )


def seal(walk: Walk) -> None:
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


def _list_missing(walk: Walk) -> tuple[str, ...]:
    """What was not there; a row that is not believed, or was not yet looked at, is not called missing."""
    given = walk.request.row
    if isinstance(given, NotAssessable):
        return ("clinical variables: the row of this patient is not believed",)
    return describe_missing(walk.row or given, walk.scores)
