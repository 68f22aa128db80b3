"""What happens by the clock: studies close, lost leases come back, old studies go."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from node.completeness import CompletenessRules, Traffic, forget_after, judge_completeness
from node.job import Job
from node.nightly import NightlyTraining, add_nightly
from node.ports import Clock
from node.storage.inbox import FolderInbox
from node.storage.jobs import SqliteJobs

log = structlog.get_logger(__name__)

CLOSE_SECONDS = 0.25
"""How often studies are judged (architecture.md, section 2 asks for every second)."""
RECOVER_SECONDS = 10.0
CLEAN_SECONDS = 3600.0
CLOCK_TOLERANCE = timedelta(seconds=5)
"""What lies further in the future was written down before the clock was put back (OURS: no process is that late)."""
_MISFIRE_SECONDS = 30
"""A run that is late by less than this still happens; later ones are skipped, the next is due soon anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caretaker:
    """The chores of the node, each a method that does it once.

    Attributes:
        keep_days: studies whose jobs ended this long ago are removed; 0 keeps them.
        remove_results: removes what assessments of a job left (case folder, objects).
    """

    inbox: FolderInbox
    jobs: SqliteJobs
    traffic: Traffic
    clock: Clock
    rules: CompletenessRules
    assessment_tries: int
    keep_days: int
    remove_results: Callable[[Job], None]

    def close_studies(self) -> tuple[Job, ...]:
        """Records what arrived, opens a job for each study that is complete now, and returns those jobs."""
        now = self.clock.now()
        self.inbox.record()
        opened = []
        for study in self.inbox.open_studies(now - timedelta(seconds=self.rules.shortest_seconds)):
            verdict = judge_completeness(
                study, self.traffic.of_study(study.study_instance_uid), now, self.rules
            )
            if verdict.evidence is None:
                continue
            job = self.jobs.close_study(study.study_instance_uid, now)
            log.info(
                "study complete",
                study=study.study_instance_uid,
                evidence=verdict.evidence,
                seen=verdict.why,
                job=job.job_id if job else None,
            )
            if job is not None:
                opened.append(job)
        return tuple(opened)

    def recover_leases(self) -> None:
        """Puts jobs of silent workers back into the queue."""
        for job in self.jobs.recover(self.clock.now(), self.assessment_tries):
            log.warning("lease ran out", job=job.job_id, study=job.study_instance_uid, state=job.state)

    def follow_clock(self) -> None:
        """Brings back what lies in the future because the clock was put back; else it would wait as long again."""
        now = self.clock.now()
        latest = now + CLOCK_TOLERANCE
        studies, jobs = self.inbox.bring_back(now, latest), self.jobs.bring_back(now, latest)
        self.traffic.bring_back(now)
        if studies or jobs:
            log.warning(
                "the clock was put back; what waited for a later hour goes on", studies=studies, jobs=jobs
            )

    def expire_confirmations(self) -> None:
        """Gives up waiting for storage commitment reports that are overdue."""
        for job in self.jobs.expire_confirmations(self.clock.now()):
            log.warning("storage commitment never came", job=job.job_id, study=job.study_instance_uid)

    def clean(self) -> int:
        """Removes studies that ended long ago and returns how many; forgets the traffic of idle ones."""
        now: datetime = self.clock.now()
        self.traffic.forget_idle(now - forget_after())
        if self.keep_days == 0:
            return 0
        removed = 0
        for study in self.jobs.finished_studies(now - timedelta(days=self.keep_days)):
            objects = self.inbox.remove_study(study)
            for job in self.jobs.find(study_instance_uid=study):
                self.remove_results(job)
            if objects:
                removed += 1
                log.info("study removed after its time", study=study, objects=objects, days=self.keep_days)
        return removed


def keep_results(_: Job) -> None:
    """Removes nothing."""


def start_schedule(caretaker: Caretaker, nightly: NightlyTraining | None = None) -> BackgroundScheduler:
    """Returns the running schedule of the node's chores, each at most once at a time; stop it with ``shutdown()``.

    Jobs are made here, from code, and live in memory: what is due is in the database, not in the schedule.
    """
    logging.getLogger("apscheduler").setLevel(
        logging.ERROR
    )  # a chore that is still busy is left out, as meant
    scheduler = BackgroundScheduler(
        executors={"default": ThreadPoolExecutor(2)},
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": _MISFIRE_SECONDS},
        timezone="UTC",
    )
    for chore, seconds in (
        (caretaker.close_studies, CLOSE_SECONDS),
        (caretaker.recover_leases, RECOVER_SECONDS),
        (caretaker.follow_clock, RECOVER_SECONDS),
        (caretaker.expire_confirmations, RECOVER_SECONDS),
        (caretaker.clean, CLEAN_SECONDS),
    ):
        scheduler.add_job(chore, IntervalTrigger(seconds=seconds), id=chore.__name__)
    if nightly is not None:
        add_nightly(scheduler, nightly)
    scheduler.start()
    return scheduler


def revive_chores(scheduler: BackgroundScheduler) -> None:
    """Makes chores due that a clock put back would leave alone until it is where it was: the schedule goes by that clock."""
    now = datetime.now(UTC)
    for job in scheduler.get_jobs():
        if (
            isinstance(job.trigger, IntervalTrigger)
            and job.next_run_time > now + job.trigger.interval + CLOCK_TOLERANCE
        ):
            job.modify(next_run_time=now)
