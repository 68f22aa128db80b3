"""Is a study complete, and by which evidence? Pure: the traffic and the time come in as data."""

import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from statistics import median

from node.arrival import OpenStudy, Pass

MINIMUM_SLICES = 20
"""Fewer images are no phase (dicom.md, section 3)."""
GAP_FACTOR = 1.5
"""A step between neighbouring slices longer than this many median steps is a missing slice (OURS)."""
PAUSE_FACTOR = 2.0
"""A sender that paused between associations of one study is given this many of its longest pauses again (OURS)."""


class Evidence(StrEnum):
    """Why a study counts as complete."""

    RELEASED = "RELEASED"
    """Enough whole passes are here and every association that brought them was released by its sender."""
    QUIET = "QUIET"
    """Enough whole passes are here and nothing came for the quiet time."""
    SETTLED = "SETTLED"
    """A pass or a slice is missing, and nothing came for the quiet and the settle time together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletenessRules:
    """How long to wait, by evidence.

    Attributes:
        release_seconds: after the last release, for another association to open.
        quiet_seconds: without release.
        settle_seconds: in addition while a pass or a slice is missing.
        required_passes: whole passes of at least MINIMUM_SLICES images that a study needs to count as whole.
    """

    release_seconds: float = 1.0
    quiet_seconds: float = 10.0
    settle_seconds: float = 120.0
    required_passes: int = 3

    @property
    def shortest_seconds(self) -> float:
        """No study is complete sooner than this after its last object."""
        return min(self.release_seconds, self.quiet_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyTraffic:
    """What senders did and do for one study.

    Attributes:
        in_transfer: one of its objects is on its way in.
        open_associations: associations that brought objects of it last and are still open.
        released: every association that brought objects of it ended with a release, none with an abort.
        last_activity_at: last begin or end of an object, or end of an association; None when nothing is known.
        longest_pause_seconds: between the end of one association and the first object of the next.
    """

    in_transfer: bool = False
    open_associations: int = 0
    released: bool = False
    last_activity_at: datetime | None = None
    longest_pause_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a study is complete; ``evidence`` is None while it is not, ``why`` says what was seen."""

    evidence: Evidence | None
    why: str


def judge_completeness(
    study: OpenStudy, traffic: StudyTraffic, now: datetime, rules: CompletenessRules
) -> Verdict:
    """Returns whether the study is complete.

    No study is complete while one of its objects is in transfer. A release by the sender is the strongest evidence,
    but only for a study that looks whole: it needs ``required_passes`` passes without a gap, and the sender must stay
    away for at least twice its own longest pause (some open one association a series). Everything else waits for the
    quiet time, and a study that lacks a pass or a slice for the settle time on top.
    """
    if traffic.in_transfer:
        return Verdict(evidence=None, why="an object is in transfer")
    latest = max(study.last_received_at, traffic.last_activity_at or study.last_received_at)
    quiet_seconds = (now - latest).total_seconds()
    missing = describe_missing(study.passes, rules.required_passes)
    if missing:
        needed, evidence = rules.quiet_seconds + rules.settle_seconds, Evidence.SETTLED
    elif traffic.released and traffic.open_associations == 0:
        pause = PAUSE_FACTOR * traffic.longest_pause_seconds
        needed = min(max(rules.release_seconds, pause), rules.quiet_seconds + rules.settle_seconds)
        evidence = Evidence.RELEASED
    else:
        needed, evidence = rules.quiet_seconds, Evidence.QUIET
    why = missing or f"{len(study.passes)} passes, {study.images} objects"
    if quiet_seconds < needed:
        return Verdict(evidence=None, why=f"{why}; quiet for {quiet_seconds:.1f} s of {needed:.1f} s")
    return Verdict(evidence=evidence, why=f"{why}; quiet for {quiet_seconds:.1f} s")


def describe_missing(passes: tuple[Pass, ...], required_passes: int) -> str:
    """Returns what a study lacks to look whole, in words; "" when nothing."""
    plausible = [one for one in passes if one.images >= MINIMUM_SLICES]
    count = sum(_count_stacked(one) for one in plausible)
    if count < required_passes:
        return f"{count} passes of at least {MINIMUM_SLICES} images, {required_passes} needed"
    for one in plausible:
        gap = find_gap(one.positions_mm)
        if gap is not None:
            return f"series {one.series_instance_uid} lacks a slice between {gap[0]:g} and {gap[1]:g} mm"
    return ""


def find_gap(positions_mm: tuple[float, ...]) -> tuple[float, float] | None:
    """Returns the first two neighbouring slice positions between which a slice is missing, or None.

    Args:
        positions_mm: sorted, distinct, mm.
    """
    if len(positions_mm) < 3:
        return None
    pairs = list(pairwise(positions_mm))
    step = median(after - before for before, after in pairs)
    return next((pair for pair in pairs if pair[1] - pair[0] > GAP_FACTOR * step), None)


def _count_stacked(one: Pass) -> int:
    """How many passes lie on top of each other in one series whose objects do not tell them apart."""
    distinct = len(one.positions_mm)
    if distinct < MINIMUM_SLICES:
        return 1
    return max(1, round(one.images / distinct))


class Traffic:
    """Watches the associations: which study each serves now, what is in transfer, how each ended. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._associations: dict[int, _Association] = {}
        self._studies: dict[str, _StudyRecord] = {}

    def object_begins(self, association: int, now: datetime) -> None:
        """An object is on its way; until it says otherwise it counts for the study its association served last."""
        with self._lock:
            record = self._associations.setdefault(association, _Association())
            record.in_transfer = True
            if record.study:
                self._studies[record.study].last_activity_at = now

    def study_known(self, association: int, study_instance_uid: str, now: datetime) -> None:
        """The object in transfer belongs to this study."""
        with self._lock:
            record = self._associations.setdefault(association, _Association())
            if record.study != study_instance_uid:
                self._leave(association, record)
                record.study = study_instance_uid
            study = self._studies.setdefault(study_instance_uid, _StudyRecord())
            if association not in study.associations:
                study.associations.add(association)
                if study.closed_at is not None and not study.open:
                    pause = (now - study.closed_at).total_seconds()
                    study.longest_pause_seconds = max(study.longest_pause_seconds, pause)
            study.open.add(association)
            study.last_activity_at = now

    def object_ends(self, association: int, now: datetime) -> None:
        """The object is kept or refused."""
        with self._lock:
            record = self._associations.setdefault(association, _Association())
            record.in_transfer = False
            if record.study:
                self._studies[record.study].last_activity_at = now

    def association_ends(self, association: int, *, released: bool, now: datetime) -> None:
        """The association is over, by release or otherwise."""
        with self._lock:
            record = self._associations.pop(association, None)
            if record is None or not record.study:
                return
            study = self._studies[record.study]
            study.open.discard(association)
            study.closed_at = study.last_activity_at = now
            study.aborted = study.aborted or not released

    def of_study(self, study_instance_uid: str) -> StudyTraffic:
        """Returns what is known of a study's senders; nothing after a restart."""
        with self._lock:
            study = self._studies.get(study_instance_uid)
            if study is None:
                return StudyTraffic()
            return StudyTraffic(
                in_transfer=any(self._associations[number].in_transfer for number in study.open),
                open_associations=len(study.open),
                released=not study.aborted and study.closed_at is not None,
                last_activity_at=study.last_activity_at,
                longest_pause_seconds=study.longest_pause_seconds,
            )

    def bring_back(self, now: datetime) -> None:
        """Takes what was seen later than ``now`` for seen now: the clock was put back."""
        with self._lock:
            for study in self._studies.values():
                if study.last_activity_at is not None:
                    study.last_activity_at = min(study.last_activity_at, now)
                if study.closed_at is not None:
                    study.closed_at = min(study.closed_at, now)

    def forget_idle(self, before: datetime) -> None:
        """Drops studies without activity since ``before`` and without open associations: memory stays bounded."""
        with self._lock:
            for uid in [
                uid
                for uid, study in self._studies.items()
                if not study.open and study.last_activity_at is not None and study.last_activity_at < before
            ]:
                del self._studies[uid]

    def open_associations(self) -> int:
        """Returns how many associations have brought an object and are still open."""
        with self._lock:
            return len(self._associations)

    def _leave(self, association: int, record: "_Association") -> None:
        """The association moved on to another study: it says nothing more about the first, not even a release."""
        if record.study:
            study = self._studies[record.study]
            study.open.discard(association)
            study.aborted = True


@dataclass(slots=True, kw_only=True)
class _Association:
    study: str = ""
    in_transfer: bool = False


@dataclass(slots=True, kw_only=True)
class _StudyRecord:
    associations: set[int] = field(default_factory=set)
    open: set[int] = field(default_factory=set)
    closed_at: datetime | None = None
    last_activity_at: datetime | None = None
    longest_pause_seconds: float = 0.0
    aborted: bool = False


def forget_after() -> timedelta:
    """Returns how long the traffic of an idle study is remembered: a day covers every settle time."""
    return timedelta(days=1)
