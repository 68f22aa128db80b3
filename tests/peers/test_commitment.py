"""Storage commitment: asked of a real Orthanc, whose report comes to our listener and finishes the job."""

import threading
from functools import partial

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from node.completeness import CompletenessRules
from node.dicom.commitment import CommittingDestination, ReportDesk, read_report, request_commitment
from node.dicom.reception.access import ListenerSettings
from node.dicom.send import SendSettings, send_objects
from node.errors import DeliveryPostponed, DeliveryRefused, InstanceRefused
from node.job import JobState
from node.ports import Answer, Delivery
from node.processes import ServicePlan, SystemClock, serve
from node.storage.jobs import SqliteJobs
from node.testing import SyntheticSlice, build_fake_assess, encode_dataset, prepare_quiet, save_slices
from node.worker import WorkRules
from tests.peers.conftest import free_port


def deliver(instance):
    return Delivery(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2", sop_instance_uid=instance, answer=Answer.STORED, status=0
    )


def encode_report(transaction, committed=(), failed=()):
    report = Dataset()
    report.TransactionUID = transaction

    def item(instance, reason=None):
        entry = Dataset()
        entry.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        entry.ReferencedSOPInstanceUID = instance
        if reason is not None:
            entry.FailureReason = reason
        return entry

    report.ReferencedSOPSequence = Sequence([item(instance) for instance in committed])
    if failed:
        report.FailedSOPSequence = Sequence([item(instance, reason) for instance, reason in failed])
    return encode_dataset(report)


def test_a_report_is_read():
    report = read_report(encode_report("2.25.1", ["1.1"], [("1.2", 0x0112)]), ExplicitVRLittleEndian)
    assert report.transaction_uid == "2.25.1"
    assert report.committed == {"1.1"}
    assert report.failed == (("1.2", 0x0112),)


@pytest.mark.parametrize(
    "encoded", [b"", b"noise that is no data set at all", encode_report("2.25.1")[:-1][4:]]
)
def test_a_broken_report_is_refused(encoded, tmp_path):
    with pytest.raises(InstanceRefused, match="cannot be read"):
        read_report(encoded, ExplicitVRLittleEndian)
    with SqliteJobs(tmp_path / "node.sqlite") as jobs:
        desk = ReportDesk(jobs=jobs, clock=SystemClock())
        assert desk(1, encoded, ExplicitVRLittleEndian) == 0x0110
        assert desk(7, encoded, ExplicitVRLittleEndian) == 0x0113
        assert desk(1, encode_report("2.25.404"), ExplicitVRLittleEndian) == 0


def test_a_peer_without_commitment_says_so(open_reception):
    reception = open_reception()
    with pytest.raises(DeliveryRefused):  # our own listener takes reports, it promises nothing
        request_commitment([deliver("1.1")], "2.25.1", reception.peer, SendSettings())
    reception.listener.stop()
    with pytest.raises(DeliveryPostponed):
        request_commitment([deliver("1.1")], "2.25.1", reception.peer, SendSettings())


def test_orthanc_commits_and_the_job_is_done(open_orthanc, tmp_path, wait):
    port = free_port()
    modality = {"AET": "MMFNODE", "Host": "127.0.0.1", "Port": port, "AllowStorageCommitment": True}
    orthanc = open_orthanc({"node": modality})
    plan = ServicePlan(
        data=tmp_path / "data",
        listener=ListenerSettings(port=port),
        completeness=CompletenessRules(
            release_seconds=0.2, quiet_seconds=2, settle_seconds=2, required_passes=1
        ),
        work=WorkRules(idle_seconds=0.05),
        workers=1,
        minimum_free_bytes=0,
        keep_days=0,
        build_assess=partial(build_fake_assess, tmp_path / "results", 0.0, 3),
        build_destination=partial(CommittingDestination, orthanc.peer, SendSettings(ae_title="MMFNODE")),
        prepare_process=prepare_quiet,
    )
    stop, ready = threading.Event(), threading.Event()
    thread = threading.Thread(target=serve, args=(plan, lambda _: ready.set(), stop))
    thread.start()
    try:
        assert ready.wait(60)
        slices = [
            SyntheticSlice(instance=f"2.25.8.{number}", position_mm=2.5 * number) for number in range(1, 25)
        ]
        peer = type(orthanc.peer)(host="127.0.0.1", port=port, ae_title="MMFNODE")
        send_objects(save_slices(slices, tmp_path / "out"), peer, SendSettings(ae_title="SCANNER"))
        with SqliteJobs(plan.database) as jobs:
            wait(lambda: jobs.counts()[JobState.DONE] == 1, 60, "the report of Orthanc")
            (job,) = jobs.find()
            states = [move.state for move in jobs.history(job.job_id)]
            assert states[-2:] == [JobState.CONFIRMING, JobState.DONE]
            assert jobs.history(job.job_id)[-1].detail == "storage committed"
    finally:
        stop.set()
        thread.join(30)
    assert orthanc.get("/statistics")["CountInstances"] == 3
