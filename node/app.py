"""The composition root: the only file that knows every room. It makes the node's parts from the settings."""

import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from pydicom.dataset import Dataset

from engines.configuration import find_conf
from engines.errors import InvalidInput
from engines.phase import Phase
from node.completeness import CompletenessRules
from node.dicom.commitment import CommittingDestination
from node.dicom.reception.access import Caller, ListenerSettings
from node.dicom.send import PeerAddress, Restatement, SendSettings, StorageDestination
from node.errors import InstanceRefused
from node.job import Job
from node.log import configure_log
from node.nightly import SETTINGS_NAME, NightlyPlan, this_program
from node.ports import FAILED, UNCHANGED, UNREQUESTED, Assess, Conclusion, TellFailure
from node.processes import DATABASE_NAME, INBOX_NAME, ServicePlan
from node.settings import Settings, write_settings
from node.steps import Progress, ignore_progress
from node.storage.inbox import locate_study
from node.storage.jobs import SqliteJobs
from node.worker import WorkRules

if TYPE_CHECKING:  # these import the engines, which the receiver process must not
    from engines.clinical.table import ClinicalRow
    from node.cohort.sources import NodeFolders, Prepare
    from node.report.record import NotAssessable, Report
    from node.study import Study
    from node.succession import EarlierResult
    from node.walk import Tools

log = structlog.get_logger(__name__)

COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
"""Source: PS3.4 B.5."""

CASES_NAME = "cases"
RESULTS_NAME = "results"
COHORT_NAME = "cohort"
NIGHTLY_NAME = "nightly"

MOST_PLACES_LOGGED = 20
"""Of the faults of the clinical table; ``mmf-node check`` lists all."""


def plan_service(settings: Settings) -> ServicePlan:
    """Returns everything ``serve`` needs."""
    listener, storage, work = settings.listener, settings.storage, settings.worker
    return ServicePlan(
        data=storage.data,
        listener=ListenerSettings(
            ae_title=listener.ae_title,
            address="127.0.0.1" if listener.address == "localhost" else listener.address,
            port=listener.port,
            callers=tuple(
                Caller(
                    ae_title=peer.ae_title,
                    network=ip_network(peer.address, strict=False) if peer.address else None,
                )
                for peer in listener.allowed
            ),
            maximum_associations=listener.maximum_associations,
            maximum_pdu_bytes=listener.maximum_pdu_bytes,
            pdu_seconds=listener.pdu_timeout_seconds,
            idle_seconds=listener.idle_timeout_seconds,
        ),
        completeness=CompletenessRules(
            quiet_seconds=settings.completeness.quiet_seconds,
            settle_seconds=settings.completeness.settle_seconds,
        ),
        work=WorkRules(
            lease_seconds=work.lease_seconds,
            assessment_tries=work.maximum_tries,
            delivery_tries=settings.destination.maximum_tries,
            first_retry_seconds=settings.destination.first_retry_seconds,
            longest_retry_seconds=settings.destination.longest_retry_seconds,
        ),
        workers=work.processes,
        minimum_free_bytes=int(storage.minimum_free_gib * 2**30),
        keep_days=storage.keep_days,
        build_assess=partial(build_assess, settings),
        build_tell_failure=partial(build_tell_failure, settings),
        build_destination=partial(build_destination, settings),
        prepare_process=partial(prepare_process, settings.worker.threads),
        remove_results=partial(remove_results, storage.data),
        nightly=plan_nightly(settings),
    )


def plan_nightly(settings: Settings) -> NightlyPlan | None:
    """Returns what runs at night, None when the learning loop is switched off.

    Finished studies are exported first, so that the training sees them; outcomes are imported by a person.
    """
    learning, data = settings.learning, settings.storage.data.resolve()
    if not learning.enabled or settings.models.folder is None:
        return None
    runs = (learning.runs or data / NIGHTLY_NAME).resolve()
    cohort = (learning.cohort or data / COHORT_NAME).resolve()
    train = [
        *("nightly", "--cohort", str(cohort), "--store", str(settings.models.folder.resolve())),
        *("--runs", str(runs), "--recipe", learning.recipe, "--margin", str(learning.margin)),
        *("--minimum-power", str(learning.minimum_power), "--looks", str(learning.looks)),
        *("--locked-share", str(learning.locked_share), "--minimum-new", str(learning.minimum_new_patients)),
        *("--minimum-follow-up", str(learning.minimum_follow_up_months)),
        *(("--automatic",) if learning.automatic else ()),
        *(("--allow-demo-models",) if settings.models.allow_demonstration else ()),
    ]
    export = this_program("node", "export", "--conf", str(runs / SETTINGS_NAME))
    return NightlyPlan(
        hour=learning.hour,
        time_zone=learning.time_zone,
        commands=(*((export,) if learning.export else ()), this_program("train.cli", *train)),
        folder=runs,
        settings=write_settings(settings),
    )


def prepare_process(threads: int) -> None:
    """Sets logging and threads of a child process, first of all."""
    prepare_threads(threads)
    configure_log("json", logging.INFO)


def prepare_threads(threads: int) -> None:
    """Sets the number of threads of numpy, torch and ITK; to be called before they are imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(threads)
    os.environ.setdefault("MPLBACKEND", "Agg")


def build_destination(settings: Settings) -> StorageDestination | None:
    """Returns the archive that gets the results, or None when none is set."""
    destination = settings.destination
    if not destination.host:
        return None
    comprehensive = Restatement(sop_class_uid=COMPREHENSIVE_SR, restate=restate_report)
    kind = CommittingDestination if destination.commitment else StorageDestination
    return kind(
        peer=PeerAddress(host=destination.host, port=destination.port, ae_title=destination.ae_title),
        settings=SendSettings(ae_title=settings.listener.ae_title),
        restatements={COMPREHENSIVE_3D_SR: comprehensive},
    )


def restate_report(document: Dataset) -> Dataset:
    """Returns the Structured Report for an archive that takes no Comprehensive 3D SR; imports what builds reports."""
    from node.report.sr.document import restate_as_comprehensive

    return restate_as_comprehensive(document)


def build_assess(settings: Settings) -> Assess:
    """Returns the function that a worker calls for each job; it imports the engines, torch among them when scoring."""
    return partial(assess_job, settings)


def assess_job(settings: Settings, job: Job) -> Conclusion:
    """Assesses the study of a job from the inbox; the case and the objects lie in the data folder under its number."""
    from node.results import find_earlier_result

    data = settings.storage.data
    out = data / RESULTS_NAME / str(job.job_id)
    with SqliteJobs(data / DATABASE_NAME) as jobs:
        earlier = find_earlier_result(jobs, data / RESULTS_NAME, job)
    report = assess_folder(
        settings,
        replace(_request_of(settings, job), earlier=earlier),
        case_folder=data / CASES_NAME / str(job.job_id),
        out=out,
    )
    if earlier is not None and report is earlier.report:
        return Conclusion(objects=out, outcome=UNCHANGED)
    versions = ", ".join(f"{model.name} {model.version}" for model in report.models)
    unrequested = report.reason_code == "not_requested" and not report.objects
    return Conclusion(
        objects=out,
        outcome=UNREQUESTED if unrequested else report.status.value,
        model_version=versions,
    )


def build_tell_failure(settings: Settings) -> TellFailure:
    """Returns the function that a worker calls for a job whose every try failed."""
    return partial(tell_job_failure, settings)


def tell_job_failure(settings: Settings, job: Job, error: str) -> Conclusion:
    """Writes the report of a job that failed for good; the archive is told where somebody had asked for the study."""
    from node.results import find_earlier_result

    data = settings.storage.data
    out = data / RESULTS_NAME / str(job.job_id)
    with SqliteJobs(data / DATABASE_NAME) as jobs:
        earlier = find_earlier_result(jobs, data / RESULTS_NAME, job)
    tries = "1 try" if job.attempt == 0 else f"{job.attempt + 1} tries"
    request = replace(_request_of(settings, job), earlier=earlier)
    tell_failure(settings, request, f"the assessment failed after {tries}: {error}", out)
    return Conclusion(objects=out, outcome=FAILED, error=error)


def tell_failure(settings: Settings, request: "FolderRequest", reason: str, out: Path) -> "Report | None":
    """Returns the report of an assessment that failed, after writing it; None when not even the study is known."""
    from node.results import Failure, write_failure

    clear_results(out)
    study, uid = None, request.study_instance_uid
    try:
        study = read_study(request.folder, uid)
        uid = study.study_instance_uid
    except InstanceRefused as refused:
        log.warning("nothing of a study can be read", study=uid, reason=str(refused))
    if not uid:
        return None
    told = request.requested or (study is not None and _has_row(settings, study))
    failure = Failure(study_instance_uid=uid, study=study, reason=reason, told=told, earlier=request.earlier)
    return write_failure(failure, out, read_clock)


def _has_row(settings: Settings, study: "Study") -> bool:
    """Whether the patient stands in the clinical table; a file that is no table asks for nobody."""
    try:
        return find_row(settings, study) is not None
    except InvalidInput as error:
        log.warning("the clinical table cannot be read", error=str(error))
        return False


def _request_of(settings: Settings, job: Job) -> "FolderRequest":
    return FolderRequest(
        folder=locate_study(settings.storage.data / INBOX_NAME, job.study_instance_uid),
        study_instance_uid=job.study_instance_uid,
        requested=settings.assessment.requested_by == "any",
    )


def remove_results(data: Path, job: Job) -> None:
    """Removes the case folder and the result objects of a job."""
    for name in (CASES_NAME, RESULTS_NAME):
        shutil.rmtree(data / name / str(job.job_id), ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderRequest:
    """A study that lies in a folder.

    Attributes:
        folder: searched recursively for DICOM files.
        study_instance_uid: "" when the folder must hold exactly one study.
        requested: asked for by an operator or a site's rule.
        overrides: an operator's word: acquisition label by phase.
        earlier: the study's result until now.
    """

    folder: Path
    study_instance_uid: str = ""
    requested: bool = False
    overrides: Mapping[Phase, str] = field(default_factory=dict)
    earlier: "EarlierResult | None" = None


def assess_folder(
    settings: Settings,
    request: FolderRequest,
    *,
    case_folder: Path,
    out: Path,
    progress: Progress = ignore_progress,
) -> "Report":
    """Assesses the study in a folder and returns its report; the case and the objects are written.

    Raises:
        InstanceRefused: the folder holds no DICOM study, or several.
        InvalidInput: the file of the clinical table is none, or an override does not fit.
        ModelRefused: the model folder is damaged.
    """
    from engines.case import Case
    from node.pipeline import assess_study
    from node.walk import Request

    clear_results(out)
    progress("headers")
    study = read_study(request.folder, request.study_instance_uid)
    return assess_study(
        Request(
            study=study,
            row=find_row(settings, study),
            requested=request.requested,
            overrides=request.overrides,
            earlier=request.earlier,
        ),
        make_tools(settings),
        Case(folder=case_folder),
        out,
        progress,
    )


def clear_results(out: Path) -> None:
    """Removes the result of an earlier run, so that a run that fails leaves no report of another study behind.

    Raises:
        InvalidInput: ``out`` is not a folder.
    """
    if out.exists() and not out.is_dir():
        raise InvalidInput(f"{out} is not a folder")
    for name in ("report.json", "report.pdf"):
        (out / name).unlink(missing_ok=True)
    for name in ("dicom", "pages"):
        shutil.rmtree(out / name, ignore_errors=True)


def read_study(folder: Path, study_instance_uid: str = "") -> "Study":
    """Returns the study in a folder; files that are no DICOM or cannot be read are logged and left out.

    Raises:
        InstanceRefused: no DICOM instance, or several studies and none is named.
    """
    from node.dicom.headers import read_folder
    from node.study import Study

    found, refused = read_folder(folder)
    instances = tuple(one for one in found if one.study_instance_uid)
    torn = [one.path.name for one in found if not one.study_instance_uid]
    unreadable = [reason for _, reason in refused]
    unreadable += [f"{name} names no study: truncated, or not an image of a patient" for name in torn]
    uids = sorted({instance.study_instance_uid for instance in instances})
    if study_instance_uid:
        instances = tuple(one for one in instances if one.study_instance_uid == study_instance_uid)
    elif len(uids) > 1:
        raise InstanceRefused(f"{folder} holds {len(uids)} studies, expected one: {', '.join(uids)}")
    if not instances:
        reasons = "; ".join(unreadable[:3])
        raise InstanceRefused(
            f"{folder} holds no DICOM instance that can be read{': ' + reasons if reasons else ''}"
        )
    return Study(
        study_instance_uid=instances[0].study_instance_uid,
        instances=instances,
        unreadable=tuple(unreadable),
    )


def find_row(settings: Settings, study: "Study") -> "ClinicalRow | NotAssessable | None":
    """Returns the patient's row of the clinical table, checked; None without table or row.

    Rows with faults are left out with a line in the log; when one of them may be this patient's, the reason comes back.

    Raises:
        InvalidInput: the file is no clinical table at all.
    """
    from engines.clinical.table import read_clinical_table
    from node.clinical.matching import match_row

    if settings.clinical.table is None:
        return None
    table = read_clinical_table(settings.clinical.table)
    if table.faults:
        log.warning(
            "rows of the clinical table have faults and are left out",
            table=settings.clinical.table.name,
            faults=len(table.faults),
            places=[fault.place for fault in table.faults[:MOST_PLACES_LOGGED]],
        )
    return match_row(table, study.patient)


def list_node_folders(settings: Settings) -> "NodeFolders":
    """Returns where the node of these settings keeps its jobs, cases and received studies."""
    from node.cohort.sources import NodeFolders

    data = settings.storage.data
    return NodeFolders(database=data / DATABASE_NAME, cases=data / CASES_NAME, inbox=data / INBOX_NAME)


def build_prepare(settings: Settings) -> "Prepare":
    """Returns the function that makes the case folder of a study for a cohort; no model takes part."""
    from engines.case import Case
    from node.pipeline import prepare_case
    from node.walk import Request

    tools = make_tools(settings, find_conf("models/demo"))

    def prepare(
        study: "Study", row: "ClinicalRow | None", folder: Path, progress: Progress
    ) -> "NotAssessable | None":
        request = Request(study=study, row=row, requested=True)
        return prepare_case(request, tools, Case(folder=folder), progress)

    return prepare


def make_tools(settings: Settings, model: Path | None = None) -> "Tools":
    """Returns models, rules and engines for an assessment; ``model`` instead of the model in service."""
    from engines.radiomics.settings import read_settings as read_radiomics_settings
    from engines.segmentation.baseline import BaselineSegmenter
    from node.phases.rules import load_rules
    from node.walk import Tools

    return Tools(
        phase_rules=load_rules(settings.assessment.phase_rules),
        segmenter=BaselineSegmenter(),
        radiomics=read_radiomics_settings(find_conf("radiomics.yaml"))
        if settings.assessment.radiomics
        else None,
        activation_maps=settings.assessment.activation_maps,
        model_folder=find_model(settings) if model is None else model,
        allow_demonstration=settings.models.allow_demonstration,
        maximum_scan_age_weeks=settings.assessment.maximum_scan_age_weeks,
        report_unrequested=settings.assessment.report_unrequested,
        now=read_clock,
    )


def find_model(settings: Settings) -> Path:
    """Returns the folder of the model in service: the one set, or the packaged demonstration model."""
    from engines.models.store import MANIFEST, ModelStore

    folder = settings.models.folder
    if folder is None:
        return find_conf("models/demo")
    if (folder / MANIFEST).is_file():
        return folder
    return ModelStore(folder).current()


def read_clock() -> datetime:
    """Returns this moment, aware UTC."""
    return datetime.now(UTC)
