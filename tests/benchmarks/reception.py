"""Objects received per second beside DCMTK storescp, Orthanc and pynetdicom's storescp, in one run, as ratios.

Run it with ``python -m tests.benchmarks.reception [--folder DIR ...] [--rounds N]``. Every receiver gets the same synthetic
CT slices of 0.5 MB from the same fast sender (messages built beforehand, one process an association) on loopback with
TCP_NODELAY everywhere. Rounds alternate between the receivers, and each ratio is the median over the rounds: seconds
on a shared machine mean little. Ours and Orthanc sync every object to the disk before they answer; DCMTK and
pynetdicom's application do not.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import psutil

from tests.benchmarks.table import Row, give

CT = b"1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = b"1.2.840.10008.1.2.1"
PLACE = "2.25." + "9" * 30
"""Stands where each object's UID goes; UIDs of equal length keep the messages' lengths."""
FULL_PDU = 131_072
SMALL_PDU = 16_384
"""What most senders send unless they are told otherwise (DCMTK, pynetdicom, dcm4che)."""
LOADS = ((1, FULL_PDU), (4, FULL_PDU), (8, FULL_PDU), (1, SMALL_PDU), (8, SMALL_PDU))
"""Associations and longest PDU sent."""


@dataclass
class Receiver:
    """A storage SCP under test; ``count`` tells how many objects it has stored."""

    name: str
    title: str
    port: int
    pid: int
    stop: Callable[[], None]
    count: Callable[[], int]

    def cpu_seconds(self) -> float:
        """CPU time of the process and of its children, ended ones too."""
        process = psutil.Process(self.pid)
        family = [process, *process.children(recursive=True)]
        times = [member.cpu_times() for member in family]
        return sum(one.user + one.system + one.children_user + one.children_system for one in times)


@dataclass
class Rate:
    """What one measurement gave."""

    per_second: float
    cpu_milliseconds: float


def free_port() -> int:
    """A port nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], seconds: float = 40.0) -> None:
    """Returns when the condition is true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("a receiver did not become ready")
        time.sleep(0.05)


def answers(port: int) -> bool:
    """Whether somebody listens."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def count_files(folder: Path) -> int:
    """Files below a folder that are finished."""
    return sum(1 for path in folder.rglob("*") if path.is_file() and path.suffix != ".part")


def start_ours(folder: Path) -> Receiver:
    """Our receiver in a process of its own."""
    from node.testing import run_receiver  # not at the top: each sender imports this module

    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    port = free_port()
    process = context.Process(target=run_receiver, args=(folder, port, theirs))
    process.start()
    if not ours.poll(60):
        raise TimeoutError("our receiver did not become ready")
    return Receiver(
        "mmf-node (syncs)",
        "MMFNODE",
        port,
        process.pid or 0,
        process.kill,
        lambda: count_files(folder / "inbox" / "studies"),
    )


def start_program(name: str, command: list[str], port: int, folder: Path) -> Receiver:
    """A receiver that is a program and writes files into ``folder``."""
    process = subprocess.Popen(
        command, env={**os.environ, "TCP_NODELAY": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: answers(port))
    return Receiver(name, "ANY", port, process.pid, process.kill, lambda: count_files(folder))


def start_storescp(folder: Path) -> Receiver | None:
    """DCMTK, one process an association."""
    program = shutil.which("storescp")
    if program is None:
        return None
    folder.mkdir()
    port = free_port()
    command = [program, "--fork", "-pdu", str(FULL_PDU), "+B", "-od", str(folder), str(port)]
    return start_program("DCMTK storescp", command, port, folder)


def start_pynetdicom(folder: Path) -> Receiver:
    """pynetdicom's own application."""
    folder.mkdir()
    port = free_port()
    command = [sys.executable, "-m", "pynetdicom", "storescp", str(port), "-od", str(folder), "-q"]
    return start_program("pynetdicom storescp", command, port, folder)


def start_orthanc(folder: Path) -> Receiver | None:
    """Orthanc, which syncs each object."""
    program = shutil.which("Orthanc")
    if program is None:
        return None
    folder.mkdir()
    http, port = free_port(), free_port()
    settings = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "HttpPort": http,
        "AuthenticationEnabled": False,
        "DicomAet": "ANY",
        "DicomPort": port,
        "DicomAlwaysAllowStore": True,
        "MaximumPduLength": FULL_PDU,
        "DicomThreadsCount": 8,
        "Plugins": [],
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    receiver = start_program("Orthanc (syncs)", [program, str(path)], port, folder)

    def count() -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{http}/statistics", timeout=30) as answer:
                return int(json.load(answer)["CountInstances"])
        except urllib.error.URLError:
            return -1

    wait_for(lambda: count() >= 0)
    receiver.count = count
    return receiver


def item(kind: int, value: bytes) -> bytes:
    """An item of an A-ASSOCIATE-RQ."""
    return struct.pack(">BBH", kind, 0, len(value)) + value


def associate(port: int, title: str, pdu_bytes: int) -> tuple[socket.socket, int]:
    """Opens an association for CT in Explicit VR Little Endian; returns it and the longest PDU to be sent."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    context = item(0x20, bytes((1, 0, 0, 0)) + item(0x30, CT) + item(0x40, EXPLICIT))
    user = item(0x51, struct.pack(">I", 16_384)) + item(0x52, b"1.2.3")
    body = (
        struct.pack(">HH", 1, 0)
        + title.encode().ljust(16)
        + b"BENCH".ljust(16)
        + bytes(32)
        + item(0x10, b"1.2.840.10008.3.1.1.1")
        + context
        + item(0x50, user)
    )
    connection.sendall(struct.pack(">BBI", 1, 0, len(body)) + body)
    kind, accept = read_pdu(connection)
    if kind != 2:
        raise ConnectionError(f"the association was answered with PDU {kind}")
    place = accept.index(b"\x51\x00\x00\x04")
    (maximum,) = struct.unpack_from(">I", accept, place + 4)
    return connection, min(maximum or pdu_bytes, pdu_bytes)


def read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    """The next PDU."""
    header = read_exactly(connection, 6)
    return header[0], read_exactly(connection, int.from_bytes(header[2:], "big"))


def read_exactly(connection: socket.socket, count: int) -> bytes:
    """That many bytes."""
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise ConnectionError("the peer closed")
        data += part
    return data


def build_message(template: bytes, uid: str, maximum_pdu: int) -> bytes:
    """One C-STORE-RQ with its data set, as PDUs."""

    def element(number: int, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return struct.pack("<HHI", 0, number, len(value)) + value

    body = (
        element(0x0002, CT)
        + element(0x0100, struct.pack("<H", 1))
        + element(0x0110, struct.pack("<H", 1))
        + element(0x0700, struct.pack("<H", 0))
        + element(0x0800, struct.pack("<H", 0))
        + element(0x1000, uid.encode())
    )
    command = element(0, struct.pack("<I", len(body))) + body
    data = template.replace(PLACE.encode(), uid.encode())
    pdus = [struct.pack(">BBIIBB", 4, 0, len(command) + 6, len(command) + 2, 1, 3) + command]
    step = maximum_pdu - 6
    for start in range(0, len(data), step):
        part = data[start : start + step]
        last = 2 if start + step >= len(data) else 0
        pdus.append(struct.pack(">BBIIBB", 4, 0, len(part) + 6, len(part) + 2, 1, last) + part)
    return b"".join(pdus)


def encode_template() -> bytes:
    """A synthetic CT slice of 0.5 MB with PLACE as its UID."""
    from node.testing import SyntheticSlice, encode_dataset, make_slice

    return encode_dataset(make_slice(SyntheticSlice(instance=PLACE, side=512, fill=700)))


def send(port: int, title: str, template: bytes, uids: list[str], pdu_bytes: int, barrier: Barrier) -> None:
    """Sends one object per UID on one association, from the moment everyone is ready."""
    connection, maximum_pdu = associate(port, title, pdu_bytes)
    messages = [build_message(template, uid, maximum_pdu) for uid in uids]
    barrier.wait()
    for message in messages:
        connection.sendall(message)
        _, answer = read_pdu(connection)
        if struct.pack("<HHIH", 0, 0x0900, 2, 0) not in answer:
            raise ConnectionError("an object was not stored")
    barrier.wait()
    connection.sendall(struct.pack(">BBI", 5, 0, 4) + bytes(4))
    read_pdu(connection)


def measure(
    receiver: Receiver, associations: int, slices: int, start: int, pdu_bytes: int = FULL_PDU
) -> Rate:
    """Instances per second over all associations, and the receiver's CPU time for each."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(associations + 1)
    before, cpu_before = receiver.count(), receiver.cpu_seconds()
    each, template = slices // associations, encode_template()
    senders = []
    for number in range(associations):
        first = start + number * each
        uids = [f"2.25.{10**29 + first + index}" for index in range(each)]
        senders.append(
            context.Process(
                target=send, args=(receiver.port, receiver.title, template, uids, pdu_bytes, barrier)
            )
        )
    for sender in senders:
        sender.start()
    barrier.wait(60)
    began = time.perf_counter()
    barrier.wait(300)
    seconds = time.perf_counter() - began
    for sender in senders:
        sender.join(30)
    stored = receiver.count() - before
    if stored != each * associations:
        raise AssertionError(f"{receiver.name} stored {stored} of {each * associations}")
    objects = each * associations
    return Rate(objects / seconds, (receiver.cpu_seconds() - cpu_before) * 1000 / objects)


def main() -> None:
    """Measures on each disk that is asked for, and prints or leaves the rows."""
    parser = argparse.ArgumentParser(description="Objects received per second, side by side.")
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(STARTERS), help="names of receivers, separated by commas")
    parser.add_argument("--folder", type=Path, action="append", help="on a disk to measure; repeat for more")
    parser.add_argument("--rows", type=Path, help="leave the rows in this file and print nothing")
    options = parser.parse_args()
    folders = options.folder or [Path(tempfile.gettempdir())]
    rows: list[Row] = []
    for place in folders:
        with tempfile.TemporaryDirectory(dir=place) as name:
            rows += compare(Path(name), options.only.split(","), options.slices, options.rounds)
    give(rows, options.rows)


STARTERS = {
    "ours": start_ours,
    "storescp": start_storescp,
    "orthanc": start_orthanc,
    "pynetdicom": start_pynetdicom,
}


def compare(folder: Path, names: list[str], slices: int, rounds: int) -> list[Row]:
    """One row for each of LOADS: our rate and CPU time, and the rate of each peer with our ratio to it."""
    started = [STARTERS[name](folder / name) for name in names]
    receivers = [receiver for receiver in started if receiver is not None]
    try:
        return [measure_row(receivers, load, slices, rounds, find_disk(folder)) for load in LOADS]
    finally:
        for receiver in receivers:
            receiver.stop()


def measure_row(receivers: list[Receiver], load: tuple[int, int], slices: int, rounds: int, disk: str) -> Row:
    """Rounds alternate between the receivers; rates and ratios are medians over the rounds."""
    associations, pdu_bytes = load
    rates: dict[str, list[Rate]] = {receiver.name: [] for receiver in receivers}
    for _ in range(rounds):
        for receiver in receivers:
            start = next(_NUMBERS) * slices
            rates[receiver.name].append(measure(receiver, associations, slices, start, pdu_bytes))
    ours, *others = rates.items()
    beside = []
    for name, theirs in others:
        ratio = statistics.median(a.per_second / b.per_second for a, b in zip(ours[1], theirs, strict=True))
        beside.append(f"{name} {statistics.median(rate.per_second for rate in theirs):.0f} ({ratio:.2f})")
    per_second = statistics.median(rate.per_second for rate in ours[1])
    cpu = statistics.median(rate.cpu_milliseconds for rate in ours[1])
    return Row(
        f"received, {associations} association{'s' if associations > 1 else ''}, PDUs of {pdu_bytes >> 10} KiB, {disk}",
        f"{per_second:.0f} instances/s, {cpu:.2f} ms CPU each",
        ", ".join(beside),
    )


_NUMBERS = itertools.count()


def find_disk(folder: Path) -> str:
    """The kind of file system a folder lies on."""
    mounts = [part for part in psutil.disk_partitions(all=True) if folder.is_relative_to(part.mountpoint)]
    return str(max(mounts, key=lambda part: len(part.mountpoint)).fstype) if mounts else "unknown disk"


if __name__ == "__main__":
    main()
