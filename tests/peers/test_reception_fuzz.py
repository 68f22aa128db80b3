"""Broken bytes of every kind on the wire: each connection ends in an answer or a close, nothing half is kept."""

import contextlib
import random
import socket

import psutil
import pytest
from pynetdicom.sop_class import CTImageStorage

from node.dicom.reception.accept import read_stored
from node.dicom.send import SendSettings, echo_peer
from node.testing import SyntheticSlice, encode_dataset, make_slice
from tests.peers.raw_peer import encode_request, pdata, release_request, store_command

DATA = encode_dataset(make_slice(SyntheticSlice(instance="1.2.3.4", side=16)))
CONVERSATION = [
    encode_request(classes=(CTImageStorage,)),
    pdata(store_command()),
    pdata(DATA[:400], control=0b00),
    pdata(DATA[400:], control=0b10),
    release_request(),
]


def break_bytes(pieces: list[bytes], chance: random.Random) -> list[bytes]:
    """The conversation with one to three faults: changed, cut, doubled, swapped, inserted or removed bytes."""
    pieces = list(pieces)
    for _ in range(chance.randint(1, 3)):
        index = chance.randrange(len(pieces))
        piece = bytearray(pieces[index])
        place = chance.randrange(max(1, len(piece)))
        kind = chance.randrange(7)
        if kind == 0 and piece:
            piece[place] = chance.randrange(256)
        elif kind == 1:
            piece = piece[:place]
        elif kind == 2:
            piece *= 2
        elif kind == 3:
            piece[place:place] = chance.randbytes(chance.randint(1, 40))
        elif kind == 4:
            del piece[place : place + chance.randint(1, 40)]
        elif kind == 5:
            other = chance.randrange(len(pieces))
            pieces[index], pieces[other] = pieces[other], pieces[index]
            continue
        else:
            piece[2:6] = chance.choice([b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x7f\xff\xff\xff"])
        pieces[index] = bytes(piece)
    return pieces


def converse(port: int, pieces: list[bytes]) -> int:
    """Sends the request, takes the answer if one comes, sends the rest and says that no more comes.

    Returns:
        How many bytes were answered before the node closed.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=0.1) as connection:
        answered = 0
        with contextlib.suppress(ConnectionError):
            connection.sendall(pieces[0])
            with contextlib.suppress(TimeoutError):
                answered += len(connection.recv(65_536))
            connection.settimeout(20)
            connection.sendall(b"".join(pieces[1:]))
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65_536):
                answered += len(part)
        return answered


def converse_many(reception, count: int, seed: int) -> int:
    """Holds ``count`` broken conversations; returns how many were answered at all."""
    chance = random.Random(seed)
    answered = sum(converse(reception.peer.port, break_bytes(CONVERSATION, chance)) > 0 for _ in range(count))
    assert echo_peer(reception.peer, SendSettings()) == 0
    for path in reception.files():
        assert read_stored(path).content_sha256[:32] == path.stem.partition("-")[2]
    return answered


def test_five_hundred_broken_conversations_leave_the_receiver_well(open_reception, wait):
    reception = open_reception(greeting_seconds=2, pdu_seconds=2)
    assert converse(reception.peer.port, CONVERSATION) > 0
    assert len(reception.files()) == 1
    assert converse_many(reception, 500, seed=1) > 100
    wait(lambda: not list((reception.inbox.folder / "incoming").iterdir()), 10, "an empty incoming folder")
    wait(lambda: reception.listener.count_associations() == 0, 10, "no association")


@pytest.mark.slow
def test_a_hundred_thousand_broken_conversations_leave_the_receiver_well_and_small(open_reception, wait):
    reception = open_reception(greeting_seconds=2, pdu_seconds=2)
    converse_many(reception, 1000, seed=2)
    before = psutil.Process().memory_info().rss
    for part in range(100):
        converse_many(reception, 1000, seed=3 + part)
    wait(lambda: reception.listener.count_associations() == 0, 10, "no association")
    assert psutil.Process().memory_info().rss - before < 64 << 20
