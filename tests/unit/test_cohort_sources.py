"""Finished studies of a node: the job whose result stands is taken, and every study that is left out says why."""

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from engines.clinical.table import ClinicalTable
from engines.network_input import Preprocessing
from node.cohort.export import Exporter, ExportPlan, Fate
from node.cohort.linkage import Linkage
from node.cohort.pseudonymise import Pseudonyms
from node.cohort.selection import Exclusion
from node.cohort.sources import NodeFolders, find_finished_studies
from node.job import JobState
from node.ports import FAILED, UNCHANGED, Answer, Conclusion, Delivery
from node.storage.database import open_database
from node.storage.inbox import locate_study
from node.storage.jobs import SqliteJobs
from node.study import CT_IMAGE_STORAGE
from node.testing import FakeClock

UID = "1.2.840.99999.7"
PSEUDONYMS = Pseudonyms(b"s" * 32)


@pytest.fixture
def node(tmp_path):
    return FinishedJobs(tmp_path)


class FinishedJobs:
    """A node whose study grows by one image a job; every job ends as the test says."""

    def __init__(self, folder):
        self.folders = NodeFolders(
            database=folder / "node.sqlite", cases=folder / "cases", inbox=folder / "inbox"
        )
        self.folder, self.clock, self.images = folder, FakeClock(), 0

    def arrive(self):
        """One more image; returns the job that takes it up."""
        self.images += 1
        image = Dataset()
        image.SOPClassUID, image.SOPInstanceUID = CT_IMAGE_STORAGE, f"{UID}.1.{self.images}"
        image.StudyInstanceUID, image.SeriesInstanceUID, image.Modality = UID, f"{UID}.1", "CT"
        place = locate_study(self.folders.inbox, UID)
        place.mkdir(parents=True, exist_ok=True)
        image.file_meta = Dataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.save_as(place / f"{self.images}.dcm", enforce_file_format=True)
        with SqliteJobs(self.folders.database) as jobs:
            connection = open_database(self.folders.database)
            connection.execute(
                "INSERT INTO instance (sop_instance_uid, content_sha256, study_instance_uid, "
                "series_instance_uid, sop_class_uid, transfer_syntax_uid, modality, acquisition, frames, ours, path, "
                "size_bytes, calling_ae_title, address, received_at) "
                "VALUES (?, 'x', ?, '1', ?, '', 'CT', '', 1, 0, ?, 1, '', '', '')",
                (image.SOPInstanceUID, UID, CT_IMAGE_STORAGE, image.SOPInstanceUID),
            )
            connection.close()
            return jobs.close_study(UID, self.clock.now()).job_id

    def conclude(self, outcome, end=JobState.DONE, *, case=True):
        """One more image, whose job ends with this outcome in this state."""
        job_id = self.arrive()
        with SqliteJobs(self.folders.database) as jobs:
            now = self.clock.now()
            assert jobs.claim(JobState.WAITING, "w", now, 60).job_id == job_id
            jobs.conclude(job_id, "w", Conclusion(objects=self.folder, outcome=outcome), now)
            stored = Delivery(sop_class_uid="1", sop_instance_uid="2", answer=Answer.STORED, status=0)
            jobs.record_deliveries(job_id, [stored], "PACS", now)
            for state in (JobState.DONE, end) if end is JobState.WITHDRAWN else (end,):
                jobs.move(job_id, state, now)
        if case:
            folder = self.folders.cases / str(job_id)
            folder.mkdir(parents=True)
            (folder / "case.json").write_text("{}")
        return job_id

    def find(self):
        (found,) = find_finished_studies(
            self.folders, lambda *_: None, PSEUDONYMS, self.folder / "linkage" / "work"
        )
        return found.name, found.refusal

    def digest(self):
        (found,) = find_finished_studies(self.folders, lambda *_: None, PSEUDONYMS, self.folder / "work")
        return found.digest(PSEUDONYMS)


def test_a_late_reconstruction_that_changes_nothing_leaves_the_study_in_the_export(node):
    node.conclude("assessed")
    node.conclude(UNCHANGED, case=False)
    assert node.find() == ("job 1", "")


def test_a_failed_job_leaves_the_result_of_the_one_before(node):
    node.conclude("assessed")
    node.conclude(FAILED, JobState.SHELVED, case=False)
    assert node.find() == ("job 1", "")
    before = node.digest()
    with SqliteJobs(node.folders.database) as jobs:
        now = node.clock.now()
        jobs.retry(2, now)
        jobs.claim(JobState.WAITING, "w", now, 60)
        jobs.conclude(2, "w", Conclusion(objects=node.folder, outcome="assessed"), now)
    case = node.folders.cases / "2" / "case.json"
    case.parent.mkdir()
    case.write_text("{}")
    assert node.find() == ("job 2", "")
    assert node.digest() != before  # the same images, another result: another source


def test_a_newer_result_takes_the_place_of_the_one_before(node):
    node.conclude("assessed", JobState.WITHDRAWN)
    node.conclude("assessed")
    assert node.find() == ("job 2", "")


@pytest.mark.parametrize(
    ("outcome", "end", "case", "reason"),
    [
        (FAILED, JobState.SHELVED, False, "processing_failed"),
        ("assessed", JobState.WITHDRAWN, True, "result_withdrawn"),
        ("assessed", JobState.CANCELLED, True, "cancelled"),
        ("assessed", JobState.DONE, False, "no_case_folder"),
        ("not_assessable", JobState.DONE, False, "not_assessable"),
    ],
)
def test_a_study_that_is_left_out_says_why(node, outcome, end, case, reason):
    node.conclude(outcome, end, case=case)
    assert node.find() == ("job 1", reason)
    plan = ExportPlan(
        cohort=node.folder / "cohort", preprocessing=Preprocessing(side=8), table=ClinicalTable(rows=())
    )
    linkage = Linkage.open(node.folder / "linkage")
    studies = find_finished_studies(node.folders, lambda *_: None, linkage.pseudonyms, node.folder / "work")
    (told,) = Exporter(plan, linkage, lambda _: None).run(studies)
    assert (told.fate, told.reason) == (Fate.EXCLUDED, reason)
    assert (plan.cohort / "exclusions.csv").read_text().splitlines()[1].endswith(f",{reason}")


def test_a_study_whose_newest_job_is_under_way_waits_for_its_result(node):
    node.conclude("assessed")
    node.arrive()
    assert node.find() == ("job 2", Exclusion.NOT_FINISHED)


def test_a_study_without_its_images_says_so(node):
    node.conclude("assessed")
    for path in locate_study(node.folders.inbox, UID).iterdir():
        path.unlink()
    assert node.find() == ("job 1", Exclusion.NO_IMAGES)
