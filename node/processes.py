"""The node as processes: this one receives and never imports torch; workers assess; a courier delivers."""

import fcntl
import multiprocessing
import os
import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path

import structlog

from node.completeness import CompletenessRules, Traffic
from node.dicom.commitment import ReportDesk
from node.dicom.reception.accept import Acceptance, read_stored
from node.dicom.reception.access import ListenerSettings
from node.dicom.reception.listener import Listener
from node.errors import SettingsRefused
from node.job import Job
from node.nightly import NightlyPlan, NightlyTraining
from node.ports import Assess, Destination, TellFailure
from node.schedule import Caretaker, keep_results, revive_chores, start_schedule
from node.storage.inbox import FOLDER_MODE, FolderInbox
from node.storage.jobs import SqliteJobs
from node.worker import Worker, WorkRules, name_worker, work_until

log = structlog.get_logger(__name__)

DATABASE_NAME = "node.sqlite"
INBOX_NAME = "inbox"
LOCK_NAME = "node.lock"

_FIRST_RESTART_SECONDS = 1.0
_LONGEST_RESTART_SECONDS = 60.0
_HEALTHY_SECONDS = 60.0
"""A child that lived this long is restarted without delay."""
_STOP_SECONDS = 5.0
"""Given to children to finish what is short; an assessment is resumed after the next start."""
_STOP = b"stop"
_ORPHANED = 3
"""Exit status of a child whose parent is gone."""


class Role(StrEnum):
    """What a child process does."""

    WORKER = "worker"
    COURIER = "courier"


class SystemClock:
    """The time of this machine."""

    def now(self) -> datetime:
        """Returns this moment, aware UTC."""
        return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePlan:
    """Everything ``serve`` needs, made by the composition root.

    It travels to spawned processes: functions in it are module-level functions or partials of them.

    Attributes:
        data: inbox, database and lock live here.
        workers: processes that assess.
        build_assess: called once in each worker process; may import torch.
        build_tell_failure: likewise: what writes the report of an assessment that failed; None = there is none.
        build_destination: called once in the courier process; None = results stay in the data folder.
        prepare_process: called first in every child: logging, threads.
        remove_results: removes what the assessments of a job left, when its time is over.
        nightly: the night's training; None = switched off.
    """

    data: Path
    listener: ListenerSettings
    completeness: CompletenessRules
    work: WorkRules
    workers: int
    minimum_free_bytes: int
    keep_days: int
    build_assess: Callable[[], Assess]
    build_destination: Callable[[], Destination | None]
    prepare_process: Callable[[], None]
    remove_results: Callable[[Job], None] = keep_results
    nightly: NightlyPlan | None = None
    build_tell_failure: Callable[[], TellFailure] | None = None

    @property
    def database(self) -> Path:
        """The node's SQLite file."""
        return self.data / DATABASE_NAME

    @property
    def inbox(self) -> Path:
        """The folder of received objects."""
        return self.data / INBOX_NAME


def serve(plan: ServicePlan, ready: Callable[[int], None], stop: threading.Event | None = None) -> None:
    """Runs the node until SIGTERM, SIGINT or ``stop``.

    Args:
        plan: what to run.
        ready: called once with the open port, when peers can call and the children are started.
        stop: for callers that are not the main thread, where signals cannot be taken; None = take signals.

    Raises:
        SettingsRefused: another node uses the data folder, the port is taken, or the address needs an allow-list.
    """
    try:
        plan.data.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsRefused([f"the data folder {plan.data} cannot be made: {error.strerror}"]) from error
    _raise_file_limit()
    with lock_data(plan.data), SqliteJobs(plan.database) as jobs:
        clock, traffic = SystemClock(), Traffic()
        for job in jobs.recover(clock.now(), plan.work.assessment_tries, owner=""):
            log.warning("job taken back after a restart", job=job.job_id, state=job.state)
        with FolderInbox(
            plan.inbox, plan.database, read_stored=read_stored, minimum_free_bytes=plan.minimum_free_bytes
        ) as inbox:
            inbox.rebuild()
            acceptance = Acceptance(
                inbox, traffic, clock, maximum_object_bytes=plan.listener.maximum_object_bytes
            )
            caretaker = Caretaker(
                inbox=inbox,
                jobs=jobs,
                traffic=traffic,
                clock=clock,
                rules=plan.completeness,
                assessment_tries=plan.work.assessment_tries,
                keep_days=plan.keep_days,
                remove_results=plan.remove_results,
            )
            desk = ReportDesk(jobs=jobs, clock=clock)
            with Listener(plan.listener, acceptance, desk) as listener, _stop_signal(stop) as stopped:
                nightly = None if plan.nightly is None else NightlyTraining(plan.nightly)
                schedule = start_schedule(caretaker, nightly)
                household = Household(plan, jobs, clock)
                try:
                    household.start()
                    ready(listener.port)
                    household.watch(stopped, partial(revive_chores, schedule))
                finally:
                    listener.stop()
                    if nightly is not None:
                        nightly.stop()
                    schedule.shutdown(wait=True)
                    household.stop()
    log.info("node stopped")


@dataclass(slots=True, kw_only=True)
class _Child:
    role: Role
    process: SpawnProcess
    leash: Connection
    started_at: float = 0.0
    pause_seconds: float = _FIRST_RESTART_SECONDS
    restart_at: float | None = None


class Household:
    """The child processes: started by spawn, restarted when they die, ended when the node ends."""

    def __init__(self, plan: ServicePlan, jobs: SqliteJobs, clock: SystemClock) -> None:
        self._plan = plan
        self._jobs = jobs
        self._clock = clock
        self._context: SpawnContext = multiprocessing.get_context("spawn")
        self._children = [self._make(role) for role in [Role.WORKER] * plan.workers + [Role.COURIER]]

    def start(self) -> None:
        """Starts every child."""
        for child in self._children:
            self._begin(child)

    def watch(self, stopped: Connection, meanwhile: Callable[[], None]) -> None:
        """Restarts children that die, and takes their jobs back at once, until ``stopped`` can be read.

        Args:
            stopped: ends the watch.
            meanwhile: done every half second whatever the clock of the machine says.
        """
        while True:
            alive = [child.process.sentinel for child in self._children if child.restart_at is None]
            if stopped in wait([*alive, stopped], timeout=0.5):
                return
            meanwhile()
            moment = time.monotonic()
            for child in self._children:
                if child.restart_at is None and not child.process.is_alive():
                    self._mourn(child, moment)
                elif child.restart_at is not None and child.restart_at <= moment:
                    fresh = self._make(child.role)
                    child.process, child.leash = fresh.process, fresh.leash
                    self._begin(child)

    def stop(self) -> None:
        """Ends every child; what a worker was assessing waits for the next start, without blame."""
        started = [child for child in self._children if child.process.pid is not None]
        for child in started:
            with suppress(BrokenPipeError):
                child.leash.send_bytes(_STOP)
        deadline = time.monotonic() + _STOP_SECONDS
        for child in started:
            child.process.join(max(0.0, deadline - time.monotonic()))
            if child.process.is_alive():
                child.process.kill()
                child.process.join()
            self._take_back(child, blame=False)

    def _make(self, role: Role) -> _Child:
        """A child on a leash of its own: a killed child cannot hold a lock that others wait for."""
        reader, writer = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=run_child, args=(self._plan, role, reader), name=role, daemon=False
        )
        return _Child(role=role, process=process, leash=writer)

    def _begin(self, child: _Child) -> None:
        child.process.start()
        child.started_at = time.monotonic()
        child.restart_at = None
        log.info("process started", role=child.role, pid=child.process.pid)

    def _mourn(self, child: _Child, moment: float) -> None:
        if moment - child.started_at > _HEALTHY_SECONDS:
            child.pause_seconds = _FIRST_RESTART_SECONDS
        child.restart_at = moment + child.pause_seconds
        child.pause_seconds = min(2 * child.pause_seconds, _LONGEST_RESTART_SECONDS)
        log.error(
            "process died and will be started again",
            role=child.role,
            pid=child.process.pid,
            exit_code=child.process.exitcode,
            in_seconds=round(child.restart_at - moment, 1),
        )
        for job in self._take_back(child, blame=True):
            log.warning("job taken back from a dead process", job=job.job_id, state=job.state)

    def _take_back(self, child: _Child, *, blame: bool) -> tuple[Job, ...]:
        """Jobs of a child that is gone; while the database cannot be written (disk full) they wait for their lease's end."""
        owner = _name_lease(child.role, child.process)
        try:
            return self._jobs.recover(
                self._clock.now(), self._plan.work.assessment_tries, owner=owner, blame=blame
            )
        except sqlite3.OperationalError as error:
            log.error("jobs of a dead process cannot be taken back now", process=owner, error=str(error))
            return ()


def run_child(plan: ServicePlan, role: Role, leash: Connection) -> None:
    """The life of a child process: builds its room, then takes jobs until told to stop or orphaned.

    Args:
        plan: what to build.
        role: what to do.
        leash: a message means stop; its end means that the parent is gone.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # a service manager may signal the whole group; the
        signal.signal(number, signal.SIG_IGN)  # receiver ends us in order
    stopped = threading.Event()
    threading.Thread(target=_follow, args=(leash, stopped), name="leash", daemon=True).start()
    plan.prepare_process()
    with SqliteJobs(plan.database) as jobs:
        worker = Worker(name=name_worker(role), jobs=jobs, clock=SystemClock(), rules=plan.work)
        if role is Role.WORKER:
            assess = plan.build_assess()
            tell_failure = None if plan.build_tell_failure is None else plan.build_tell_failure()
            work_until(stopped, lambda: worker.assess_next(assess, tell_failure), plan.work.idle_seconds)
        else:
            destination = plan.build_destination()
            work_until(stopped, lambda: worker.deliver_next(destination), plan.work.idle_seconds)


@contextmanager
def lock_data(data: Path) -> Iterator[None]:
    """Holds the data folder for this node alone; the lock goes with the process, however it ends.

    Raises:
        SettingsRefused: another process holds it.
    """
    with (data / LOCK_NAME).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise SettingsRefused(
                [f"another node (process {file.read().strip()}) uses the data folder {data}"]
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def find_running_node(data: Path) -> int | None:
    """Returns the process ID of the node that holds the data folder, or None when none runs."""
    path = data / LOCK_NAME
    if not path.exists():
        return None
    with path.open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(file.read().strip() or 0) or None
    return None


@contextmanager
def _stop_signal(stop: threading.Event | None) -> Iterator[Connection]:
    """Yields a connection that can be read once the node shall end."""
    reader, writer = multiprocessing.Pipe(duplex=False)
    if stop is not None:
        threading.Thread(target=_forward, args=(stop, writer), name="stop", daemon=True).start()
        yield reader
        return

    def tell(number: int, _: object) -> None:
        log.info("signal taken", signal=signal.Signals(number).name)
        writer.send_bytes(_STOP)

    before = {number: signal.signal(number, tell) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield reader
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _forward(stop: threading.Event, writer: Connection) -> None:
    stop.wait()
    writer.send_bytes(_STOP)


def _follow(leash: Connection, stopped: threading.Event) -> None:
    """Passes the word to stop on; ends this process at once when its parent is gone."""
    with suppress(EOFError):
        leash.recv_bytes()
        stopped.set()
        leash.recv_bytes()
    os._exit(_ORPHANED)


def _name_lease(role: Role, process: SpawnProcess) -> str:
    return f"{role}-{process.pid}"


def _raise_file_limit() -> None:
    """Allows as many open files as the machine does: a thousand silent connections need a thousand."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
