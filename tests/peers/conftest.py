"""Real peers on loopback: our receiver, Orthanc with its own folder and ports, and waiting with a deadline."""

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.request

import pytest

from node.completeness import Traffic
from node.dicom.reception.accept import Acceptance, read_stored
from node.dicom.reception.access import ListenerSettings
from node.dicom.reception.listener import Listener
from node.dicom.send import PeerAddress
from node.processes import SystemClock
from node.storage.inbox import FolderInbox
from tests.conftest import require_peer


def wait_until(condition, seconds=20.0, what="the condition"):
    """Returns the first true value of ``condition()``; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come true within {seconds} s")
        time.sleep(0.01)


@pytest.fixture
def wait():
    """The function ``wait_until(condition, seconds, what)``."""
    return wait_until


class Reception:
    """Our receiver with its inbox, in this process."""

    def __init__(self, folder, settings, report=None, minimum_free_bytes=0):
        self.inbox = FolderInbox(
            folder / "inbox",
            folder / "node.sqlite",
            read_stored=read_stored,
            minimum_free_bytes=minimum_free_bytes,
        )
        self.traffic = Traffic()
        acceptance = Acceptance(self.inbox, self.traffic, SystemClock(), maximum_object_bytes=64 << 20)
        self.listener = Listener(settings, acceptance, report)
        self.listener.start()
        self.peer = PeerAddress(host="127.0.0.1", port=self.listener.port, ae_title=settings.ae_title)

    def files(self):
        """Every file that is kept."""
        return sorted((self.inbox.folder / "studies").rglob("*.dcm"))

    def close(self):
        """Stops the listener and closes the index."""
        self.listener.stop()
        self.inbox.close()


@pytest.fixture
def open_reception(tmp_path):
    """Function that opens a receiver; keyword arguments go to ListenerSettings."""
    opened = []

    def open_one(*, report=None, minimum_free_bytes=0, **settings):
        reception = Reception(
            tmp_path / f"reception-{len(opened)}",
            ListenerSettings(**{"port": 0, **settings}),
            report,
            minimum_free_bytes,
        )
        opened.append(reception)
        return reception

    yield open_one
    for reception in opened:
        reception.close()


def free_port():
    """A port nobody uses now, for peers that cannot take port 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Orthanc:
    """A real Orthanc in its own folder."""

    def __init__(self, folder, program, modalities):
        self.http, dicom = free_port(), free_port()
        self.peer = PeerAddress(host="127.0.0.1", port=dicom, ae_title="ORTHANC")
        folder.mkdir()
        settings = {
            "Name": "TESTPACS",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": self.http,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAet": "ORTHANC",
            "DicomPort": dicom,
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowFind": True,
            "OverwriteInstances": False,
            "DicomModalities": modalities,
            "Plugins": [],
        }
        (folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
        self.process = subprocess.Popen(
            [program, str(folder / "orthanc.json")],
            env={**os.environ, "TCP_NODELAY": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self.answers, 40, "Orthanc")

    def answers(self):
        """Whether its REST API is up."""
        with contextlib.suppress(OSError):
            return bool(self.get("/system"))
        return False

    def get(self, path):
        """The JSON of a GET."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=20) as answer:
            return json.load(answer)

    def post(self, path, content):
        """The JSON of a POST."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http}{path}", data=json.dumps(content).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def close(self):
        """Ends it."""
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture
def open_orthanc(tmp_path):
    """Function that starts an Orthanc with the given DICOM modalities, or skips loudly."""
    opened = []

    def open_one(modalities=None):
        program = require_peer("Orthanc")
        orthanc = Orthanc(tmp_path / f"orthanc-{len(opened)}", program, modalities or {})
        opened.append(orthanc)
        return orthanc

    yield open_one
    for orthanc in opened:
        orthanc.close()
