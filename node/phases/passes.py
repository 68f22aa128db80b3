"""Groups the acquisitions of a study into passes of the scanner, in order, with what each pass says about its phase."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from engines.phase import Phase
from node.phases.rules import STATES, Hounsfield, PhaseRules, StudentT
from node.phases.texts import SILENT, TextReading, read_study_text, read_text
from node.phases.timing import PassTime, injection_likelihood, read_times
from node.study import PAUSE, Acquisition

SAME_PASS_SECONDS = 1.0
"""Two acquisitions whose times overlap within this are reconstructions of one pass: a scanner scans once at a time."""
SAME_PASS_HU = 35.0
"""Vessels of one pass differ less than this between its reconstructions (OURS: four standard errors of small samples)."""

VESSELS = ("aorta", "portal_vein")
"""The structures whose HU the model judges, in the order of conf/phases.toml."""

Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One acquisition that may be a phase, with all that is known of it.

    Attributes:
        hounsfield: median HU by structure, empty where pixels were not measured.
        fixed: the operator's word.
    """

    acquisition: Acquisition
    time: PassTime
    text: TextReading
    hounsfield: Mapping[str, float] = field(default_factory=dict)
    fixed: Phase | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One pass of the scanner with its reconstructions.

    Attributes:
        members: at least one candidate.
        text: likelihood by state, from texts.
        pixels: from pixels.
        others: from seconds after injection and attributes.
        start_seconds: on the study's clock, None when not known.
        reasons: the evidence in words.
    """

    members: tuple[Candidate, ...]
    text: Vector
    pixels: Vector
    others: Vector
    start_seconds: float | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """The passes of a study in order; ``order_from`` is time, acquisition_number or series_number."""

    passes: tuple[Pass, ...]
    order_from: str


def read_candidates(
    acquisitions: Sequence[Acquisition],
    hounsfield: Mapping[str, Mapping[str, float]],
    fixed: Mapping[str, Phase],
    rules: PhaseRules,
) -> tuple[Candidate, ...]:
    """Returns the candidates of one study with their times and texts read.

    Args:
        acquisitions: none of them excluded.
        hounsfield: by acquisition label, then structure (``aorta``, ``portal_vein``).
        fixed: the operator's phases by acquisition label.
        rules: of phases.toml.
    """
    times = read_times(acquisitions, rules.injection)
    protocols = {acquisition.first.protocol_name for acquisition in acquisitions}
    return tuple(
        Candidate(
            acquisition=acquisition,
            time=time,
            text=_read_texts(acquisition, len(protocols) > 1, rules),
            hounsfield=hounsfield.get(acquisition.label, {}),
            fixed=fixed.get(acquisition.label),
        )
        for acquisition, time in zip(acquisitions, times, strict=True)
    )


def group_passes(candidates: Sequence[Candidate], rules: PhaseRules) -> Passes:
    """Returns the passes of one study in the order of acquisition.

    Reconstructions of one pass share an Irradiation Event UID, or overlap in acquisition time; without times they share
    positions, frame of reference and an acquisition number that tells passes apart in this study; or they call
    themselves a reconstruction, say nothing else, and follow the series they are made of.
    """
    candidates = _doubt_copied_times(candidates)
    order_from = _order_from(candidates)
    numbers = _telling_numbers(candidates)
    ordered = sorted(candidates, key=lambda candidate: _rank(candidate, order_from))
    groups: list[list[Candidate]] = []
    for candidate in ordered:
        home = next(
            (group for group in groups if any(_same_pass(candidate, member, numbers) for member in group)),
            None,
        )
        if home is None and groups and _follows(candidate, groups[-1][-1]):
            home = groups[-1]
        if home is None:
            groups.append([candidate])
        else:
            home.append(candidate)
    groups = _hear_study(groups, rules)
    agents = {bool(candidate.acquisition.first.contrast_bolus_agent) for candidate in candidates}
    starts = [candidate.time.start for candidate in candidates if candidate.time.start is not None]
    zero = min(starts, default=None)
    made = []
    for group in groups:
        known = [candidate.time.start for candidate in group if candidate.time.start is not None]
        start = (min(known) - zero).total_seconds() if known and zero is not None else None
        made.append(_weigh(tuple(group), start, len(agents) > 1, rules))
    return Passes(passes=tuple(made), order_from=order_from)


def hounsfield_likelihood(hounsfield: Mapping[str, float], rules: Hounsfield) -> Vector | None:
    """Returns how well vessel HU fit each state, the largest 1; None when the aorta was not found.

    DELAYED never fits better than PORTAL_VENOUS, so that pixels alone never decide it.

    Args:
        hounsfield: median HU of ``aorta`` and, where found, ``portal_vein``.
        rules: the distributions.
    """
    aorta, portal = (hounsfield.get(vessel) for vessel in VESSELS)
    if aorta is None or not math.isfinite(aorta):
        return None
    seen = (aorta, portal) if portal is not None and math.isfinite(portal) else (aorta,)
    logs = np.array([_log_student(seen, getattr(rules, state), rules.degrees_of_freedom) for state in STATES])
    if len(seen) == 1:
        logs += np.log(_by_state(rules.portal_vein_unseen))
    delayed, portal_venous = STATES.index(Phase.DELAYED.value), STATES.index(Phase.PORTAL_VENOUS.value)
    logs[delayed] = min(logs[delayed], logs[portal_venous])
    scaled: list[float] = np.exp(rules.weight * (logs - logs.max())).tolist()
    return tuple(scaled)


def _log_student(seen: tuple[float, ...], distribution: StudentT, degrees: float) -> float:
    """Logarithm of the density of a Student t, or of its marginal of the aorta."""
    size = len(seen)
    degrees = distribution.degrees_of_freedom or degrees
    offset = np.array(seen) - np.array(distribution.location_hu[:size])
    scale = np.array(distribution.scale_hu2)[:size, :size]
    distance = float(offset @ np.linalg.solve(scale, offset))
    return (
        math.lgamma((degrees + size) / 2)
        - math.lgamma(degrees / 2)
        - size / 2 * math.log(degrees * math.pi)
        - 0.5 * float(np.linalg.slogdet(scale)[1])
        - (degrees + size) / 2 * math.log1p(distance / degrees)
    )


def _read_texts(acquisition: Acquisition, protocols_differ: bool, rules: PhaseRules) -> TextReading:
    """Reads the series description, and the protocol's name where it differs between the series of the study."""
    reading = read_text(acquisition.first.series_description, rules)
    if reading.speaks or reading.several or not protocols_differ:
        return reading
    protocol = read_text(acquisition.first.protocol_name, rules)
    return replace(protocol, source="protocol name") if protocol.phase is not None else reading


def _order_from(candidates: Sequence[Candidate]) -> str:
    """Which attribute orders the passes: times when all have one, else distinct numbers.

    Temporal positions of one series count as acquisition numbers do; the order of images is no surer than that of series.
    """
    if all(candidate.time.start is not None for candidate in candidates):
        return "time"
    numbers = [candidate.acquisition.first.acquisition_number for candidate in candidates]
    if None not in numbers and (len(set(numbers)) > 1 or len(numbers) == 1):
        return "acquisition_number"
    positions = [candidate.acquisition.first.temporal_position_identifier for candidate in candidates]
    series = {candidate.acquisition.series_instance_uid for candidate in candidates}
    if len(series) == 1 and None not in positions and len(set(positions)) > 1:
        return "acquisition_number"
    return "series_number"


def _rank(candidate: Candidate, order_from: str) -> tuple[float, float, float, int]:
    """Sorting key of a candidate."""
    first = candidate.acquisition.first
    number = math.inf if first.acquisition_number is None else float(first.acquisition_number)
    series = math.inf if first.series_number is None else float(first.series_number)
    if order_from == "time" and candidate.time.start is not None:
        return candidate.time.start.timestamp(), number, series, candidate.acquisition.part
    if order_from == "acquisition_number":
        return number, series, 0.0, candidate.acquisition.part
    return series, number, 0.0, candidate.acquisition.part


def _doubt_copied_times(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Takes back the times of acquisitions that were scanned at one time and yet are different passes by text or pixels.

    Pixels of equal acquisition numbers may differ: a vessel may be measured in the chest and in the abdomen.
    """
    copied: set[str] = set()
    for one, two in combinations(candidates, 2):
        if None in (one.time.span, two.time.span) or _scanned_apart(one, two):
            continue
        number = one.acquisition.first.acquisition_number
        alike = number is not None and number == two.acquisition.first.acquisition_number
        if _differ_in_text(one, two) or (not alike and _differ_in_pixels(one, two)):
            copied |= {one.acquisition.label, two.acquisition.label}
    doubt = PassTime(doubts=("acquisition time is that of another pass too",))
    return tuple(
        replace(candidate, time=doubt) if candidate.acquisition.label in copied else candidate
        for candidate in candidates
    )


def _telling_numbers(candidates: Sequence[Candidate]) -> frozenset[int]:
    """The acquisition numbers whose bearers may be one pass: no two of them were scanned apart, or contradict each other.

    Some scanners and archives give one number to all.
    """
    bearers: dict[int, list[Candidate]] = {}
    for candidate in candidates:
        number = candidate.acquisition.first.acquisition_number
        if number is not None:
            bearers.setdefault(number, []).append(candidate)
    return frozenset(
        number
        for number, group in bearers.items()
        if not any(
            _differ_in_text(one, two) or _differ_in_pixels(one, two) or _scanned_apart(one, two)
            for one, two in combinations(group, 2)
        )
    )


def _scanned_apart(one: Candidate, two: Candidate) -> bool:
    """Whether the times of two acquisitions are known and do not overlap."""
    if one.time.span is None or two.time.span is None:
        return False
    (one_start, one_end), (two_start, two_end) = one.time.span, two.time.span
    return (max(one_start, two_start) - min(one_end, two_end)).total_seconds() > SAME_PASS_SECONDS


def _same_pass(one: Candidate, two: Candidate, numbers: frozenset[int]) -> bool:
    """Whether two acquisitions are reconstructions of one pass, with the numbers that tell passes apart."""
    if one.fixed is not None and two.fixed is not None and one.fixed != two.fixed:
        return False
    first, second = one.acquisition.first, two.acquisition.first
    same_series = first.series_instance_uid == second.series_instance_uid
    if same_series and one.acquisition.pass_of_series != two.acquisition.pass_of_series:
        return False
    if one.time.span is not None and two.time.span is not None:
        return not _scanned_apart(one, two)
    if same_series and not one.acquisition.split_attributes.isdisjoint({"AcquisitionTime", PAUSE}):
        return False
    if first.irradiation_event_uid and first.irradiation_event_uid == second.irradiation_event_uid:
        return True
    if first.acquisition_number != second.acquisition_number or first.acquisition_number not in numbers:
        return False
    if first.frame_of_reference_uid != second.frame_of_reference_uid:
        return False
    return first.position_mm is not None and _overlap(one.acquisition, two.acquisition)


def _differ_in_text(one: Candidate, two: Candidate) -> bool:
    """Whether texts name different phases."""
    return one.text.phase is not None and two.text.phase is not None and one.text.phase != two.text.phase


def _differ_in_pixels(one: Candidate, two: Candidate) -> bool:
    """Whether vessels differ too much for one pass."""
    shared = set(one.hounsfield) & set(two.hounsfield) & set(VESSELS)
    return any(abs(one.hounsfield[name] - two.hounsfield[name]) > SAME_PASS_HU for name in shared)


def _overlap(one: Acquisition, two: Acquisition) -> bool:
    """Whether two stacks share part of their range along z."""
    ranges = []
    for acquisition in (one, two):
        heights = [
            instance.position_mm[2] for instance in acquisition.instances if instance.position_mm is not None
        ]
        ranges.append((min(heights), max(heights)))
    return min(ranges[0][1], ranges[1][1]) >= max(ranges[0][0], ranges[1][0])


def _follows(candidate: Candidate, before: Candidate) -> bool:
    """Whether a series calls itself a reconstruction, says no phase, and has the number after the series before it."""
    if not candidate.text.reconstruction or candidate.text.phase is not None or candidate.text.several:
        return False
    if candidate.time.start is not None or before.text.phase is None:
        return False
    number, last = candidate.acquisition.first.series_number, before.acquisition.first.series_number
    return number is not None and last is not None and number == last + 1


def _hear_study(groups: list[list[Candidate]], rules: PhaseRules) -> list[list[Candidate]]:
    """Gives passes whose texts have no word about phases what the description of the study says.

    A study without contrast: all of them, unless a text names something else. A study without and with contrast: its first
    pass, where that is the first series taken and holds nothing else.
    """
    candidates = [candidate for group in groups for candidate in group]
    told = [read_study_text(candidate.acquisition.first.study_description, rules) for candidate in candidates]
    if not told or not told[0].speaks or len({reading.words for reading in told}) > 1:
        return groups
    native = Phase.PRE_CONTRAST
    enhanced = any(
        reading.several or (reading.speaks and reading.phase != native)
        for reading in (candidate.text for candidate in candidates)
    )
    heard = list(groups)
    for place, group in enumerate(groups):
        if not all(candidate.text.bare for candidate in group):
            continue
        if (told[0].both or enhanced) and not (
            place == 0 and len(groups) > 1 and _is_first(group, candidates, rules)
        ):
            continue
        heard[place] = [replace(candidate, text=told[0]) for candidate in group]
    return heard


def _is_first(group: list[Candidate], candidates: list[Candidate], rules: PhaseRules) -> bool:
    """Whether a pass is a series of its own and has the number of the first that was taken."""
    for candidate in group:
        number = candidate.acquisition.first.series_number
        if candidate.acquisition.parts_are_passes or number is None:
            return False
        twins = [other for other in candidates if other.acquisition.first.series_number == number]
        if number > rules.study.latest_first_series or len(twins) > 1:
            return False
    return True


def _weigh(group: tuple[Candidate, ...], start: float | None, agents_differ: bool, rules: PhaseRules) -> Pass:
    """Multiplies what the members of a pass say; members that say the same count once (geometric mean of those who speak)."""
    fixed = next((member.fixed for member in group if member.fixed is not None), None)
    if fixed is not None:
        certain = tuple(1.0 if state == fixed.value else 0.0 for state in STATES)
        return Pass(
            members=group,
            text=SILENT.likelihood,
            pixels=SILENT.likelihood,
            others=certain,
            start_seconds=start,
            reasons=("operator",),
        )
    reasons: list[str] = []
    texts = _mean([member.text.likelihood for member in group if member.text.speaks])
    for member in group:
        reasons += _tell_text(member)
    injection = _injection(group, rules, reasons)
    attribute = _attribute(group, rules, reasons)
    agent = _agent(group, agents_differ, rules, reasons)
    pixels = _mean(
        [
            found
            for member in group
            if (found := hounsfield_likelihood(member.hounsfield, rules.hounsfield)) is not None
        ]
    )
    return Pass(
        members=group,
        text=texts,
        pixels=pixels,
        others=tuple(np.prod([injection, attribute, agent], axis=0).tolist()),
        start_seconds=start,
        reasons=tuple(dict.fromkeys(reasons)),
    )


def _mean(vectors: Sequence[Vector]) -> Vector:
    """Geometric mean of likelihoods; all 1 when there are none."""
    if not vectors:
        return SILENT.likelihood
    mean: list[float] = np.exp(np.log(np.maximum(vectors, 1e-12)).mean(axis=0)).tolist()
    return tuple(mean)


def _tell_text(member: Candidate) -> list[str]:
    """What a member's text says, in words."""
    text = member.text
    if text.several:
        return [f"text names several phases ({', '.join(text.words)}), so none"]
    if text.phase is not None:
        return [f"{text.source} '{', '.join(text.words)}' names {text.phase}"]
    return ["text says enhanced, not which phase"] if text.speaks else []


def _injection(group: tuple[Candidate, ...], rules: PhaseRules, reasons: list[str]) -> Vector:
    """Likelihood of the seconds after injection, of the first member that has them."""
    for member in group:
        reasons += member.time.doubts
    seconds = next(
        (
            member.time.seconds_after_injection
            for member in group
            if member.time.seconds_after_injection is not None
        ),
        None,
    )
    if seconds is None:
        return SILENT.likelihood
    reasons.append(f"{seconds:.0f} s after the start of injection")
    return injection_likelihood(seconds, rules.injection)


def _attribute(group: tuple[Candidate, ...], rules: PhaseRules, reasons: list[str]) -> Vector:
    """Likelihood of Contrast/Bolus Agent Phase (0018,9344)."""
    words = {member.acquisition.first.contrast_bolus_agent_phase.upper() for member in group} & set(
        rules.attribute
    )
    if len(words) != 1:
        return SILENT.likelihood
    (word,) = words
    reasons.append(f"Contrast/Bolus Agent Phase is {word}")
    row = rules.attribute[word]
    return _by_state(row)


def _agent(
    group: tuple[Candidate, ...], agents_differ: bool, rules: PhaseRules, reasons: list[str]
) -> Vector:
    """Likelihood of an empty Contrast/Bolus Agent where other passes of the study have one."""
    if not agents_differ or any(member.acquisition.first.contrast_bolus_agent for member in group):
        return SILENT.likelihood
    reasons.append("no contrast agent named, other series of the study name one")
    row = rules.agent.empty_elsewhere_filled
    return _by_state(row)


def _by_state(row: Mapping[str, float]) -> Vector:
    """The vector of a row of the rules, in which ``other`` stands for the states that are not named."""
    return tuple(row[state] if state in row else row["other"] for state in STATES)
