"""The nightly training as processes of their own: export, then ``mmf-train nightly``; started by the clock, ended with the node."""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger

log = structlog.get_logger(__name__)

MISFIRE_SECONDS = 3600
"""A night that could not begin in time, for a machine that slept, still begins within this; later ones are skipped."""
END_SECONDS = 20.0
"""Given to a training to end when the node ends; it goes on where it was on the next night."""
NICENESS = 10
LOG_NAME = "nightly.log"
SETTINGS_NAME = "node.toml"
JOB_NAME = "nightly"
_EXECUTOR = "nightly"


@dataclass(frozen=True, slots=True, kw_only=True)
class NightlyPlan:
    """When the night begins and what it runs.

    Attributes:
        hour: of the day, in ``time_zone``.
        time_zone: IANA name.
        commands: one after the other; the first that fails ends the night.
        folder: of the log.
        settings: the node's settings as TOML; written to ``SETTINGS_NAME`` in the folder before the commands, which read it.
    """

    hour: int
    time_zone: str
    commands: tuple[tuple[str, ...], ...]
    folder: Path
    settings: str = ""


@dataclass(slots=True)
class NightlyTraining:
    """Runs the night's commands, one at a time, in processes that the receiver and the workers do not share."""

    plan: NightlyPlan
    _stopped: threading.Event = field(default_factory=threading.Event)
    _process: subprocess.Popen[bytes] | None = None

    def run(self) -> bool:
        """Runs every command and returns whether all of them ended well."""
        from engines.case import replaced  # it brings SimpleITK, which the receiver process must not have

        self.plan.folder.mkdir(parents=True, exist_ok=True)
        with replaced(self.plan.folder / SETTINGS_NAME) as draft:
            draft.write_text(self.plan.settings, encoding="utf-8")
        for command in self.plan.commands:
            if self._stopped.is_set():
                return False
            log.info("night begins a command", command=command[:4])
            status = self._run(command)
            log.info("night ended a command", command=command[:4], status=status)
            if status != 0:
                log.error("the night ended early", log=str(self.plan.folder / LOG_NAME), status=status)
                return False
        return True

    def stop(self) -> None:
        """Ends the command that runs; none is begun any more."""
        self._stopped.set()
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()

    def _run(self, command: Sequence[str]) -> int:
        with (self.plan.folder / LOG_NAME).open("ab") as out:
            self._process = subprocess.Popen(
                ["nice", "-n", str(NICENESS), *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(os.environ),
            )
            if self._stopped.is_set():  # told to stop while it was starting
                self._process.terminate()
            return self._process.wait()


def add_nightly(scheduler: BackgroundScheduler, training: NightlyTraining) -> None:
    """Adds the night to a schedule that has not begun: once a day, late by an hour at most, never two at once."""
    plan = training.plan
    scheduler.add_executor("threadpool", _EXECUTOR, max_workers=1)
    scheduler.add_job(
        training.run,
        CronTrigger(hour=plan.hour, minute=0, timezone=plan.time_zone),
        id=JOB_NAME,
        executor=_EXECUTOR,
        misfire_grace_time=MISFIRE_SECONDS,
        coalesce=True,
        max_instances=1,
    )


def this_program(module: str, *words: str) -> tuple[str, ...]:
    """Returns the command that runs a module of this installation."""
    return (sys.executable, "-m", module, *words)
