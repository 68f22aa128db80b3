"""kill -9 in the middle of a real assessment: what was finished is not done again, and one result is delivered."""

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter

import pytest

from node.app import RESULTS_NAME
from node.dicom.archive import EmbeddedArchive
from node.dicom.send import SendSettings, send_objects
from node.job import JobState
from node.ports import Answer
from node.report.json_form import read_json
from node.report.record import Status
from node.storage.jobs import SqliteJobs
from tests.real_node import RealNode
from tests.small_study import write_small_study

ASSESSMENT_SECONDS = 400.0
SENDER = SendSettings(ae_title="SCANNER")


def fingerprint(node, job_id):
    """Every finished step: its record and the files it made, each with its hash and when it was written."""
    found = {}
    for step, record in node.steps(job_id).items():
        case = record.parent.parent
        outputs = [case / name for name in json.loads(record.read_text(encoding="utf-8"))["outputs"]]
        found[step] = {
            path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
            for path in (record, *outputs)
        }
    return found


def kill_worker(node, job_id):
    """kill -9 of the process that assesses the job, and of no other."""
    with SqliteJobs(node.database) as jobs:
        worker = int(jobs.get(job_id).lease_owner.rpartition("-")[2])
    os.kill(worker, signal.SIGKILL)


def begin(node, study, wait):
    """Sends the study; returns its job once it is there."""
    answers = send_objects(study.paths, node.peer, SENDER)
    assert {one.answer for one in answers} == {Answer.STORED}
    with SqliteJobs(node.database) as jobs:
        return wait(jobs.find, 60, "the job")[0]


def end(node, archive, job_id, finished, wait):
    """Waits for the delivery and checks that no step of ``finished`` was touched and that there is one result."""
    with SqliteJobs(node.database) as jobs:
        wait(
            lambda: jobs.get(job_id).state in {JobState.DONE, JobState.SHELVED},
            ASSESSMENT_SECONDS,
            "the delivery",
        )
        (job,) = jobs.find()
        assert job.state is JobState.DONE, job.error
    after = fingerprint(node, job_id)
    assert {step: after[step] for step in finished} == finished
    reported = read_json((node.data / RESULTS_NAME / str(job_id) / "report.json").read_text(encoding="utf-8"))
    assert reported.status is Status.ASSESSED
    delivered = {entry.sop_instance_uid for entry in reported.objects}
    assert len(archive.paths()) == archive.count() == len(delivered)
    lives = node.events("step done")
    return Counter(line["step"] for line in lives if not line["reused"]), {
        line["step"] for line in lives if line["reused"]
    }


def test_a_worker_and_then_the_whole_node_are_killed_and_no_finished_step_is_done_again(tmp_path, wait):
    study = write_small_study(tmp_path / "scanner", 0)
    with EmbeddedArchive(tmp_path / "archive") as archive, RealNode(tmp_path, archive.port) as node:
        job = begin(node, study, wait)
        wait(lambda: "align-ARTERIAL" in node.steps(job.job_id), ASSESSMENT_SECONDS, "the first alignment")
        finished = fingerprint(node, job.job_id)
        kill_worker(node, job.job_id)
        wait(lambda: "segment" in node.steps(job.job_id), ASSESSMENT_SECONDS, "the segmentation")
        finished |= fingerprint(node, job.job_id)
        node.kill()
        node.start()
        executed, reused = end(node, archive, job.job_id, finished, wait)
    assert len(finished) == 7  # enhancement of three series, volumes, two alignments, segmentation
    assert reused == set(finished)
    assert executed == dict.fromkeys([*finished, "features", "input", "score", "explain", "conclude"], 1)


@pytest.mark.slow
def test_kills_at_random_moments_of_an_assessment_never_undo_a_finished_step(tmp_path, wait):
    chance = random.Random(7)
    study = write_small_study(tmp_path / "scanner", 1)
    finished, kills = {}, 0
    with (
        EmbeddedArchive(tmp_path / "archive") as archive,
        RealNode(tmp_path, archive.port, maximum_tries=100) as node,
    ):
        job = begin(node, study, wait)
        while kills < 20:
            wait(lambda lives=kills: len(node.events("assessment begins")) > lives, 300, "the assessment")
            time.sleep(chance.uniform(0.5, 20.0))
            with SqliteJobs(node.database) as jobs:
                if jobs.get(job.job_id).state is not JobState.RUNNING:
                    break
            if chance.random() < 0.5:
                kill_worker(node, job.job_id)
                finished |= fingerprint(node, job.job_id)
            else:
                node.kill()
                finished |= fingerprint(node, job.job_id)
                node.start()
            kills += 1
        executed, _ = end(node, archive, job.job_id, finished, wait)
    assert kills >= 3
    assert (
        max(executed.values()) <= 2
    )  # a step's line comes before its record: a kill between the two repeats it
    sys.stdout.write(
        f"{kills} kills, {len(finished)} steps finished before one of them, {executed.total()} ran\n"
    )
