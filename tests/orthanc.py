"""A real Orthanc on loopback with its own configuration, free ports and storage: the archive of the tests."""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 60.0


@dataclass(frozen=True)
class Orthanc:
    """A running archive."""

    ae_title: str
    dicom_port: int
    http_port: int
    pid: int

    def get(self, path: str):
        """The JSON answer of its REST interface."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=10) as answer:
            return json.load(answer)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def running_orthanc(program: str, folder: Path, **changes):
    """Starts Orthanc in ``folder`` and ends it; ``changes`` go into its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    dicom_port, http_port = free_port(), free_port()
    configuration = {
        "Name": "TESTARCHIVE",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": "ORTHANC",
        "DicomPort": dicom_port,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "OverwriteInstances": False,
        "StableAge": 5,
        "Plugins": [],
        **changes,
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration))
    with (folder / "orthanc.log").open("w") as log:
        process = subprocess.Popen(
            [program, str(path)], stdout=log, stderr=log, cwd=folder, env={**os.environ, "TCP_NODELAY": "1"}
        )
        try:
            archive = Orthanc("ORTHANC", dicom_port, http_port, process.pid)
            _await_answer(archive, process, folder / "orthanc.log")
            yield archive
        finally:
            process.terminate()
            process.wait(timeout=30)


def _await_answer(archive: Orthanc, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"Orthanc ended: {log.read_text()[-2000:]}")
        try:
            archive.get("/system")
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"Orthanc did not answer in {START_SECONDS} s: {log.read_text()[-2000:]}")
