"""Judges which times of a study may be believed, and what seconds after injection and between passes say."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from engines.phase import Phase
from node.phases.rules import OTHER, STATES, Gap, Injection, LogNormal
from node.study import Acquisition

_DAY_SECONDS = 86400.0
FLAT_DENSITY = 0.15
"""Flat density per unit of ln(seconds): one over the logarithm of the range from 5 s to an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassTime:
    """When one acquisition was scanned.

    Attributes:
        span: first and last acquisition time, None when not known or not believed.
        seconds_after_injection: start less bolus start, None when not known or not believed.
        doubts: why a time that stands in the header is not believed.
    """

    span: tuple[datetime, datetime] | None = None
    seconds_after_injection: float | None = None
    doubts: tuple[str, ...] = ()

    @property
    def start(self) -> datetime | None:
        """The first acquisition time."""
        return None if self.span is None else self.span[0]


def read_times(acquisitions: Sequence[Acquisition], rules: Injection) -> tuple[PassTime, ...]:
    """Returns when each acquisition of one study was scanned, as far as the times can be believed.

    Not believed: midnight to the second; a time that all acquisitions share although their numbers say that they are
    several passes, or all parts of a series that are passes; a bolus start equal to study or series time, or outside the window. A study over midnight whose date
    did not advance is unwrapped.

    Args:
        acquisitions: of one study.
        rules: window of believable seconds after injection.
    """
    ranges = [_range(acquisition) for acquisition in acquisitions]
    starts = {times[0] for times in ranges if times is not None}
    numbers = {acquisition.first.acquisition_number for acquisition in acquisitions}
    shared = len(ranges) > 1 and len(starts) == 1 and None not in ranges and len(numbers) > 1
    copied = _copied_times(acquisitions, ranges)
    ranges = [
        None if shared or acquisition.series_instance_uid in copied else times
        for acquisition, times in zip(acquisitions, ranges, strict=True)
    ]
    wrap = _wraps([times[0] for times in ranges if times is not None])
    found = []
    for acquisition, times in zip(acquisitions, ranges, strict=True):
        if times is None:
            alike = shared or acquisition.series_instance_uid in copied
            doubt = ("acquisition time is the same for all passes",) if alike else ()
            found.append(PassTime(doubts=doubt))
            continue
        start, end = (moment + timedelta(days=1) if wrap and moment.hour < 12 else moment for moment in times)
        seconds, doubts = _seconds(acquisition, start, rules)
        found.append(PassTime(span=(start, end), seconds_after_injection=seconds, doubts=doubts))
    return tuple(found)


def injection_likelihood(seconds: float, rules: Injection) -> tuple[float, ...]:
    """Returns how well a time after the start of injection fits each state.

    An earlier time than the arterial median is no less arterial, a later one than the delayed median no less delayed.

    Args:
        seconds: after the start of injection; negative before it.
        rules: distributions of the phases.
    """
    flat = rules.outlier * FLAT_DENSITY
    if seconds <= 0:
        return tuple(1.0 if state == Phase.PRE_CONTRAST.value else flat for state in STATES)
    densities = {
        Phase.ARTERIAL.value: _density(max(seconds, rules.ARTERIAL.median_seconds), rules.ARTERIAL),
        Phase.PORTAL_VENOUS.value: _density(seconds, rules.PORTAL_VENOUS),
        Phase.DELAYED.value: _density(min(seconds, rules.DELAYED.median_seconds), rules.DELAYED),
        OTHER: FLAT_DENSITY,
    }
    return tuple((1.0 - rules.outlier) * densities.get(state, 0.0) + flat for state in STATES)


def gap_likelihood(seconds: float | None, before: str, after: str, rules: Gap) -> float:
    """Returns how well a gap fits two states that follow each other; 1 when the gap is not known.

    Args:
        seconds: from the start of one pass to the start of the next.
        before: state of the earlier pass.
        after: state of the later one; OTHER fits any gap alike.
        rules: distributions.
    """
    if seconds is None:
        return 1.0
    row: dict[Phase, LogNormal] = getattr(rules, before, {}) if before != OTHER else {}
    known = row.get(Phase(after)) if after != OTHER else None
    if known is None:
        return FLAT_DENSITY if OTHER in (before, after) else rules.outlier * FLAT_DENSITY
    return (1.0 - rules.outlier) * _density(max(seconds, 1.0), known) + rules.outlier * FLAT_DENSITY


def _range(acquisition: Acquisition) -> tuple[datetime, datetime] | None:
    """First and last acquisition time of an acquisition, None when any is unknown or midnight to the second."""
    times = [instance.acquired_at for instance in acquisition.instances]
    known = [moment for moment in times if moment is not None and moment.time() != time(0)]
    return (min(known), max(known)) if known and len(known) == len(times) else None


def _copied_times(
    acquisitions: Sequence[Acquisition], ranges: Sequence[tuple[datetime, datetime] | None]
) -> set[str]:
    """Series whose parts are passes and yet begin at one time: the time was copied to all of them."""
    seen: dict[tuple[str, datetime], tuple[object, ...]] = {}
    copied = set()
    for acquisition, times in zip(acquisitions, ranges, strict=True):
        if not acquisition.parts_are_passes or times is None:
            continue
        key = (acquisition.series_instance_uid, times[0])
        if seen.setdefault(key, acquisition.pass_of_series) != acquisition.pass_of_series:
            copied.add(acquisition.series_instance_uid)
    return copied


def _wraps(starts: list[datetime]) -> bool:
    """Whether a study ran over midnight on one date: no gap of the whole is explained otherwise."""
    if len({moment.date() for moment in starts}) != 1:
        return False
    late = [moment for moment in starts if moment.hour >= 22]
    early = [moment for moment in starts if moment.hour < 2]
    return bool(late) and bool(early) and len(late) + len(early) == len(starts)


def _seconds(
    acquisition: Acquisition, start: datetime, rules: Injection
) -> tuple[float | None, tuple[str, ...]]:
    """Seconds after injection, or why they are not believed."""
    first = acquisition.first
    bolus = first.bolus_start_at
    if bolus is None:
        return None, ()
    if bolus.time() == time(0):
        return None, ("bolus start is midnight to the second",)
    if bolus in (first.study_at, first.series_at):
        return None, ("bolus start equals study or series time",)
    seconds = (start - bolus).total_seconds()
    if abs(seconds) > _DAY_SECONDS / 2:
        seconds -= math.copysign(_DAY_SECONDS, seconds)
    if abs(seconds) < rules.shortest_seconds:
        return None, (f"bolus start {seconds:.0f} s before the pass is the time of the pass itself",)
    if not rules.earliest_seconds <= seconds <= rules.latest_seconds:
        return None, (f"bolus start {seconds:.0f} s before the pass is not plausible",)
    return seconds, ()


def _density(seconds: float, distribution: LogNormal) -> float:
    """Density of ln(seconds) under a log-normal distribution."""
    z = (math.log(seconds) - math.log(distribution.median_seconds)) / distribution.spread
    return math.exp(-0.5 * z * z) / (distribution.spread * math.sqrt(2.0 * math.pi))
