"""Delivery to real peers: one association, the answers understood, the archive holds what was sent."""

import time

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import AE, evt
from pynetdicom.acse import ACSE
from pynetdicom.sop_class import CTImageStorage, StudyRootQueryRetrieveInformationModelFind, Verification

from engines.errors import InvalidInput
from node.dicom.archive import EmbeddedArchive
from node.dicom.send import (
    PeerAddress,
    Restatement,
    SendSettings,
    echo_peer,
    interpret_status,
    parse_peer,
    send_objects,
)
from node.errors import DeliveryPostponed, DeliveryRefused, InstanceRefused
from node.ports import Answer
from node.report.sr.document import restate_as_comprehensive
from node.testing import SyntheticSlice, make_slice, save_slices

SETTINGS = SendSettings(associate_seconds=5, response_seconds=5)


@pytest.fixture
def objects(tmp_path):
    return save_slices(
        (
            SyntheticSlice(instance=f"2.25.3.{number}", position_mm=float(number), side=64)
            for number in range(1, 6)
        ),
        tmp_path / "objects",
    )


@pytest.fixture
def open_scp():
    """Function that starts a storage SCP which answers with the given statuses in turn; yields its address."""
    servers = []

    def open_one(statuses=(0,), contexts=((CTImageStorage, [ExplicitVRLittleEndian]),), seen=None):
        answers = iter(statuses)

        def store(event):
            status = next(answers, 0)
            if status == "abort":
                event.assoc.abort()
                return 0
            answer = Dataset()
            answer.Status = status
            answer.ErrorComment = "as the test says"
            return answer

        def opened(event):
            if seen is not None:
                seen.append(event.assoc)

        entity = AE(ae_title="PACS")
        entity.require_called_aet = True
        for abstract, transfers in contexts:
            entity.add_supported_context(abstract, transfers)
        server = entity.start_server(
            ("127.0.0.1", 0),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, store), (evt.EVT_ESTABLISHED, opened)],
        )
        servers.append(server)
        return PeerAddress(host="127.0.0.1", port=server.server_address[1], ae_title="PACS")

    yield open_one
    for server in servers:
        server.shutdown()


def test_all_objects_go_on_one_association_and_arrive_bit_for_bit(tmp_path, objects):
    with EmbeddedArchive(tmp_path / "archive") as archive:
        peer = PeerAddress(host="127.0.0.1", port=archive.port, ae_title="ARCHIVE")
        answers = send_objects(objects, peer, SETTINGS)
        assert [one.answer for one in answers] == [Answer.STORED] * 5
        kept = {(found := pydicom.dcmread(path)).SOPInstanceUID: found for path in archive.paths()}
        for path in objects:
            sent = pydicom.dcmread(path)
            assert kept[sent.SOPInstanceUID] == sent


def test_one_association_serves_all(open_scp, objects):
    seen = []
    peer = open_scp(seen=seen)
    send_objects(objects, peer, SETTINGS)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("status", "retry", "answer"),
    [
        (0x0000, False, Answer.STORED),
        (0xB000, False, Answer.STORED_WITH_WARNING),
        (0xB006, False, Answer.STORED_WITH_WARNING),
        (0xB007, False, Answer.STORED_WITH_WARNING),
        (0xA700, False, Answer.LATER),
        (0xA7FF, False, Answer.LATER),
        (0x0110, False, Answer.LATER),
        (0x0213, False, Answer.LATER),
        (0x0111, True, Answer.STORED),
        (0x0111, False, Answer.STORED_WITH_WARNING),
        (0x0122, False, Answer.CONFIGURATION),
        (0x0124, False, Answer.CONFIGURATION),
        (0xA900, False, Answer.NEVER),
        (0xA9FF, True, Answer.NEVER),
        (0xC000, False, Answer.BOUNDED),
        (0xCFFF, False, Answer.BOUNDED),
        (0x0106, False, Answer.NEVER),
    ],
)
def test_every_status_has_its_meaning(status, retry, answer):
    meaning, detail = interpret_status(status, retry=retry)
    assert meaning is answer
    assert bool(detail) == (status != 0)


def test_each_object_gets_its_own_answer_with_the_peers_comment(open_scp, objects):
    peer = open_scp(statuses=(0x0000, 0xB000, 0xA700, 0xC123, 0x0124))
    answers = send_objects(objects, peer, SETTINGS)
    assert [one.status for one in answers] == [0, 0xB000, 0xA700, 0xC123, 0x0124]
    assert [one.answer for one in answers] == [
        Answer.STORED,
        Answer.STORED_WITH_WARNING,
        Answer.LATER,
        Answer.BOUNDED,
        Answer.CONFIGURATION,
    ]
    assert "as the test says" in answers[2].detail


def test_an_association_lost_on_the_way_leaves_the_rest_for_later(open_scp, objects):
    answers = send_objects(objects, open_scp(statuses=(0, "abort")), SETTINGS)
    assert answers[0].answer is Answer.STORED
    assert {one.answer for one in answers[2:]} == {Answer.LATER}
    assert "lost" in answers[4].detail


def test_a_class_refused_at_negotiation_is_said_clearly_and_the_others_still_go(open_scp, objects, tmp_path):
    report = make_slice(SyntheticSlice(instance="2.25.4"))
    report.SOPClassUID = Comprehensive3DSRStorage
    report.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    answers = send_objects([*objects, tmp_path / "sr.dcm"], open_scp(), SETTINGS)
    assert [one.answer for one in answers] == [Answer.STORED] * 5 + [Answer.CONFIGURATION]
    assert "does not accept Comprehensive 3D SR Storage" in answers[5].detail
    assert answers[5].status is None


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_refused_class_goes_in_its_other_form_where_there_is_one(open_scp, tmp_path, syntax):
    report = make_slice(SyntheticSlice(instance="2.25.4"))
    report.SOPClassUID = Comprehensive3DSRStorage
    report.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    peer = open_scp(contexts=((ComprehensiveSRStorage, [syntax]),))
    restatements = {
        Comprehensive3DSRStorage: Restatement(
            sop_class_uid=ComprehensiveSRStorage, restate=restate_as_comprehensive
        )
    }
    (delivery,) = send_objects([tmp_path / "sr.dcm"], peer, SETTINGS, restatements=restatements)
    assert (delivery.answer, delivery.sop_instance_uid) == (Answer.STORED, "2.25.4")
    assert "sent as Comprehensive SR Storage" in delivery.detail


def test_a_peer_of_the_default_transfer_syntax_only_gets_it(open_scp, objects):
    peer = open_scp(contexts=((CTImageStorage, [ImplicitVRLittleEndian]),))
    assert {one.answer for one in send_objects(objects, peer, SETTINGS)} == {Answer.STORED}


def test_nobody_there_is_for_later(objects):
    with pytest.raises(DeliveryPostponed, match="cannot be reached"):
        send_objects(objects, PeerAddress(host="127.0.0.1", port=1, ae_title="PACS"), SETTINGS)


@pytest.mark.parametrize("late", [False, True], ids=["as usual", "rejection faster than pynetdicom looks"])
def test_a_permanent_rejection_is_for_the_operator(open_scp, objects, monkeypatch, late):
    peer = open_scp()
    if late:
        send_request = ACSE.send_request

        def slow_request(self):
            send_request(self)
            time.sleep(0.5)  # the peer's answer is read meanwhile: the race itself

        monkeypatch.setattr(ACSE, "send_request", slow_request)
    stranger = PeerAddress(host="127.0.0.1", port=peer.port, ae_title="OTHER")
    with pytest.raises(DeliveryRefused, match="Called AE title not recognised"):
        send_objects(objects, stranger, SETTINGS)


def test_a_file_that_is_not_dicom_is_refused_before_anything_is_sent(open_scp, objects, tmp_path):
    (tmp_path / "notes.dcm").write_text("not DICOM")
    seen = []
    with pytest.raises(InstanceRefused, match=r"notes\.dcm is not a DICOM file"):
        send_objects([*objects, tmp_path / "notes.dcm"], open_scp(seen=seen), SETTINGS)
    assert seen == []


def test_echo(open_scp):
    assert echo_peer(open_scp(contexts=((Verification, [ImplicitVRLittleEndian]),)), SETTINGS) == 0


@pytest.mark.parametrize(
    "text", ["", "host", "host:104", "host:x:PACS", "host:0:PACS", "host:104:", "host:104:" + 17 * "A"]
)
def test_a_mistyped_peer_is_named(text):
    with pytest.raises(InvalidInput):
        parse_peer(text)


def test_peers_are_read_with_their_address_of_any_family():
    assert str(parse_peer("pacs.example:104:MY PACS")) == "pacs.example:104:MY PACS"
    assert parse_peer("[::1]:11112:A") == PeerAddress(host="::1", port=11112, ae_title="A")


def query(peer, level, **keys):
    entity = AE(ae_title="TEST")
    entity.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
    association = entity.associate(peer.host, peer.port, ae_title=peer.ae_title)
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    answers = [
        found
        for status, found in association.send_c_find(identifier, StudyRootQueryRetrieveInformationModelFind)
        if status.Status == 0xFF00
    ]
    association.release()
    return answers


def test_the_archive_answers_queries_at_every_level_and_remembers_after_a_restart(tmp_path, objects):
    with EmbeddedArchive(tmp_path / "archive") as archive:
        send_objects(objects, PeerAddress(host="127.0.0.1", port=archive.port, ae_title="ARCHIVE"), SETTINGS)
    with EmbeddedArchive(tmp_path / "archive") as archive:
        peer = PeerAddress(host="127.0.0.1", port=archive.port, ae_title="ARCHIVE")
        (study,) = query(
            peer, "STUDY", PatientID="SYNTH*", StudyInstanceUID="", NumberOfStudyRelatedInstances=""
        )
        assert (study.StudyInstanceUID, study.NumberOfStudyRelatedInstances) == ("2.25.1001", 5)
        (series,) = query(peer, "SERIES", StudyInstanceUID="2.25.1001", Modality="", SeriesInstanceUID="")
        assert (series.SeriesInstanceUID, series.Modality) == ("2.25.1001.1", "CT")
        images = query(peer, "IMAGE", StudyInstanceUID="2.25.1001", SOPInstanceUID="", SOPClassUID="")
        assert {image.SOPInstanceUID for image in images} == {path.stem for path in objects}
        assert query(peer, "STUDY", PatientID="SOMEBODY", StudyInstanceUID="") == []


def test_a_real_orthanc_stores_and_finds_what_was_sent_and_a_retry_changes_nothing(open_orthanc, objects):
    orthanc = open_orthanc()
    for retry in (False, True):
        answers = send_objects(objects, orthanc.peer, SETTINGS, retry=retry)
        assert {one.answer for one in answers} <= {Answer.STORED, Answer.STORED_WITH_WARNING}
    assert orthanc.get("/statistics")["CountInstances"] == 5
    images = query(orthanc.peer, "IMAGE", StudyInstanceUID="2.25.1001", SOPInstanceUID="")
    assert {image.SOPInstanceUID for image in images} == {path.stem for path in objects}
