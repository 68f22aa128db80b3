"""kill -9 at random moments: what was acknowledged is there, each study has one result, nothing is done twice."""

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


def test_eight_kills_of_the_whole_node_leave_one_result_of_each_study_at_the_archive(tmp_path, wait):
    with EmbeddedArchive(tmp_path / "archive") as archive:
        peer = PeerAddress(host="127.0.0.1", port=archive.port, ae_title="ARCHIVE")
        process, ledger = kill_node_until_done(tmp_path, free_port(), peer, kills=8, seed=3)
        try:
            assert len(ledger.acknowledged) == 50
            with SqliteJobs(tmp_path / "node" / "node.sqlite") as jobs:
                wait(lambda: jobs.counts()[JobState.DONE] == len(jobs.find()) >= 2, 30, "every job done")
                studies = {job.study_instance_uid for job in jobs.find()}
        finally:
            kill(process)
        results = Counter(pydicom.dcmread(path).StudyInstanceUID for path in archive.paths())
        assert results == dict.fromkeys(studies, 1)
        assert len(studies) == 2


@pytest.mark.slow
def test_a_thousand_kills_of_the_receiver_lose_nothing_that_was_acknowledged(tmp_path):
    acknowledged, lost, double = count_lost_by_receiver(tmp_path, free_port(), kills=1000, seed=4)
    assert (lost, double) == (0, 0)
    assert acknowledged > 500
