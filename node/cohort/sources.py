"""Where cases come from: finished studies of the node, and folders of DICOM studies."""

import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from engines.case import Case, CaseIdentity, check_case, hash_file, missing_phases
from engines.clinical.table import ClinicalRow
from engines.errors import CaseRefused
from node.cohort.case import ResultUse
from node.cohort.pseudonymise import Pseudonyms
from node.cohort.selection import Exclusion
from node.dicom.headers import read_folder
from node.errors import InstanceRefused
from node.job import Job, JobState
from node.ports import FAILED, UNCHANGED
from node.report.record import NotAssessable, ReasonCode, Status
from node.steps import Progress
from node.storage.inbox import locate_study
from node.storage.jobs import SqliteJobs
from node.study import CT_STORAGE, Instance, Study

log = structlog.get_logger(__name__)

_UNDER_WAY = frozenset({JobState.WAITING, JobState.RUNNING})
_LEAVES_EARLIER_RESULT = frozenset({"", UNCHANGED, FAILED})
"""Outcomes of ended jobs that make no result for a case: the one of an earlier job stands."""


class Prepare(Protocol):
    """Makes the case folder of a study; returns why it cannot be a case, or None."""

    def __call__(
        self, study: Study, row: ClinicalRow | None, folder: Path, progress: Progress, /
    ) -> NotAssessable | None:
        """Writes ``folder``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A study whose case folder is whole, or why it is not."""

    case: Case | None = None
    identity: CaseIdentity | None = None
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoundStudy:
    """A study that may become a case.

    Attributes:
        name: for the operator: the job's number or the folder.
        make: gives the case folder; long for a folder of DICOM.
        discard: removes what ``make`` left, once the case is written.
        refusal: why the study cannot be a case whatever its clinical row says; "" = it may be one.
        revision: which result is taken although the newest job has none; "" = that of the newest.
    """

    name: str
    study: Study
    images: tuple[Instance, ...]
    make: Callable[[ClinicalRow | None, Progress], Prepared]
    discard: Callable[[], None]
    result: ResultUse
    refusal: str = ""
    revision: str = ""

    def digest(self, pseudonyms: Pseudonyms, *words: str) -> str:
        """Returns the keyed hash of the study's images and of ``words``: another hash is another source."""
        files = sorted(hash_file(path) for path in {image.path for image in self.images})
        words = (*words, self.revision) if self.revision else words
        return pseudonyms.digest("source", *files, *words)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFolders:
    """Where a node keeps its jobs (database), case folders and received studies."""

    database: Path
    cases: Path
    inbox: Path


def find_finished_studies(
    folders: NodeFolders, prepare: Prepare, pseudonyms: Pseudonyms, work: Path
) -> tuple[FoundStudy, ...]:
    """Returns every study of a node that has a job, each with the case folder of the job whose result stands.

    A study without such a job is among them, with the reason as its ``refusal``. A study whose case folder is damaged, or
    ends before the features because nobody had asked for a risk, is prepared from its images like a folder of DICOM.

    Args:
        folders: of the node; without a database there is no study.
        prepare: makes a case folder.
        pseudonyms: name the folders in which studies are prepared.
        work: private folder for them.
    """
    if not folders.database.exists():
        return ()
    by_study: dict[str, list[Job]] = defaultdict(list)
    with SqliteJobs(folders.database) as jobs:
        for job in jobs.find():
            by_study[job.study_instance_uid].append(job)
    found: list[FoundStudy] = []
    for own in sorted(by_study.values(), key=lambda own: max(job.job_id for job in own)):
        own.sort(key=lambda job: job.job_id, reverse=True)
        job, refusal = _choose_job(own)
        folder = folders.cases / str(job.job_id)
        if not refusal and not (folder / "case.json").is_file():
            named = job.outcome == Status.NOT_ASSESSABLE
            refusal = Status.NOT_ASSESSABLE.value if named else Exclusion.NO_CASE_FOLDER.value
        instances = () if refusal else read_folder(locate_study(folders.inbox, job.study_instance_uid))[0]
        images = _images(instances)
        if not refusal and not images:
            refusal = Exclusion.NO_IMAGES.value
        if refusal:
            log.info("a study has no finished case", study=job.study_instance_uid, reason=refusal)
        study = Study(study_instance_uid=job.study_instance_uid, instances=instances)
        prepared = work / pseudonyms.case_id(job.study_instance_uid)
        later = [one for one in own if one.job_id > job.job_id and one.outcome != UNCHANGED]
        found.append(
            FoundStudy(
                name=f"job {job.job_id}",
                study=study,
                images=images,
                make=_FinishedCase(folder, _NewCase(prepare, study, prepared)),
                discard=_Discard(prepared),
                result=ResultUse(shown=any(one.shown_at is not None for one in own), model=job.model_version),
                refusal=refusal,
                revision=f"job {job.job_id}" if later else "",
            )
        )
    return tuple(found)


def _choose_job(own: Sequence[Job]) -> tuple[Job, str]:
    """The job whose result stands, or the newest that says why there is none, and that reason.

    Args:
        own: jobs of one study, the newest first.
    """
    for job in own:
        if job.state in _UNDER_WAY:
            return job, Exclusion.NOT_FINISHED.value
        if job.outcome in _LEAVES_EARLIER_RESULT:
            continue
        if job.state is JobState.WITHDRAWN:
            return job, Exclusion.RESULT_WITHDRAWN.value
        if job.state is JobState.CANCELLED:
            return job, Exclusion.CANCELLED.value
        return job, ""
    telling = next((job for job in own if job.outcome != UNCHANGED), own[0])
    cancelled = telling.state is JobState.CANCELLED
    return telling, (Exclusion.CANCELLED if cancelled else ReasonCode.PROCESSING_FAILED).value


def find_folder_studies(
    folders: Sequence[Path], prepare: Prepare, pseudonyms: Pseudonyms, work: Path
) -> tuple[FoundStudy, ...]:
    """Returns the CT studies in folders of DICOM files, searched recursively.

    Args:
        folders: of DICOM files; results of ours among them are left out.
        prepare: makes a case folder.
        pseudonyms: name the folders in which studies are prepared.
        work: private folder for them: a study that was begun goes on where it ended.

    Raises:
        InstanceRefused: a folder holds no DICOM instance that can be read.
    """
    by_study: dict[str, list[Instance]] = defaultdict(list)
    unreadable: dict[str, list[str]] = defaultdict(list)
    for folder in folders:
        instances, refused = read_folder(folder)
        named = [one for one in instances if one.study_instance_uid]
        if not named:
            raise InstanceRefused(f"{folder} holds no DICOM instance that can be read")
        here = {instance.study_instance_uid for instance in named}
        for instance in named:
            by_study[instance.study_instance_uid].append(instance)
        for path, reason in refused:
            beside = {one.study_instance_uid for one in named if one.path.parent == path.parent}
            for uid in beside or (here if len(here) == 1 else set()):
                unreadable[uid].append(reason)
    return tuple(
        FoundStudy(
            name=str(instances[0].path.parent),
            study=study,
            images=images,
            make=_NewCase(prepare, study, work / pseudonyms.case_id(uid)),
            discard=_Discard(work / pseudonyms.case_id(uid)),
            result=ResultUse(),
        )
        for uid, instances in sorted(by_study.items())
        if (images := _images(instances))
        for study in [
            Study(
                study_instance_uid=uid,
                instances=tuple(instances),
                unreadable=tuple(unreadable.get(uid, ())),
            )
        ]
    )


def _images(instances: Sequence[Instance]) -> tuple[Instance, ...]:
    return tuple(one for one in instances if one.sop_class_uid in CT_STORAGE and not one.ours)


@dataclass(frozen=True, slots=True)
class _NewCase:
    """The case folder of a DICOM study, made by the pipeline."""

    prepare: Prepare
    study: Study
    folder: Path

    def __call__(self, row: ClinicalRow | None, progress: Progress) -> Prepared:
        refusal = self.prepare(self.study, row, self.folder, progress)
        if refusal is not None:
            return Prepared(refusal=refusal.code.value)
        case, identity = check_case(self.folder)
        return Prepared(case=case, identity=identity)


@dataclass(frozen=True, slots=True)
class _FinishedCase:
    """The case folder of a finished job as it lies there, or made again where it is damaged or not whole."""

    folder: Path
    again: _NewCase

    def __call__(self, row: ClinicalRow | None, progress: Progress) -> Prepared:
        progress("check")
        try:
            case, identity = check_case(self.folder)
        except CaseRefused as refused:
            log.warning("a damaged case folder is made again", folder=self.folder.name, reason=str(refused))
            return self.again(row, progress)
        if missing_phases(case) or not case.mask_path("liver").is_file():
            return self.again(row, progress)
        return Prepared(case=case, identity=identity)


@dataclass(frozen=True, slots=True)
class _Discard:
    folder: Path

    def __call__(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
