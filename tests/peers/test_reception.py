"""The receiver before real and hostile peers: what it acknowledges is on disk, what it cannot take it says."""

import contextlib
import ipaddress
import itertools
import os
import random
import resource
import socket
import struct
import subprocess
import threading
import time

import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, MRImageStorage, Verification
from structlog.testing import capture_logs

from node.dicom.reception.access import Caller
from node.dicom.send import PeerAddress, SendSettings, echo_peer, send_objects
from node.errors import DeliveryPostponed, DeliveryRefused
from node.ports import Answer
from node.testing import SyntheticSlice, encode_dataset, make_slice, save_slices
from tests.conftest import require_peer
from tests.peers.raw_peer import encode_request, pdata, read_pdu, store_command

SETTINGS = SendSettings(ae_title="SCANNER", associate_seconds=5)


def save_series(folder, slices=12, side=64, series=1):
    return save_slices(
        (
            SyntheticSlice(
                instance=f"2.25.1001.{series}.{number}",
                series=f"2.25.1001.{series}",
                position_mm=2.5 * number,
                side=side,
                fill=number,
            )
            for number in range(1, slices + 1)
        ),
        folder,
    )


def run_storescu(reception, *arguments):
    program = require_peer("storescu")
    return subprocess.run(
        [
            program,
            "-R",
            "-aet",
            "SCANNER",
            "-aec",
            "MMFNODE",
            "127.0.0.1",
            str(reception.peer.port),
            *arguments,
        ],
        env={**os.environ, "TCP_NODELAY": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_storescu_sends_a_series_that_lies_here_bit_for_bit(open_reception, tmp_path):
    reception = open_reception()
    paths = save_series(tmp_path / "out")
    run = run_storescu(reception, *map(str, paths))
    assert run.returncode == 0, run.stderr
    assert len(reception.files()) == 12
    kept = {(found := pydicom.dcmread(path)).SOPInstanceUID: found for path in reception.files()}
    for path in paths:
        sent = pydicom.dcmread(path)
        assert kept[sent.SOPInstanceUID] == sent
        assert kept[sent.SOPInstanceUID].file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert kept[sent.SOPInstanceUID].file_meta.SourceApplicationEntityTitle == "SCANNER"


def test_echoscu_is_answered(open_reception):
    reception = open_reception()
    run = subprocess.run(
        [require_peer("echoscu"), "-aec", "MMFNODE", "127.0.0.1", str(reception.peer.port)],
        timeout=20,
        check=False,
    )
    assert run.returncode == 0


def test_small_pdus_of_the_peer_are_put_together(open_reception, tmp_path):
    reception = open_reception()
    (path,) = save_series(tmp_path / "out", slices=1, side=256)
    run = run_storescu(reception, "--max-send-pdu", "4096", str(path))
    assert run.returncode == 0, run.stderr
    assert pydicom.dcmread(reception.files()[0]).PixelData == pydicom.dcmread(path).PixelData


@pytest.mark.parametrize("pdu_bytes", [4096, 16_384, 131_072])
def test_objects_longer_than_the_receive_buffer_arrive_whole_one_after_the_other(
    open_reception, tmp_path, pdu_bytes
):
    reception = open_reception()
    chance = random.Random(pdu_bytes)
    sent = {}
    for number, side in enumerate((512, 1200, 64, 512, 900), start=1):
        dataset = make_slice(SyntheticSlice(instance=f"2.25.1001.7.{number}", side=side))
        dataset.PixelData = chance.randbytes(2 * side * side)
        dataset.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
        sent[dataset.SOPInstanceUID] = dataset.PixelData
    run = run_storescu(
        reception,
        "--max-send-pdu",
        str(pdu_bytes),
        *(str(tmp_path / f"{number}.dcm") for number in (1, 2, 3, 4, 5)),
    )
    assert run.returncode == 0, run.stderr
    kept = [pydicom.dcmread(path) for path in reception.files()]
    assert {one.SOPInstanceUID: one.PixelData for one in kept} == sent


def test_a_compressed_object_is_stored_as_it_came(open_reception, tmp_path):
    reception = open_reception()
    dataset = make_slice(SyntheticSlice(side=64))
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(tmp_path / "rle.dcm", enforce_file_format=True)
    (delivery,) = send_objects([tmp_path / "rle.dcm"], reception.peer, SETTINGS)
    assert delivery.answer is Answer.STORED
    kept = pydicom.dcmread(reception.files()[0])
    assert kept.file_meta.TransferSyntaxUID == RLELossless
    assert kept.PixelData == dataset.PixelData


def test_the_same_series_twice_is_stored_once_and_the_second_time_is_a_success(open_reception, tmp_path):
    reception = open_reception()
    paths = save_series(tmp_path / "out")
    for _ in range(2):
        assert {one.answer for one in send_objects(paths, reception.peer, SETTINGS)} == {Answer.STORED}
    assert len(reception.files()) == 12
    assert reception.inbox.record() == 12


@pytest.mark.parametrize("associations", [8])
def test_eight_associations_at_once_lose_nothing(open_reception, tmp_path, associations):
    reception = open_reception()
    parts = [save_series(tmp_path / f"out{series}", series=series) for series in range(associations)]
    answers = []
    threads = [
        threading.Thread(
            target=lambda paths=paths: answers.extend(send_objects(paths, reception.peer, SETTINGS))
        )
        for paths in parts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {one.answer for one in answers} == {Answer.STORED}
    assert len(reception.files()) == len(answers) == associations * 12
    assert reception.inbox.record() == associations * 12


def test_the_command_and_the_data_set_must_name_the_same_object(open_reception, tmp_path):
    reception = open_reception()
    (path,) = save_series(tmp_path / "out", slices=1)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.MediaStorageSOPInstanceUID = "9.9.9"  # what the command will say
    dataset.save_as(path)
    (delivery,) = send_objects([path], reception.peer, SETTINGS)
    assert (delivery.answer, delivery.status) == (Answer.NEVER, 0xA900)
    assert "SOP Instance UID" in delivery.detail
    assert reception.files() == []


def test_a_truncated_data_set_is_refused_and_the_association_goes_on(open_reception, tmp_path):
    reception = open_reception()
    paths = save_series(tmp_path / "out", slices=3)
    os.truncate(paths[1], paths[1].stat().st_size - 1000)
    answers = send_objects(paths, reception.peer, SETTINGS)
    assert [one.status for one in answers] == [0, 0xC000, 0]
    assert len(reception.files()) == 2


def test_above_the_watermark_the_peer_hears_out_of_resources(open_reception, tmp_path):
    reception = open_reception(minimum_free_bytes=1 << 60)
    (delivery,) = send_objects(save_series(tmp_path / "out", slices=1), reception.peer, SETTINGS)
    assert (delivery.answer, delivery.status) == (Answer.LATER, 0xA700)
    assert echo_peer(reception.peer, SETTINGS) == 0


def test_titles_are_checked_and_strangers_stay_outside(open_reception):
    network = ipaddress.ip_network("127.0.0.0/8")
    reception = open_reception(callers=(Caller(ae_title="SCANNER", network=network),))
    assert echo_peer(reception.peer, SETTINGS) == 0
    with pytest.raises(DeliveryRefused, match="Called AE title not recognised"):
        echo_peer(PeerAddress(host="127.0.0.1", port=reception.peer.port, ae_title="OTHER"), SETTINGS)
    with pytest.raises(DeliveryRefused, match="Calling AE title not recognised"):
        echo_peer(reception.peer, SendSettings(ae_title="STRANGER"))


def test_a_proposal_of_which_nothing_is_taken_gets_a_line_that_names_it(open_reception):
    reception = open_reception()
    entity = AE(ae_title="SCANNER")
    entity.add_requested_context(CTImageStorage, DeflatedExplicitVRLittleEndian)
    with capture_logs() as log:
        association = entity.associate("127.0.0.1", reception.peer.port, ae_title="MMFNODE")
    assert not association.accepted_contexts
    association.abort()
    (line,) = [line for line in log if line["event"].startswith("nothing of what an association proposed")]
    assert (line["calling"], line["sop_classes"]) == ("SCANNER", [CTImageStorage])
    assert line["transfer_syntaxes"] == [DeflatedExplicitVRLittleEndian]


def test_more_associations_than_allowed_are_told_to_come_later(open_reception):
    reception = open_reception(maximum_associations=1)
    entity = AE(ae_title="SCANNER")
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", reception.peer.port, ae_title="MMFNODE")
    assert association.is_established
    with pytest.raises(DeliveryPostponed, match="rejects"):
        echo_peer(reception.peer, SETTINGS)
    association.release()


def test_an_idle_association_makes_room_for_one_that_has_work(open_reception, wait):
    reception = open_reception(maximum_associations=1, spare_seconds=0.05)
    with associate(reception) as idle:
        wait(lambda: reception.listener.count_associations() == 1, 5, "one association")
        deadline = time.monotonic() + 5
        while True:
            try:
                assert echo_peer(reception.peer, SETTINGS) == 0
                break
            except DeliveryPostponed:
                assert time.monotonic() < deadline
        assert read_pdu(idle)[0] in {ABORT, 0}


def test_orthanc_sends_a_study_here(open_reception, open_orthanc, tmp_path):
    reception = open_reception()
    modality = {"AET": "MMFNODE", "Host": "127.0.0.1", "Port": reception.peer.port}
    orthanc = open_orthanc({"node": modality})
    assert {one.answer for one in send_objects(save_series(tmp_path / "out"), orthanc.peer, SETTINGS)} == {
        Answer.STORED
    }
    (study,) = orthanc.get("/studies")
    orthanc.post("/modalities/node/store", [study])
    assert len(reception.files()) == 12


# Hostile peers: raw bytes on a socket


def connect(reception):
    connection = socket.create_connection(("127.0.0.1", reception.peer.port), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def associate(reception):
    connection = connect(reception)
    connection.sendall(encode_request())
    assert read_pdu(connection)[0] == 2
    return connection


ABORT = 7


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">BBI", 4, 0, 0xFFFFFFFF),
        struct.pack(">BBI", 9, 0, 4) + bytes(4),
        struct.pack(">BBI", 1, 0, 4) + bytes(4),
        pdata(b"\xff" * 50),
        pdata(b"x", context=9),
        pdata(b"data without command", control=0b10),
        struct.pack(">BBI", 4, 0, 6) + struct.pack(">IBB", 0xFFFFFFF0, 1, 3),
        struct.pack(">BBI", 4, 0, 3) + b"abc",
        pdata(store_command()) + pdata(store_command()),
        pdata(store_command()) + struct.pack(">BBI", 5, 0, 4) + bytes(4),
        pdata(bytes(60_000), control=0b01) * 2,
    ],
    ids=[
        "4 GiB PDU",
        "unknown PDU",
        "second request",
        "noise as command",
        "unknown context",
        "data set without command",
        "PDV longer than its PDU",
        "PDV header cut",
        "command within a data set",
        "release within a message",
        "endless command",
    ],
)
def test_a_broken_protocol_ends_in_an_abort_and_the_node_lives_on(open_reception, data):
    reception = open_reception()
    with associate(reception) as connection:
        connection.sendall(data)
        kind, _ = read_pdu(connection)
        assert kind == ABORT
        assert read_pdu(connection)[0] == 0
    assert echo_peer(reception.peer, SETTINGS) == 0


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">BBI", 1, 0, 0xFFFFFFFF),
        struct.pack(">BBI", 1, 0, 8) + bytes(8),
    ],
)
def test_what_is_not_an_association_request_is_aborted_at_once(open_reception, data):
    reception = open_reception()
    with connect(reception) as connection:
        connection.sendall(data)
        assert read_pdu(connection)[0] == ABORT
    assert echo_peer(reception.peer, SETTINGS) == 0


def test_an_unknown_operation_gets_a_status(open_reception):
    reception = open_reception()
    with associate(reception) as connection:
        connection.sendall(pdata(store_command(command_field=0x0020)) + pdata(b"identifier", control=0b10))
        kind, body = read_pdu(connection)
        assert kind == 4
        assert struct.pack("<HHIH", 0, 0x0900, 2, 0x0211) in body


def test_an_object_of_a_class_outside_its_context_is_refused(open_reception):
    reception = open_reception()
    with associate(reception) as connection:
        connection.sendall(pdata(store_command(sop_class=MRImageStorage)) + pdata(b"data set", control=0b10))
        kind, body = read_pdu(connection)
        assert kind == 4
        assert struct.pack("<HHIH", 0, 0x0900, 2, 0x0122) in body
    assert reception.files() == []


def test_silence_within_a_pdu_ends_the_association_and_leaves_nothing(open_reception, wait):
    reception = open_reception(pdu_seconds=0.3)
    with associate(reception) as connection:
        connection.sendall(pdata(store_command()) + pdata(b"half a data set", control=0b00))
        wait(lambda: list((reception.inbox.folder / "incoming").iterdir()), 5, "the spool")
        connection.sendall(struct.pack(">BBI", 4, 0, 1000) + b"ten bytes")
        started = time.monotonic()
        assert read_pdu(connection)[0] in {ABORT, 0}
        assert time.monotonic() - started < 3
    wait(lambda: not list((reception.inbox.folder / "incoming").iterdir()), 5, "an empty incoming folder")
    wait(lambda: reception.listener.count_associations() == 0, 5, "no association")


def drip(connection, seconds):
    """Sends the start of a PDU byte by byte until the node closes the connection or the time is over."""
    end = time.monotonic() + seconds
    with contextlib.suppress(OSError):
        for byte in itertools.chain(struct.pack(">BBI", 4, 0, 100_000), itertools.repeat(0)):
            if time.monotonic() > end:
                return
            connection.sendall(bytes((byte,)))
            time.sleep(0.05)  # the drip itself


def test_bytes_that_drip_do_not_prolong_a_pdu(open_reception):
    reception = open_reception(pdu_seconds=0.5)
    with associate(reception) as connection:
        started = time.monotonic()
        drip(connection, seconds=10)
        assert time.monotonic() - started < 5


def test_silence_between_messages_ends_the_association_after_the_idle_time(open_reception):
    reception = open_reception(idle_seconds=0.3)
    with associate(reception) as connection:
        assert read_pdu(connection)[0] in {ABORT, 0}


def test_silence_before_a_request_ends_the_connection_after_the_greeting_time(open_reception):
    reception = open_reception(greeting_seconds=0.3)
    with connect(reception) as connection:
        connection.sendall(b"\x01\x00")
        assert read_pdu(connection)[0] == 0


def test_a_peer_that_goes_away_within_an_object_leaves_nothing(open_reception, wait):
    reception = open_reception()
    with associate(reception) as connection:
        connection.sendall(pdata(store_command()) + pdata(b"half a data set", control=0b00))
        wait(lambda: list((reception.inbox.folder / "incoming").iterdir()), 5, "the spool")
    wait(lambda: not list((reception.inbox.folder / "incoming").iterdir()), 5, "an empty incoming folder")


def test_a_thousand_dripping_connections_do_not_stop_an_honest_sender(open_reception, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    reception = open_reception(maximum_greeting=256)
    paths = save_series(tmp_path / "out")
    before = len(threading.enumerate())
    drips = []
    try:
        for _ in range(1000):
            drip = connect(reception)
            drip.send(b"\x01")
            drips.append(drip)
        assert len(threading.enumerate()) == before
        run = run_storescu(reception, *map(str, paths))  # another process: its sockets have small numbers
        assert run.returncode == 0, run.stderr
        assert len(reception.files()) == len(paths)
    finally:
        for drip in drips:
            drip.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_stopping_lets_an_object_in_transfer_finish(open_reception, wait):
    reception = open_reception(stop_seconds=10)
    dataset = make_slice(SyntheticSlice(instance="1.2.3.4"))
    data = encode_dataset(dataset)
    with associate(reception) as connection:
        connection.sendall(pdata(store_command()) + pdata(data[:200], control=0b00))
        stopper = threading.Thread(target=reception.listener.stop)
        wait(lambda: list((reception.inbox.folder / "incoming").iterdir()), 5, "the spool")
        stopper.start()
        connection.sendall(pdata(data[200:], control=0b10))
        kind, body = read_pdu(connection)
        assert kind == 4
        assert struct.pack("<HHIH", 0, 0x0900, 2, 0) in body
        connection.sendall(struct.pack(">BBI", 5, 0, 4) + bytes(4))
        stopper.join(15)
    assert len(reception.files()) == 1
