"""For tests: fakes of the ports (never of the engines), and synthetic objects that are labelled so."""

import logging
import struct
import threading
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path, PurePosixPath

import structlog
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from node.arrival import Arrival, Identity
from node.completeness import CompletenessRules, Traffic
from node.dicom.reception.accept import Acceptance, read_stored
from node.dicom.reception.access import ListenerSettings
from node.dicom.reception.listener import Listener
from node.dicom.send import PeerAddress, SendSettings, StorageDestination
from node.errors import DeliveryPostponed, DeliveryRefused
from node.job import Job
from node.ports import Answer, Assess, Conclusion, Delivery, Destination
from node.processes import ServicePlan, SystemClock, serve
from node.storage.inbox import FolderInbox, Kept, Sender, Spool
from node.worker import WorkRules


@dataclass(slots=True)
class FakeClock:
    """A clock that stands until it is moved."""

    moment: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def now(self) -> datetime:
        """Returns the moment it stands at."""
        return self.moment

    def advance(self, seconds: float) -> datetime:
        """Moves on and returns the new moment."""
        self.moment += timedelta(seconds=seconds)
        return self.moment


@dataclass(slots=True)
class FakeDestination:
    """A destination that keeps names and answers as it is told.

    Attributes:
        answers: by SOP Instance UID; STORED when absent.
        down: cannot be reached.
        commits: is asked for storage commitment.
    """

    name: str = "fake:104:FAKE"
    answers: dict[str, Answer] = field(default_factory=dict)
    down: bool = False
    commits: bool = False
    refuses_commitment: bool = False
    transactions: list[str] = field(default_factory=list)
    sent: list[tuple[str, bool]] = field(default_factory=list)

    def send(self, paths: Sequence[Path], *, retry: bool) -> tuple[Delivery, ...]:
        """Answers each file; its stem is taken as the SOP Instance UID."""
        if self.down:
            raise DeliveryPostponed(f"{self.name} cannot be reached")
        self.sent.extend((path.stem, retry) for path in paths)
        return tuple(
            Delivery(
                sop_class_uid="1.2.3",
                sop_instance_uid=path.stem,
                answer=self.answers.get(path.stem, Answer.STORED),
                status=0,
                detail="as the test says",
            )
            for path in paths
        )

    def request_commitment(self, deliveries: Sequence[Delivery], transaction_uid: str) -> None:
        """Remembers the transaction, or refuses when it is down."""
        if self.refuses_commitment:
            raise DeliveryRefused(f"{self.name} does not offer storage commitment")
        self.transactions.append(transaction_uid)
        del deliveries


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticSlice:
    """What distinguishes one synthetic CT slice from another."""

    study: str = "2.25.1001"
    series: str = "2.25.1001.1"
    instance: str = "2.25.1001.1.1"
    position_mm: float = 0.0
    acquisition: int = 1
    side: int = 16
    fill: int = 0


def make_slice(one: SyntheticSlice) -> Dataset:
    """Returns a synthetic CT slice as a data set ready to be saved or sent."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = one.instance
    dataset.StudyInstanceUID = one.study
    dataset.SeriesInstanceUID = one.series
    dataset.Modality = "CT"
    dataset.PatientName = "Synthetic^Patient"
    dataset.PatientID = "SYNTHETIC"
    dataset.SeriesDescription = "synthetic"
    dataset.AcquisitionNumber = one.acquisition
    dataset.ImagePositionPatient = [0.0, 0.0, one.position_mm]
    dataset.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    dataset.PixelSpacing = [1.0, 1.0]
    dataset.Rows = dataset.Columns = one.side
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = struct.pack("<H", one.fill) * (one.side * one.side)
    return dataset


def encode_dataset(dataset: Dataset) -> bytes:
    """Returns a data set in Explicit VR Little Endian, without file meta information."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, dataset)
    encoded: bytes = buffer.getvalue()
    return encoded


def save_slices(slices: Iterable[SyntheticSlice], folder: Path) -> tuple[Path, ...]:
    """Writes synthetic slices as DICOM files and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for one in slices:
        path = folder / f"{one.instance}.dcm"
        make_slice(one).save_as(path, enforce_file_format=True)
        paths.append(path)
    return tuple(paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeAssess:
    """An assessment that leaves one synthetic object, the same for the same images, and a mark for each run.

    Attributes:
        folder: results go to ``folder/STUDY``; one file in ``folder/runs`` for each run begun.
        seconds: how long it takes.
        objects: how many objects it leaves.
    """

    folder: Path
    seconds: float = 0.0
    objects: int = 1

    def __call__(self, job: Job) -> Conclusion:
        """Writes the objects and concludes."""
        runs = self.folder / "runs"
        runs.mkdir(parents=True, exist_ok=True)
        (runs / f"{job.job_id}-{uuid.uuid4().hex}").touch()
        if self.seconds:
            threading.Event().wait(self.seconds)
        results = self.folder / job.study_instance_uid
        save_slices(
            (
                SyntheticSlice(
                    study=job.study_instance_uid,
                    series=f"{job.study_instance_uid}.9",
                    instance=f"{job.study_instance_uid}.9.{number}",
                )
                for number in range(1, self.objects + 1)
            ),
            results,
        )
        return Conclusion(objects=results, outcome="assessed", model_version="fake-1")


def build_fake_assess(folder: Path, seconds: float = 0.0, objects: int = 1) -> Assess:
    """Returns a :class:`FakeAssess`; a function, so that a partial of it travels to spawned processes."""
    return FakeAssess(folder=folder, seconds=seconds, objects=objects)


def build_storage_destination(peer: PeerAddress) -> Destination:
    """Returns the real destination of a test's archive."""
    return StorageDestination(peer, SendSettings())


def prepare_nothing() -> None:
    """Prepares a child process of a test: nothing to do."""


def run_receiver(folder: Path, port: int, connection: Connection, *, acknowledge_early: bool = False) -> None:
    """Receives into ``folder`` until it is killed; says so on ``connection`` once peers can call.

    Args:
        folder: of the inbox and its index.
        port: to listen on.
        connection: gets one message.
        acknowledge_early: plants a mistake for the crash test to find: success is answered before the object has its
            final name.
    """
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    kind = _HastyInbox if acknowledge_early else FolderInbox
    inbox = kind(folder / "inbox", folder / "node.sqlite", read_stored=read_stored)
    inbox.rebuild()
    listener = Listener(ListenerSettings(port=port), Acceptance(inbox, Traffic(), SystemClock()))
    listener.start()
    connection.send("ready")
    while True:
        inbox.record()
        threading.Event().wait(0.02)


class _HastyInbox(FolderInbox):
    """An inbox with a mistake: it keeps objects a moment after it said so."""

    def keep(
        self, spool: Spool, identity: Identity, transfer_syntax_uid: str, sender: Sender, now: datetime
    ) -> Kept:
        """Promises first and keeps 20 ms later."""
        threading.Timer(0.02, super().keep, args=(spool, identity, transfer_syntax_uid, sender, now)).start()
        arrival = Arrival(
            identity=identity,
            transfer_syntax_uid=transfer_syntax_uid,
            content_sha256=spool.content_sha256,
            path=PurePosixPath("not yet"),
            size_bytes=spool.size_bytes,
            received_at=now,
        )
        return Kept(arrival=arrival, duplicate=False)


def run_node(data: Path, port: int, archive: PeerAddress, connection: Connection) -> None:
    """Runs the whole node with a fake assessment until it is killed; says so on ``connection`` once it is ready."""
    logging.disable(logging.CRITICAL)
    plan = ServicePlan(
        data=data / "node",
        listener=ListenerSettings(port=port),
        completeness=CompletenessRules(
            release_seconds=0.2, quiet_seconds=0.5, settle_seconds=0.5, required_passes=1
        ),
        work=WorkRules(
            first_retry_seconds=0.1, assessment_tries=1000, delivery_tries=1000, idle_seconds=0.05
        ),
        workers=1,
        minimum_free_bytes=0,
        keep_days=0,
        build_assess=partial(build_fake_assess, data / "results", 0.05),
        build_destination=partial(build_storage_destination, archive),
        prepare_process=prepare_quiet,
    )
    prepare_quiet()
    serve(plan, connection.send)


def prepare_quiet() -> None:
    """Prepares a process of a test: no log below critical."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
