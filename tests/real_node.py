"""The real node as an operator starts it: ``mmf-node serve`` in its own processes, with real workers."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import tomli_w

from node.app import CASES_NAME
from node.dicom.send import PeerAddress
from node.processes import DATABASE_NAME


class RealNode:
    """A node on loopback with its own data folder; it can be killed and started again.

    The demonstration models score, and every study with three phases is assessed.
    """

    def __init__(self, folder: Path, archive_port: int, **worker):
        self.data, self.log_path, self.conf = folder / "data", folder / "node.log", folder / "node.toml"
        self.process = None
        self.peer = None
        content = {
            "listener": {"ae_title": "MMFNODE", "address": "127.0.0.1", "port": 0},
            "storage": {"data": str(self.data), "minimum_free_gib": 0.0},
            "completeness": {"quiet_seconds": 2.0, "settle_seconds": 5.0},
            "destination": {
                "host": "127.0.0.1",
                "port": archive_port,
                "ae_title": "ARCHIVE",
                "first_retry_seconds": 1.0,
            },
            "models": {"allow_demonstration": True},
            "assessment": {"requested_by": "any"},
            "worker": {"threads": 1, **worker},
        }
        self.conf.write_text(tomli_w.dumps(content), encoding="utf-8")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def database(self) -> Path:
        """Its jobs."""
        return self.data / DATABASE_NAME

    def start(self) -> None:
        """Starts it and waits until peers can call; its log goes on in the same file."""
        with self.log_path.open("a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "node", "serve", "--conf", str(self.conf)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        line = self.process.stdout.readline()
        assert "ready" in line, self.log_path.read_text(encoding="utf-8")[-2000:]
        port = int(line.split("127.0.0.1:")[1].split(",")[0])
        self.peer = PeerAddress(host="127.0.0.1", port=port, ae_title="MMFNODE")

    def stop(self) -> None:
        """Ends it in order."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
        if self.process is not None:
            self.process.stdout.close()

    def kill(self) -> None:
        """kill -9 of all its processes at once."""
        family = self.family()
        for member in family:
            member.send_signal(signal.SIGKILL)
        self.process.wait(10)
        self.process.stdout.close()
        psutil.wait_procs(family, timeout=10)

    def family(self) -> list[psutil.Process]:
        """Receiver, workers and courier."""
        receiver = psutil.Process(self.process.pid)
        return [receiver, *receiver.children(recursive=True)]

    def memory_bytes(self) -> int:
        """Proportional set size of all its processes together; what is shared between them counts once."""
        total = 0
        for member in self.family():
            try:
                total += member.memory_full_info().pss
            except psutil.NoSuchProcess:
                continue
        return total

    def events(self, event: str) -> list[dict]:
        """The lines of its log with this sentence, in order, over all its lives."""
        lines = []
        for line in self.log_path.read_text(encoding="utf-8").splitlines():
            if event in line and line.startswith("{") and line.endswith("}"):
                content = json.loads(line)
                if content["event"] == event:
                    lines.append(content)
        return lines

    def steps(self, job_id: int) -> dict[str, Path]:
        """The records of the steps that a job has finished, by step."""
        folder = self.data / CASES_NAME / str(job_id) / "steps"
        return {path.stem: path for path in folder.glob("[a-zA-Z]*.json")}
