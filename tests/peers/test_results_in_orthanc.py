"""A real PACS stores every object of a result and gives it back unharmed."""

import http.client
import io
import json
import os
import socket
import subprocess
import threading
import time

import pydicom
import pytest

from node.report.bundle import write_objects
from tests.report_study import ANNEX_K_NAME, STUDY_UID, make_report, make_sources

DEADLINE_SECONDS = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Pacs:
    """An Orthanc on loopback."""

    def __init__(self, folder, program):
        self.dicom_port, self.http_port = free_port(), free_port()
        configuration = {
            "Name": "TESTPACS",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": self.http_port,
            "DicomPort": self.dicom_port,
            "DicomAet": "ORTHANC",
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAlwaysAllowStore": True,
            "DicomCheckCalledAet": False,
            "OverwriteInstances": False,
            "Plugins": [],
        }
        path = folder / "orthanc.json"
        path.write_text(json.dumps(configuration))
        log = (folder / "orthanc.log").open("w")
        self.process = subprocess.Popen([program, str(path)], stdout=log, stderr=log)

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=10)
        try:
            connection.request(method, path, body)
            return connection.getresponse().read()
        finally:
            connection.close()

    def wait(self):
        """Until it answers; a refused connection returns at once, so a short pause keeps the processor free."""
        end = time.monotonic() + DEADLINE_SECONDS
        ready = threading.Event()
        while not ready.is_set() and time.monotonic() < end:
            assert self.process.poll() is None, "Orthanc ended"
            try:
                self.ask("GET", "/system")
                ready.set()
            except OSError:
                ready.wait(0.05)
        assert ready.is_set(), "Orthanc did not answer in time"

    def find(self, level, query):
        body = json.dumps({"Level": level, "Query": query, "Expand": True})
        return json.loads(self.ask("POST", "/tools/find", body))

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)


@pytest.fixture
def pacs(peer, tmp_path):
    folder = tmp_path / "orthanc"
    folder.mkdir()
    server = Pacs(folder, peer("Orthanc"))
    try:
        server.wait()
        yield server
    finally:
        server.stop()


def store(program, pacs, folder):
    """Sends every object of a folder by C-STORE."""
    subprocess.run(
        [program, "-R", "-aec", "ORTHANC", "+sd", "127.0.0.1", str(pacs.dicom_port), str(folder)],
        check=True,
        capture_output=True,
        timeout=DEADLINE_SECONDS,
        env={**os.environ, "TCP_NODELAY": "1"},
    )


def test_orthanc_keeps_every_object_and_no_duplicate(pacs, peer, tmp_path):
    sender = peer("storescu")
    report = write_objects(make_report(), make_sources(tmp_path), tmp_path / "out")
    store(sender, pacs, tmp_path / "out" / "dicom")
    store(sender, pacs, tmp_path / "out" / "dicom")
    (study,) = pacs.find("Study", {"StudyInstanceUID": STUDY_UID})
    assert study["PatientMainDicomTags"]["PatientName"] == ANNEX_K_NAME
    series = pacs.find("Series", {"StudyInstanceUID": STUDY_UID})
    assert sorted(one["MainDicomTags"]["Modality"] for one in series) == [
        "DOC",
        "OT",
        "SEG",
        "SEG",
        "SEG",
        "SR",
    ]
    instances = {one["MainDicomTags"]["SOPInstanceUID"]: one["ID"] for one in pacs.find("Instance", {})}
    assert set(instances) == {entry.sop_instance_uid for entry in report.objects}
    for entry in report.objects:
        back = pydicom.dcmread(
            io.BytesIO(pacs.ask("GET", f"/instances/{instances[entry.sop_instance_uid]}/file"))
        )
        assert back == pydicom.dcmread(tmp_path / "out" / entry.path)
        assert str(back.PatientName) == ANNEX_K_NAME
