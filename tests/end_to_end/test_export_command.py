"""``mmf-node export`` on a study that the whole pipeline has assessed: as a finished job, and as a folder of DICOM."""

import json
import shutil

import pytest
import structlog
from pydicom import dcmread
from typer.testing import CliRunner

from engines.case import check_case, missing_phases
from node.app import CASES_NAME
from node.cli import app
from node.cohort.linkage import WORK_NAME, Linkage
from node.job import JobState
from node.ports import Answer, Conclusion, Delivery
from node.processes import DATABASE_NAME, INBOX_NAME
from node.storage.database import open_database
from node.storage.inbox import locate_study
from node.storage.jobs import SqliteJobs
from node.testing import FakeClock


def call(*words):
    result = CliRunner().invoke(app, ["export", *map(str, words), "--side", "16", "--json"])
    structlog.reset_defaults()
    if result.exception is not None:
        raise result.exception
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def finished(walked, tmp_path_factory):
    """The data folder of a node whose only job is the walked study, delivered."""
    data = tmp_path_factory.mktemp("finished")
    uid = walked.study.study_instance_uid
    study = locate_study(data / INBOX_NAME, uid)
    shutil.copytree(walked.study.folder, study)
    clock = FakeClock()
    with SqliteJobs(data / DATABASE_NAME) as jobs:
        connection = open_database(data / DATABASE_NAME)
        connection.execute(
            "INSERT INTO instance (sop_instance_uid, content_sha256, study_instance_uid, series_instance_uid, "
            "sop_class_uid, transfer_syntax_uid, modality, acquisition, frames, ours, path, size_bytes, "
            "calling_ae_title, address, received_at) VALUES ('1', 'x', ?, '1', '1.2.840.10008.5.1.4.1.1.2', '', 'CT', "
            "'', 1, 0, '1', 1, '', '', '')",
            (uid,),
        )
        connection.close()
        job = jobs.close_study(uid, clock.now())
        jobs.claim(JobState.WAITING, "w", clock.now(), 60)
        conclusion = Conclusion(
            objects=walked.out, outcome="assessed", model_version="mmf-demonstration demo"
        )
        jobs.conclude(job.job_id, "w", conclusion, clock.now())
        stored = Delivery(sop_class_uid="1", sop_instance_uid="2", answer=Answer.STORED, status=0)
        jobs.record_deliveries(job.job_id, [stored], "PACS", clock.now())
        jobs.claim(JobState.SENDING, "w", clock.now(), 60)
        jobs.move(job.job_id, JobState.DONE, clock.now(), owner="w")
    shutil.copytree(walked.out / "case", data / CASES_NAME / str(job.job_id))
    return data


def identifiers(walked):
    """Everything that names the patient or the study, as bytes."""
    words = set()
    for path in walked.study.folder.glob("*.dcm"):
        image = dcmread(path, stop_before_pixels=True)
        words |= {image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID, image.PatientID}
        words |= {str(image.PatientBirthDate), str(image.StudyDate), image.AccessionNumber}
        words |= {image.get("FrameOfReferenceUID", ""), "Wang", "小东", "王", "MMF-SYNTHETIC"}
    dates = {word for word in words if len(word) == 8 and word.isdigit()}
    words |= {f"{word[:4]}-{word[4:6]}-{word[6:]}" for word in dates} | {"2026-03-16"}
    return {word.encode() for word in words if word}


def test_a_finished_study_becomes_a_case_that_names_nobody(walked, finished):
    first = call("--data", finished, "--clinical", walked.study.clinical_table)
    assert first["counts"] == {"exported": 1}
    cohort = finished / "cohort"
    (name,) = [path.parent.name for path in cohort.glob("*/case.json")]
    case, identity = check_case(cohort / name)
    assert identity.synthetic
    assert missing_phases(case) == ()
    assert case.read_network_input().shape == (3, 16, 16, 16)
    assert len(case.features_path.read_text().splitlines()) > 100
    provenance = case.read_json("provenance")
    assert provenance["result_shown"]
    assert provenance["result_model"] == "mmf-demonstration demo"
    assert provenance["scan_age_days"] == 14
    told = identifiers(walked)
    assert len(told) > 100
    for path in cohort.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [word for word in told if word in content], path
    again = call("--data", finished, "--clinical", walked.study.clinical_table)
    assert again["counts"] == {"present": 1}


def test_a_folder_of_dicom_goes_on_where_a_killed_export_ended(walked, tmp_path):
    data = tmp_path / "data"
    linkage = Linkage.open(data / "linkage")
    begun = data / "linkage" / WORK_NAME / linkage.pseudonyms.case_id(walked.study.study_instance_uid)
    shutil.copytree(walked.out / "case", begun)
    (begun / "case.json").unlink()
    registered = (begun / "transforms" / "ARTERIAL.tfm").read_bytes()
    found = call(walked.study.folder, "--data", data, "--clinical", walked.study.clinical_table)
    assert found["counts"] == {"exported": 1}
    (case,) = (data / "cohort").glob("*/case.json")
    assert (case.parent / "transforms" / "ARTERIAL.tfm").read_bytes() == registered
    assert not begun.exists()  # what was prepared under true names does not stay


def test_without_a_clinical_row_the_reason_is_listed(walked, finished, tmp_path):
    found = call("--data", finished, "--cohort", tmp_path / "other")
    assert found["counts"] == {"excluded": 1, "excluded: no_clinical_row": 1}
    assert (tmp_path / "other" / "exclusions.csv").read_text().splitlines()[1].endswith(",no_clinical_row")
