"""Kills the receiver, or the whole node, at random moments while a sender works, and counts what was lost.

A kill -9 leaves the page cache of the system alone: this proves the order of events in the program, not the disk's
behaviour in a power cut.
"""

import multiprocessing
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import psutil

from node.dicom.reception.accept import read_stored
from node.dicom.send import PeerAddress, SendSettings, send_objects
from node.errors import DeliveryPostponed
from node.ports import Answer
from node.storage.inbox import FolderInbox
from node.testing import SyntheticSlice, run_node, run_receiver, save_slices

VICTIMS = ("worker", "node", "courier", "node")
SENDER = SendSettings(ae_title="SCANNER", connect_seconds=2, associate_seconds=2, response_seconds=2)


def open_context():
    """Processes that start within milliseconds: forked from a server that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["node.testing"])
    return context


def kill(process):
    """kill -9 of a process and of every process below it, at once."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        member.send_signal(signal.SIGKILL)
    process.join(10)
    psutil.wait_procs(family, timeout=10)


@dataclass
class Ledger:
    """What the sender was promised.

    Attributes:
        acknowledged: SOP Instance UIDs that got 0x0000.
        wanted: files still to be sent.
    """

    wanted: list
    acknowledged: set = field(default_factory=set)


def keep_sending(ledger, peer, stop, batch=8):
    """Sends what is wanted, a few objects an association, again and again whatever happens to the peer."""
    while not stop.is_set():
        open_files = [path for path in ledger.wanted if path.stem not in ledger.acknowledged] or ledger.wanted
        try:
            answers = send_objects(open_files[:batch], peer, SENDER)
        except DeliveryPostponed:
            time.sleep(0.01)
            continue
        ledger.acknowledged.update(one.sop_instance_uid for one in answers if one.answer is Answer.STORED)


def save_many(folder, count):
    """Synthetic slices in studies of 25."""
    return list(
        save_slices(
            (
                SyntheticSlice(
                    study=f"2.25.50.{number // 25}",
                    series=f"2.25.50.{number // 25}.1",
                    instance=f"2.25.50.{number // 25}.1.{number % 25 + 1}",
                    position_mm=2.5 * (number % 25),
                    side=48,
                    fill=number % 1000,
                )
                for number in range(count)
            ),
            folder,
        )
    )


def count_lost_by_receiver(folder, port, kills, seed, *, acknowledge_early=False):
    """Kills the receiver ``kills`` times; returns (objects acknowledged, of these lost, rows that are double)."""
    random_moment = random.Random(seed)
    context = open_context()
    peer = PeerAddress(host="127.0.0.1", port=port, ae_title="MMFNODE")
    ledger = Ledger(wanted=save_many(folder / "out", 40 + 12 * kills))
    stop = threading.Event()
    sender = threading.Thread(target=keep_sending, args=(ledger, peer, stop))
    sender.start()
    try:
        for _ in range(kills):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=run_receiver,
                args=(folder, port, theirs),
                kwargs={"acknowledge_early": acknowledge_early},
            )
            process.start()
            assert ours.poll(20)
            time.sleep(random_moment.uniform(0.02, 0.35))
            kill(process)
    finally:
        stop.set()
        sender.join(20)
    with FolderInbox(folder / "inbox", folder / "node.sqlite", read_stored=read_stored) as inbox:
        inbox.rebuild()
        known = {}
        for study in {path.stem.rsplit(".", 2)[0] for path in ledger.wanted}:
            for arrival in inbox.arrivals(study):
                stored = read_stored(inbox.folder / arrival.path)
                assert stored.content_sha256 == arrival.content_sha256
                known[arrival.identity.sop_instance_uid] = known.get(arrival.identity.sop_instance_uid, 0) + 1
    lost = ledger.acknowledged - known.keys()
    return len(ledger.acknowledged), len(lost), sum(rows > 1 for rows in known.values())


def kill_node_until_done(folder, port, archive, kills, seed):
    """Kills ``kills`` times while studies arrive, are assessed and delivered: the worker, the whole node
    at once, the courier, the whole node, and so on, at random moments. The last life is left to finish.

    Returns:
        The process of the last life, the ledger, and how often each was killed.
    """
    chance = random.Random(seed)
    context = open_context()
    peer = PeerAddress(host="127.0.0.1", port=port, ae_title="MMFNODE")
    ledger = Ledger(wanted=save_many(folder / "out", 25 * max(2, kills // 4)))
    stop = threading.Event()
    sender = threading.Thread(target=keep_sending, args=(ledger, peer, stop, 25))
    sender.start()
    killed = Counter()
    process = None
    try:
        while killed.total() < kills:
            if process is None:
                process = start_node(context, folder, port, archive)
            time.sleep(chance.uniform(0.05, 1.5))
            victim = VICTIMS[killed.total() % len(VICTIMS)]
            children = psutil.Process(process.pid).children()
            if victim == "node":
                kill(process)
                process = None
            elif len(children) == 2:  # one worker, then the courier, in the order they are started
                children.sort(key=lambda child: child.create_time())
                children[0 if victim == "worker" else 1].send_signal(signal.SIGKILL)
            else:
                continue  # the last one killed is not back yet
            killed[victim] += 1
        if process is None:
            process = start_node(context, folder, port, archive)
    finally:
        deadline = time.monotonic() + 120
        while len(ledger.acknowledged) < len(ledger.wanted) and time.monotonic() < deadline:
            time.sleep(0.05)
        stop.set()
        sender.join(20)
    return process, ledger, killed


def start_node(context, folder, port, archive):
    """A new life of the node, ready for peers."""
    ours, theirs = context.Pipe()
    process = context.Process(target=run_node, args=(folder, port, archive, theirs))
    process.start()
    assert ours.poll(60)
    return process
