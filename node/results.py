"""The results folder of the node: what earlier jobs of a study left there, and the report of an assessment that failed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import structlog
from pydantic import TypeAdapter, ValidationError
from pydicom import dcmread

from engines.case import replaced
from engines.errors import InvalidInput
from node.dicom.headers import READ_FAULTS
from node.dicom.scanner import MANUFACTURER as SYNTHETIC_MANUFACTURER
from node.job import Job, JobState
from node.ports import JobStore
from node.report.bundle import REPORT_NAME, write_objects
from node.report.json_form import read_json, write_json
from node.report.record import ReasonCode, Report, Status
from node.report.sources import ReportSources
from node.study import CT_STORAGE, Study
from node.succession import EarlierResult, find_standing, tell_standing

log = structlog.get_logger(__name__)

_GIVEN = frozenset({JobState.SENDING, JobState.CONFIRMING, JobState.DONE, JobState.UNCONFIRMED})
"""Jobs in these states have a result that the archive has or will get."""
KEPT_NAME = "replaced.json"
"""What a job that is assessed again had given before, in the folder of its results."""
_READ_OF_A_DOCUMENT = ("SOPInstanceUID", "SeriesInstanceUID", "CurrentRequestedProcedureEvidenceSequence")


def find_earlier_result(jobs: JobStore, results: Path, job: Job) -> EarlierResult | None:
    """Returns the result that stands for the study of a job until now, None when it has none.

    It is the job's own, when the archive has it and an operator had the job taken up again; else the latest one that was
    given to the archive, or will be, among the jobs that this one supersedes. It never stands when the job was concluded
    before: an operator wants another look. The job's own is written down beside its files, which every try clears: the
    archive has it still when a try is broken off. What lies there and never reached the archive, nor will, is passed over.

    Args:
        jobs: the queue.
        results: folder of results, one folder a job.
        job: that is about to be assessed.
    """
    repeated = bool(job.outcome)
    found = _keep_own(jobs, results, job) if job.shown_at is not None else None
    for before in _list_superseded(jobs, results, job):
        if found is None:
            found = before
        elif found.failed and found.standing is None and not before.failed:
            found = replace(found, standing=find_standing(before))
        if not found.failed or found.standing is not None:
            break
    return None if found is None else replace(found, repeated=repeated)


def _list_superseded(jobs: JobStore, results: Path, job: Job) -> Iterator[EarlierResult]:
    """The results that the archive has or will get of the jobs that this one supersedes, the latest first."""
    number = job.supersedes
    while number is not None:
        earlier = jobs.get(number)
        if earlier.shown_at is not None or earlier.state in _GIVEN:
            found = _read_latest(jobs, results, earlier)
            if found is not None:
                yield found
        number = earlier.supersedes


def _keep_own(jobs: JobStore, results: Path, job: Job) -> EarlierResult | None:
    """The latest result of a job that the archive has, which is written down beside it."""
    found = _read_latest(jobs, results, job)
    if found is None or found.document is None:
        return None
    with replaced(results / str(job.job_id) / KEPT_NAME) as draft:
        draft.write_bytes(TypeAdapter(EarlierResult).dump_json(found))
    return found


def _read_latest(jobs: JobStore, results: Path, job: Job) -> EarlierResult | None:
    """The latest result of a job that the archive has or will get: as it lies there, or as an earlier try wrote it down.

    A report that tells a failure keeps what it left standing: its files have taken the place of that result's.
    """
    folder = results / str(job.job_id)
    found, written = read_result(folder), _read_kept(folder)
    if found is not None and job.state not in _GIVEN:
        stored = jobs.stored_objects(job.job_id)
        found = found if found.document is not None and found.document[0] in stored else None
    if written is None:
        return found
    if found is None or found.document is None:
        return written
    if found.failed and written.document != found.document:
        return replace(found, standing=find_standing(written))
    return written if found.failed else found


def _read_kept(folder: Path) -> EarlierResult | None:
    kept = folder / KEPT_NAME
    try:
        return TypeAdapter(EarlierResult).validate_json(kept.read_bytes()) if kept.is_file() else None
    except ValidationError as error:
        log.warning("an earlier result cannot be read and is not named as predecessor", error=str(error))
        return None


def read_result(folder: Path) -> EarlierResult | None:
    """Returns the result in a folder, None when there is none that can be read."""
    path = folder / REPORT_NAME
    if not path.is_file():
        return None
    try:
        report = read_json(path.read_text(encoding="utf-8"))
        document = next((folder / entry.path for entry in report.objects if entry.kind == "SR"), None)
        if document is None:
            return EarlierResult(report=report, document=None)
        header = dcmread(document, specific_tags=list(_READ_OF_A_DOCUMENT))
        return EarlierResult(
            report=report,
            document=(str(header.SOPInstanceUID), str(header.SeriesInstanceUID)),
            images=frozenset(
                str(entry.ReferencedSOPInstanceUID)
                for study in header.get("CurrentRequestedProcedureEvidenceSequence", ())
                for series in study.ReferencedSeriesSequence
                for entry in series.ReferencedSOPSequence
            ),
        )
    except (InvalidInput, *READ_FAULTS) as error:
        log.warning("an earlier result cannot be read and is not named as predecessor", error=str(error))
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An assessment that ended in an error.

    Attributes:
        study_instance_uid: of the study.
        study: what could be read of it; None when nothing could.
        reason: the error in words.
        told: whether objects for the archive are made: somebody had asked for the assessment.
        earlier: the study's latest result, which is named: one that tells a failure is replaced, any other stands.
    """

    study_instance_uid: str
    study: Study | None
    reason: str
    told: bool
    earlier: EarlierResult | None = None


def write_failure(failure: Failure, out: Path, now: Callable[[], datetime]) -> Report:
    """Returns the report of a failure after writing report.json and, where somebody is to be told, its objects.

    The objects say that there is no risk, why, and what to do; a radiologist who waits for a result finds them in the
    archive. They are made again with other UIDs when the assessment fails for another reason.

    Args:
        failure: what happened.
        out: folder of the results.
        now: aware UTC.

    Raises:
        ObjectInvalid: an object does not validate.
        OSError: the disk is full.
    """
    study = failure.study
    received = () if study is None else tuple(one for one in study.instances if not one.ours)
    images = tuple(one for one in received if one.sop_class_uid in CT_STORAGE)
    earlier = failure.earlier
    standing = find_standing(earlier)
    report = Report(
        study_instance_uid=failure.study_instance_uid,
        status=Status.FAILED,
        concluded_at=now(),
        reason_code=ReasonCode.PROCESSING_FAILED,
        reason=" ".join(failure.reason.split()),
        flags=() if standing is None else (tell_standing(standing),),
        software_version=version("mmf-node"),
        synthetic=any(one.manufacturer == SYNTHETIC_MANUFACTURER for one in images),
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / REPORT_NAME).write_text(write_json(report), encoding="utf-8")
    if failure.told and images:
        failed_before = earlier.document if earlier is not None and earlier.failed else None
        sources = ReportSources(
            instance=images[0],
            predecessors=() if failed_before is None else (failed_before,),
            standing=None if standing is None else standing.document,
        )
        report = write_objects(report, sources, out)
    log.error(
        "assessment failed",
        study=report.study_instance_uid,
        reason=report.reason,
        objects=len(report.objects),
    )
    return report
