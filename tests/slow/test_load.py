"""Load with real workers: 20 studies arrive on 4 associations while two are assessed by the real pipeline."""

import json
import sys
import threading
import time
from collections import Counter

import pydicom
from typer.testing import CliRunner

from node.cli import app
from node.dicom.archive import EmbeddedArchive
from node.dicom.send import SendSettings, send_objects
from node.job import JobState
from node.ports import Answer
from node.storage.jobs import SqliteJobs
from tests.real_node import RealNode
from tests.small_study import write_small_study

STUDIES, ASSOCIATIONS, WORKERS = 20, 4, 2
LONGEST_SECONDS = 3600.0
MOST_BYTES = 5 << 29
"""Receiver, courier and two workers with torch and their study together (measured: 1.6 GiB)."""


class MemoryWatch:
    """Samples the memory of the node's processes from a thread."""

    def __init__(self, node):
        self.samples, self._node, self._over = [], node, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _watch(self):
        while not self._over.wait(0.5):
            self.samples.append((time.monotonic(), self._node.memory_bytes()))


def ask(node, *words):
    """The JSON answer of a command of the operator."""
    ran = CliRunner().invoke(app, [*words, "--conf", str(node.conf), "--json"])
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout)


def wait_until(condition, seconds, what):
    """Returns when the condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds} s"
        time.sleep(0.2)


def test_twenty_studies_arrive_while_two_are_assessed_and_all_are_delivered_in_bounded_memory(tmp_path):
    studies = [write_small_study(tmp_path / "scanner" / str(number), number) for number in range(STUDIES)]
    answers = []

    def send_share(share):
        answers.extend(
            send_objects([path for study in share for path in study.paths], node.peer, SendSettings())
        )

    with (
        EmbeddedArchive(tmp_path / "archive") as archive,
        RealNode(tmp_path, archive.port, processes=WORKERS) as node,
        MemoryWatch(node) as memory,
        SqliteJobs(node.database) as jobs,
    ):
        send_share(studies[:WORKERS])
        wait_until(lambda: jobs.counts()[JobState.RUNNING] == WORKERS, 120, "two studies assessed")
        senders = [
            threading.Thread(target=send_share, args=(studies[WORKERS + first :: ASSOCIATIONS],))
            for first in range(ASSOCIATIONS)
        ]
        began = time.monotonic()
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(300)
        arrived = time.monotonic() - began
        wait_until(lambda: len(jobs.find()) == STUDIES, 60, "a job for each study")
        under_load = ask(node, "status")
        listed = ask(node, "jobs", "list", "--state", "WAITING")
        cancelled = ask(node, "jobs", "cancel", str(listed[0]["job_id"]))
        assert ask(node, "jobs", "retry", str(cancelled["job_id"]))["state"] == "WAITING"
        wait_until(lambda: jobs.counts()[JobState.DONE] == STUDIES, LONGEST_SECONDS, "all delivered")
        whole = time.monotonic() - began
        done = jobs.find()
        results = Counter(
            (str(found.StudyInstanceUID), str(found.Modality))
            for found in (pydicom.dcmread(path, stop_before_pixels=True) for path in archive.paths())
        )
    assert {one.answer for one in answers} == {Answer.STORED}
    assert len(answers) == sum(len(study.paths) for study in studies)
    assert under_load["jobs"]["RUNNING"] == WORKERS
    assert under_load["instances"] == len(answers)
    assert {job.outcome for job in done} == {"assessed"}
    for study in studies:
        assert results[study.study_instance_uid, "SR"] == 1
        assert results[study.study_instance_uid, "SEG"] == 3
    peak = max(size for _, size in memory.samples)
    third = len(memory.samples) // 3
    middle, last = memory.samples[third : 2 * third], memory.samples[2 * third :]
    growth = max(size for _, size in last) / max(size for _, size in middle)
    sys.stdout.write(
        f"\n{STUDIES} studies, {len(answers)} objects: received in {arrived:.1f} s on {ASSOCIATIONS} associations, "
        f"all delivered after {whole:.0f} s by {WORKERS} workers; peak memory of all processes "
        f"{peak / 2**20:.0f} MiB (PSS), last third / middle third {growth:.2f}\n"
    )
    assert peak < MOST_BYTES
    assert growth < 1.25
