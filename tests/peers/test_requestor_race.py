"""Answers of a peer reach whoever asked, also when pynetdicom's own thread of the association is late.

The race made certain: that thread is held up after it was let through and before it says that it is no longer paused, and
the one that asks is held up between its request and its look for the answer.
"""

import threading
import time

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import MODE_REQUESTOR, Association
from pynetdicom.sop_class import CTImageStorage, StorageCommitmentPushModel, Verification

from node.dicom.commitment import request_commitment
from node.dicom.send import PeerAddress, SendSettings, echo_peer, send_objects
from node.ports import Answer, Delivery
from node.testing import SyntheticSlice, save_slices

SETTINGS = SendSettings(associate_seconds=5, response_seconds=2)


class LateThread(threading.Event):
    """A checkpoint after which the machine is busy with something else for a while."""

    def __init__(self):
        super().__init__()
        self.passed = threading.Event()
        self.set()

    def wait(self, timeout=None):
        passed = super().wait(timeout)
        self.passed.set()
        time.sleep(0.3)
        return passed


@pytest.fixture
def late_requestor(monkeypatch):
    make, associate = Association.__init__, AE.associate

    def make_late(self, ae, mode):
        make(self, ae, mode)
        if mode == MODE_REQUESTOR:
            self._reactor_checkpoint = LateThread()
            send = self.dimse.send_msg

            def send_and_rest(*args, **keywords):
                send(*args, **keywords)
                time.sleep(0.6)

            self.dimse.send_msg = send_and_rest

    def associate_and_wait(self, *args, **keywords):
        association = associate(self, *args, **keywords)
        assert association._reactor_checkpoint.passed.wait(5)
        return association

    monkeypatch.setattr(Association, "__init__", make_late)
    monkeypatch.setattr(AE, "associate", associate_and_wait)


@pytest.fixture
def pacs():
    entity = AE(ae_title="PACS")
    entity.add_supported_context(CTImageStorage, ExplicitVRLittleEndian)
    for service in (Verification, StorageCommitmentPushModel):
        entity.add_supported_context(service, ImplicitVRLittleEndian)
    server = entity.start_server(
        ("127.0.0.1", 0),
        block=False,
        evt_handlers=[(evt.EVT_C_STORE, lambda _: 0), (evt.EVT_N_ACTION, lambda _: (0, None))],
    )
    yield PeerAddress(host="127.0.0.1", port=server.server_address[1], ae_title="PACS")
    server.shutdown()


def test_a_commitment_request_gets_its_answer_from_a_late_thread(late_requestor, pacs):
    stored = Delivery(sop_class_uid=CTImageStorage, sop_instance_uid="1.1", answer=Answer.STORED, status=0)
    request_commitment([stored], "2.25.1", pacs, SETTINGS)


def test_a_delivery_gets_its_answer_from_a_late_thread(late_requestor, pacs, tmp_path):
    (delivery,) = send_objects(save_slices([SyntheticSlice()], tmp_path), pacs, SETTINGS)
    assert delivery.answer is Answer.STORED


def test_an_echo_gets_its_answer_from_a_late_thread(late_requestor, pacs):
    assert echo_peer(pacs, SETTINGS) == 0
