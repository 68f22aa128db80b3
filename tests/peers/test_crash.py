"""kill -9 at random moments: what was acknowledged is there, each study has one result, nothing is done twice."""

import sys
from collections import Counter

import pydicom
import pytest

from node.dicom.archive import EmbeddedArchive
from node.dicom.send import PeerAddress
from node.job import JobState
from node.storage.jobs import SqliteJobs
from tests.peers.conftest import free_port
from tests.peers.crash_harness import count_lost_by_receiver, kill, kill_node_until_done


def test_forty_two_kills_of_the_receiver_lose_nothing_that_was_acknowledged(tmp_path):
    acknowledged, lost, double = count_lost_by_receiver(tmp_path, free_port(), kills=42, seed=1)
    assert acknowledged > 40
    assert (lost, double) == (0, 0)


def test_the_harness_finds_a_receiver_that_promises_too_early(tmp_path):
    acknowledged, lost, _ = count_lost_by_receiver(
        tmp_path, free_port(), kills=8, seed=2, acknowledge_early=True
    )
    assert acknowledged > 8
    assert lost > 0


def kill_and_count(folder, wait, kills, seed, seconds=120):
    """Kills worker, courier and node, and checks what is left: every object, every job done, one result a study."""
    with EmbeddedArchive(folder / "archive") as archive:
        peer = PeerAddress(host="127.0.0.1", port=archive.port, ae_title="ARCHIVE")
        process, ledger, killed = kill_node_until_done(folder, free_port(), peer, kills, seed)
        try:
            assert len(ledger.acknowledged) == len(ledger.wanted)
            studies = {path.stem.rsplit(".", 2)[0] for path in ledger.wanted}
            with SqliteJobs(folder / "node" / "node.sqlite") as jobs:
                wait(
                    lambda: (
                        {job.study_instance_uid for job in jobs.find([JobState.DONE])} == studies
                        and jobs.counts()[JobState.DONE] == len(jobs.find())
                    ),
                    seconds,
                    "every job done",
                )
        finally:
            kill(process)
        results = Counter(pydicom.dcmread(path).StudyInstanceUID for path in archive.paths())
        assert results == dict.fromkeys(studies, 1)
    return len(ledger.acknowledged), len(studies), killed


def test_eight_kills_of_worker_courier_and_node_leave_one_result_of_each_study_at_the_archive(tmp_path, wait):
    _, _, killed = kill_and_count(tmp_path, wait, kills=8, seed=3)
    assert killed.keys() == {"node", "worker", "courier"}


@pytest.mark.slow
def test_eight_hundred_kills_of_the_receiver_lose_nothing_that_was_acknowledged(tmp_path):
    acknowledged, lost, double = count_lost_by_receiver(tmp_path, free_port(), kills=800, seed=4)
    assert (lost, double) == (0, 0)
    assert acknowledged > 500
    sys.stdout.write(f"\n800 kills of the receiver: {acknowledged} objects acknowledged, none lost\n")


@pytest.mark.slow
def test_two_hundred_kills_of_worker_courier_and_node_leave_one_result_of_each_study(tmp_path, wait):
    objects, studies, killed = kill_and_count(tmp_path, wait, kills=200, seed=5, seconds=600)
    told = ", ".join(f"{count} of the {who}" for who, count in sorted(killed.items()))
    sys.stdout.write(f"\n{told}: {objects} objects acknowledged, {studies} studies, one result of each\n")
