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
from node.dicom.headers import read_folder
from node.errors import InstanceRefused
from node.job import Job, JobState
from node.report.record import NotAssessable
from node.steps import Progress
from node.storage.inbox import locate_study
from node.storage.jobs import SqliteJobs
from node.study import CT_STORAGE, Instance, Study

log = structlog.get_logger(__name__)

FINISHED = frozenset(
    {JobState.DONE, JobState.UNCONFIRMED, JobState.CONFIRMING, JobState.SENDING, JobState.SHELVED}
)
"""States of a job whose assessment has ended; a withdrawn or cancelled result is no case."""


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
    """

    name: str
    study: Study
    images: tuple[Instance, ...]
    make: Callable[[ClinicalRow | None, Progress], Prepared]
    discard: Callable[[], None]
    result: ResultUse

    def digest(self, pseudonyms: Pseudonyms, *words: str) -> str:
        """Returns the keyed hash of the study's images and of ``words``: another hash is another source."""
        files = sorted(hash_file(path) for path in {image.path for image in self.images})
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
    """Returns the finished studies of a node, each with the case folder of its latest job.

    A study whose case folder is damaged, or ends before the features because nobody had asked for a risk, is prepared
    from its images like a folder of DICOM.

    Args:
        folders: of the node; without a database there is no study.
        prepare: makes a case folder.
        pseudonyms: name the folders in which studies are prepared.
        work: private folder for them.
    """
    if not folders.database.exists():
        return ()
    found: list[FoundStudy] = []
    with SqliteJobs(folders.database) as jobs:
        latest: dict[str, Job] = {}
        shown: set[str] = set()
        for job in jobs.find():
            if job.shown_at is not None:
                shown.add(job.study_instance_uid)
            known = latest.get(job.study_instance_uid)
            if known is None or job.job_id > known.job_id:
                latest[job.study_instance_uid] = job
        for job in sorted(latest.values(), key=lambda job: job.job_id):
            folder = folders.cases / str(job.job_id)
            if job.state not in FINISHED or not (folder / "case.json").is_file():
                continue
            instances, _ = read_folder(locate_study(folders.inbox, job.study_instance_uid))
            study = Study(study_instance_uid=job.study_instance_uid, instances=instances)
            images = _images(instances)
            if not images:
                log.warning("a finished study has no images any more", job=job.job_id)
                continue
            own = work / pseudonyms.case_id(job.study_instance_uid)
            found.append(
                FoundStudy(
                    name=f"job {job.job_id}",
                    study=study,
                    images=images,
                    make=_FinishedCase(folder, _NewCase(prepare, study, own)),
                    discard=_Discard(own),
                    result=ResultUse(shown=job.study_instance_uid in shown, model=job.model_version),
                )
            )
    return tuple(found)


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
