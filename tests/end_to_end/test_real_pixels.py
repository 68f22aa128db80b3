"""A study of real pixels goes through receive, pipeline and delivery into a real Orthanc."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest
import tomli_w
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind
from typer.testing import CliRunner

from engines.phase import ASSESSED_PHASES
from node.cli import app
from node.dicom.send import PeerAddress, SendSettings, send_objects
from node.job import JobState
from node.ports import Answer
from node.storage.jobs import SqliteJobs
from tests.orthanc import running_orthanc
from tests.real_pixels import write_real_pixels

FINISH_SECONDS = 280.0

pytestmark = pytest.mark.timeout(420)


def find_series(archive, study_instance_uid):
    """Modality and description of every series that C-FIND shows."""
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID = study_instance_uid
    query.SeriesInstanceUID = query.Modality = query.SeriesDescription = ""
    entity = AE(ae_title="TEST")
    entity.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
    association = entity.associate("127.0.0.1", archive.dicom_port, ae_title=archive.ae_title)
    assert association.is_established
    answers = association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind)
    found = [dataset for status, dataset in answers if status and status.Status == 0xFF00]
    association.release()
    return sorted((dataset.Modality, dataset.SeriesDescription) for dataset in found)


def wait_for_job(data):
    deadline = time.monotonic() + FINISH_SECONDS
    with SqliteJobs(data / "node.sqlite") as jobs:
        while time.monotonic() < deadline:
            found = jobs.find(tuple(JobState), "")
            if found and found[0].state in {JobState.DONE, JobState.SHELVED}:
                return found[0]
            time.sleep(0.3)
    raise AssertionError("the study was not delivered in time")


def test_real_pixels_walk_from_c_store_into_a_real_archive(test_data, peer, tmp_path):
    study = write_real_pixels(test_data / "ct-liver-metastases" / "CRLM-CT-1006", tmp_path)
    with running_orthanc(peer("Orthanc"), tmp_path / "orthanc") as archive:
        settings = {
            "listener": {"port": 0},
            "storage": {"data": str(tmp_path / "data"), "minimum_free_gib": 0.1},
            "completeness": {"quiet_seconds": 2.0, "settle_seconds": 5.0},
            "destination": {"host": "127.0.0.1", "port": archive.dicom_port, "ae_title": archive.ae_title},
            "models": {"allow_demonstration": True},
            "clinical": {"table": str(study.clinical_table)},
        }
        conf = tmp_path / "node.toml"
        conf.write_text(tomli_w.dumps(settings))
        with (tmp_path / "node.log").open("w") as log:
            node = subprocess.Popen(
                [sys.executable, "-m", "node", "serve", "--conf", str(conf)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            try:
                port = int(re.search(r":(\d+), data", node.stdout.readline()).group(1))
                here = PeerAddress(host="127.0.0.1", port=port, ae_title="MMFNODE")
                paths = sorted(study.folder.glob("*.dcm"))
                answers = send_objects(paths, here, SendSettings(ae_title="CT1"))
                assert {one.answer for one in answers} == {Answer.STORED}
                job = wait_for_job(tmp_path / "data")
            finally:
                node.send_signal(signal.SIGTERM)
                assert node.wait(timeout=60) == 0
        assert job.state == JobState.DONE, job.error
        series = find_series(archive, study.study_instance_uid)
    report = json.loads((tmp_path / "data" / "results" / str(job.job_id) / "report.json").read_text())
    used = {entry["series_instance_uid"]: entry["phase"] for entry in report["phases"] if entry["used"]}
    assert used == {uid: phase.value for uid, phase in study.phase_of_series.items()}
    assert report["status"] == "assessed"
    assert {risk["model"] for risk in report["risks"].values()} == {"MMF"}
    modalities = [modality for modality, _ in series]
    assert modalities.count("SEG") == len(ASSESSED_PHASES)
    assert {"SEG", "SR", "DOC"} <= set(modalities)
    assert "Wang" not in (tmp_path / "node.log").read_text()


@pytest.mark.parametrize(
    ("folder", "slices", "phase"),
    [
        ("ct-liver-metastases/CRLM-CT-1004", 41, "PORTAL_VENOUS"),
        ("ct-liver-metastases/CRLM-CT-1006", 51, "PORTAL_VENOUS"),
        ("ct-hcc-tcga", 60, None),
    ],
)
def test_a_real_single_series_is_read_whole_and_gets_no_risk(test_data, tmp_path, folder, slices, phase):
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["run", str(test_data / folder), "--out", str(out), "--json"])
    assert result.exit_code == 3, result.output
    report = json.loads(result.stdout)
    (entry,) = report["phases"]
    assert entry["slices"] == slices
    assert entry["phase"] in ({phase} if phase else {None, "ARTERIAL"})
    assert entry["reasons"]
    assert report["status"] == "not_assessable"
    assert report["reason_code"] in {"missing_phase", "ambiguous_phase"}
    assert report["risks"] == {}
    assert {"SR", "PDF"} <= {entry["kind"] for entry in report["objects"]}
    assert all((out / entry["path"]).is_file() for entry in report["objects"])
