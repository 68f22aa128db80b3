"""Makes clean acquisitions of a study's instances: one pass of the scanner as one reconstruction each."""

import operator
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import datetime
from itertools import pairwise, permutations

import numpy as np

from node.errors import SeriesRefused
from node.stacking import stack_slices
from node.study import CT_STORAGE, PAUSE, Acquisition, Instance

CONTENT_PAUSE_SECONDS = 3.0
"""Images of one pass follow each other closer than this in their content time; a longer pause may part two (OURS)."""
JOINED_PAUSE_SECONDS = 15.0
"""Ranges of one series at different positions are taken apart when scanned further apart than this (OURS)."""
MOST_RANGES = 4
FEWEST_IN_RANGE = 5
"""... in at most so many ranges of at least so many images; more or shorter ones are one pass with breathing pauses (OURS)."""
FEWEST_BESIDE = 10
"""Parts of a series that lie beside each other, not across, must have this many images (OURS)."""
MOST_PARTS = 12
"""A series that would fall into more parts is a dynamic series (perfusion, cardiac), not phases of a liver (OURS)."""
_PHASE_ORDER = ("PRE_CONTRAST", "POST_CONTRAST", "ARTERIAL", "VENOUS", "PORTAL_VENOUS", "DELAYED")
"""The words of Contrast/Bolus Agent Phase as contrast passes through the body. Source: PS3.3 C.7.6.16.2.12."""

Groups = list[tuple[Instance, ...]]
Split = Callable[[Sequence[Instance]], Groups]


def split_acquisitions(instances: Iterable[Instance]) -> tuple[Acquisition, ...]:
    """Returns the acquisitions of one study, those of each series in the order of their acquisition.

    A CT series that is one regular stack of one pass stays whole (part 0). A series that holds several passes is split by the
    first attribute, or pair of attributes, that leaves nothing but regular stacks: orientation and size, AcquisitionNumber,
    Contrast/Bolus Agent Phase, TemporalPositionIdentifier, AcquisitionTime, ContentTime, kernel, slice thickness, image type,
    and last the order of the images, where each pass was numbered before the next. Where an attribute of the pass separates them but a pass lacks slices, that pass alone
    comes back with the reason in ``refused``. What no attribute separates comes back whole with the numbers in ``refused``.
    Objects that are no CT images come back by series, with the reason.

    Args:
        instances: of one study, multi-frame CT frame by frame; the same instance twice counts once.
    """
    series: dict[str, dict[tuple[str, int], Instance]] = defaultdict(dict)
    for instance in instances:
        series[instance.series_instance_uid].setdefault(
            (instance.sop_instance_uid, instance.frame_number), instance
        )
    made: list[Acquisition] = []
    for uid, members in series.items():
        made.extend(_split_series(uid, tuple(members.values())))
    return tuple(made)


def _split_series(uid: str, instances: tuple[Instance, ...]) -> list[Acquisition]:
    """Splits one series."""
    images = tuple(instance for instance in instances if instance.sop_class_uid in CT_STORAGE)
    rest = tuple(instance for instance in instances if instance.sop_class_uid not in CT_STORAGE)
    parts = _part(images) if images else []
    if not rest:
        first = 1 if len(parts) > 1 else 0
        return [
            _acquisition(uid, place, group, named) for place, (named, group) in enumerate(parts, start=first)
        ]
    reason = (
        f"not a CT image: {rest[0].modality or 'no modality'}, SOP class {rest[0].sop_class_uid or 'unknown'}"
    )
    if not images:
        return [Acquisition(series_instance_uid=uid, part=0, instances=rest, refused=reason)]
    made = [
        _acquisition(uid, place, group, named or "SOP class")
        for place, (named, group) in enumerate(parts, start=1)
    ]
    last = len(made) + 1
    return [
        *made,
        Acquisition(series_instance_uid=uid, part=last, instances=rest, split_by="SOP class", refused=reason),
    ]


def _acquisition(uid: str, part: int, group: tuple[Instance, ...], named: str) -> Acquisition:
    """Makes an acquisition with its slices in order, or with the reason why they have none."""
    whole = Acquisition(series_instance_uid=uid, part=part, instances=group, split_by=named)
    fault = _fault(group)
    if fault:
        return Acquisition(series_instance_uid=uid, part=part, instances=group, split_by=named, refused=fault)
    if len(group) == 1:
        return whole
    return Acquisition(
        series_instance_uid=uid, part=part, instances=stack_slices(whole).order, split_by=named
    )


def _part(images: tuple[Instance, ...]) -> list[tuple[str, tuple[Instance, ...]]]:
    """Returns the parts of images in the order of acquisition, each with the names of what parted it.

    A part of a split may hold several passes itself: kernels part first where every slice of two passes has two of them.
    """
    if not _fault(images) and not _holds_passes(images):
        return [("", images)]
    named, groups = _find_split(images)
    if len(groups) == 1:
        return [("", images)]
    parts = [
        (f"{named} and {finer}" if finer else named, part) for group in groups for finer, part in _part(group)
    ]
    return sorted(parts, key=lambda item: _moment(item[1]))


def _fault(group: Sequence[Instance]) -> str:
    """Why a group is no regular stack, "" when it is one; a single image has no fault of its own."""
    if len(group) == 1:
        (image,) = group
        unread = image.number_of_frames > 1 and not image.frame_number
        return f"{image.number_of_frames} frames in one object that cannot be read apart" if unread else ""
    try:
        order = stack_slices(Acquisition(series_instance_uid="", part=0, instances=tuple(group))).order
    except SeriesRefused as refusal:
        return str(refusal).removeprefix(": ")
    return _tell_shared_numbers(order)


def _tell_shared_numbers(order: tuple[Instance, ...]) -> str:
    """Why a stack is several, "" when it is one: its image numbers are there several times, one slice beside the other.

    Ranges that continue each other (chest, then liver) may bear the same numbers: they count once through each.
    """
    numbers = [(instance.instance_number or 0, instance.frame_number) for instance in order]
    alike = round(len(numbers) / len(set(numbers)))
    if alike < 2 or len(set(numbers)) < FEWEST_BESIDE:
        return ""
    up, down = (sum(sign(*pair) for pair in pairwise(numbers)) for sign in (operator.lt, operator.gt))
    if max(up, down) >= len(numbers) - alike:
        return ""
    if any(len(set(numbers[turn::alike])) < len(numbers[turn::alike]) for turn in range(alike)):
        return ""
    return f"{alike} images of each number between each other: several passes that no attribute separates"


def _holds_passes(images: tuple[Instance, ...]) -> bool:
    """Whether a stack that looks regular holds several passes all the same.

    Passes or reconstructions half a step apart lie between each other like the slices of one; a few ranges with a pause
    between them (chest, then liver) continue each other.
    """
    splits = (*_PASS_SPLITS, *_RECONSTRUCTION_SPLITS, *_TURN_SPLITS)
    if any(_cross(groups) and _is_clean(groups) for groups in (split(images) for _, split in splits)):
        return True
    groups = _by_pause(images)
    return 2 <= len(groups) <= MOST_RANGES and min(map(len, groups)) >= FEWEST_IN_RANGE


def _find_split(images: tuple[Instance, ...]) -> tuple[str, Groups]:
    """Returns the first split into regular stacks, with its name; ("", one group) when there is none."""
    splits: list[tuple[str, Split]] = [
        ("orientation and size", _by(_frame)),
        *_PASS_SPLITS,
        ("AcquisitionTime", _by_time(lambda instance: instance.acquired_at)),
        ("ContentTime", _by_time(lambda instance: instance.content_at)),
        (PAUSE, _by_pause),
        *_RECONSTRUCTION_SPLITS,
    ]
    for name, split in splits:
        groups = split(images)
        if _is_clean(groups):
            return name, groups
    for (one, first), (two, second) in permutations(splits, 2):
        groups = [part for group in first(images) for part in second(group)]
        if _is_clean(groups):
            return f"{one} and {two}", groups
    for name, split in _TURN_SPLITS:
        groups = split(images)
        if _is_clean(groups):
            return name, groups
    for name, split in _PASS_SPLITS:
        groups = split(images)
        if _lacks_slices_alone(groups):
            return name, groups
    return "", [images]


def _is_clean(groups: Groups) -> bool:
    """Whether a split leaves several groups, at least one of them a stack, and every stack regular.

    Groups of a few images beside each other are a stack with gaps, not passes.
    """
    if not 2 <= len(groups) <= MOST_PARTS or max(map(len, groups)) < 2:
        return False
    if min(map(len, groups)) < FEWEST_BESIDE and not _cross(groups):
        return False
    return all(_fault(group) == "" for group in groups)


def _lacks_slices_alone(groups: Groups) -> bool:
    """Whether a split leaves at least one stack, and nothing wrong with the others but missing slices."""
    if not 2 <= len(groups) <= MOST_PARTS:
        return False
    faults = [_fault(group) for group in groups]
    whole = [group for group, fault in zip(groups, faults, strict=True) if not fault]
    return max(map(len, whole), default=0) >= FEWEST_BESIDE and all(
        fault == "" or fault.startswith("missing slices") for fault in faults
    )


def _cross(groups: Groups) -> bool:
    """Whether groups differ in orientation or size, or lie across each other along z."""
    if len({_frame(group[0]) for group in groups}) > 1:
        return True
    heights = [
        [instance.position_mm[2] for instance in group if instance.position_mm is not None]
        for group in groups
    ]
    ranges = sorted((min(group), max(group)) for group in heights if group)
    return any(after[0] <= before[1] for before, after in pairwise(ranges))


def _by(key: Callable[[Instance], Hashable]) -> Split:
    """A split by the value of an attribute."""

    def split(images: Sequence[Instance]) -> Groups:
        groups: dict[Hashable, list[Instance]] = defaultdict(list)
        for instance in images:
            groups[key(instance)].append(instance)
        return [tuple(group) for group in groups.values()]

    return split


_PASS_SPLITS: tuple[tuple[str, Split], ...] = (
    ("AcquisitionNumber", _by(lambda instance: instance.acquisition_number)),
    ("ContrastBolusAgentPhase", _by(lambda instance: instance.contrast_bolus_agent_phase)),
    ("TemporalPositionIdentifier", _by(lambda instance: instance.temporal_position_identifier)),
)
"""Attributes whose value names the pass."""
_RECONSTRUCTION_SPLITS: tuple[tuple[str, Split], ...] = (
    ("ConvolutionKernel", _by(lambda instance: instance.convolution_kernel)),
    ("SliceThickness", _by(lambda instance: instance.slice_thickness_mm)),
    ("ImageType", _by(lambda instance: instance.image_type)),
)
"""Attributes in which reconstructions of one pass differ."""


def _by_time(key: Callable[[Instance], datetime | None]) -> Split:
    """A split at the longest pauses between times: as many parts as there are images at one position."""

    def split(images: Sequence[Instance]) -> Groups:
        timed = [(moment, instance) for instance in images if (moment := key(instance)) is not None]
        copies = _copies(images)
        if len(timed) < len(images) or copies < 2:
            return [tuple(images)]
        timed.sort(key=lambda pair: pair[0])
        pauses = [(after[0] - before[0]).total_seconds() for before, after in pairwise(timed)]
        cuts = sorted(np.argsort(pauses, kind="stable")[len(pauses) - (copies - 1) :].tolist())
        if min(pauses[cut] for cut in cuts) < CONTENT_PAUSE_SECONDS:
            return [tuple(images)]
        edges = [0, *(cut + 1 for cut in cuts), len(timed)]
        return [tuple(instance for _, instance in timed[a:b]) for a, b in pairwise(edges)]

    return split


def _by_pause(images: Sequence[Instance]) -> Groups:
    """A split at every long pause between acquisition times."""
    timed = [(instance.acquired_at, instance) for instance in images if instance.acquired_at is not None]
    if len(timed) < len(images):
        return [tuple(images)]
    timed.sort(key=lambda pair: pair[0])
    groups = [[timed[0][1]]]
    for (before, _), (after, instance) in pairwise(timed):
        if (after - before).total_seconds() > JOINED_PAUSE_SECONDS:
            groups.append([])
        groups[-1].append(instance)
    return [tuple(group) for group in groups]


def _by_turns(key: Callable[[Instance], float | None], most_copies: int) -> Split:
    """A split into the n-th images of every so many slices, where each part's values lie before those of the next.

    At one position the n-th image of each is a part; of passes a part of a step apart, every n-th slice. Values that only
    take turns along the stack, or mix, part nothing: then which image belongs to which pass is not known.

    Args:
        key: a number or time of the image.
        most_copies: images at one position, beyond which this says nothing.
    """

    def split(images: Sequence[Instance]) -> Groups:
        placed = [
            (place, value, image)
            for image in images
            if (place := _place(image)) and (value := key(image)) is not None
        ]
        copies = _copies(images)
        if len(placed) < len(images) or copies > most_copies:
            return [tuple(images)]
        if copies > 1 and len({value for _, value, _ in placed}) < len(placed):
            return [tuple(images)]
        placed.sort(key=lambda item: (item[0][::-1], item[1]))
        for count in range(2, min(MOST_PARTS, len(placed)) + 1) if copies == 1 else [copies]:
            parts = [placed[turn::count] for turn in range(count)]
            values = sorted(
                (min(value for _, value, _ in part), max(value for _, value, _ in part)) for part in parts
            )
            enough = copies > 1 or min(map(len, parts)) >= FEWEST_BESIDE
            if enough and all(after[0] > before[1] for before, after in pairwise(values)):
                return [tuple(image for _, _, image in part) for part in parts]
        return [tuple(images)]

    return split


def _copies(images: Sequence[Instance]) -> int:
    """The largest number of images at one position."""
    return max(Counter(map(_place, images)).values())


def _place(instance: Instance) -> tuple[float, ...] | None:
    """A position to a tenth of a millimetre."""
    return None if instance.position_mm is None else tuple(round(part, 1) for part in instance.position_mm)


_TURN_SPLITS: tuple[tuple[str, Split], ...] = (
    ("AcquisitionNumber", _by_turns(lambda instance: instance.acquisition_number, 1)),
    ("AcquisitionTime", _by_turns(lambda instance: _stamp(instance.acquired_at), 1)),
    ("ContentTime", _by_turns(lambda instance: _stamp(instance.content_at), 1)),
    ("image order", _by_turns(lambda instance: instance.instance_number, MOST_PARTS)),
)
"""Values that tell passes a part of a step apart; image numbers also those at the same positions."""


def _stamp(moment: datetime | None) -> float | None:
    """A time as a number."""
    return None if moment is None else moment.timestamp()


def _frame(instance: Instance) -> Hashable:
    """Orientation (to two decimals), size and spacing."""
    orientation = (
        None if instance.orientation is None else tuple(round(part, 2) for part in instance.orientation)
    )
    return (orientation, instance.rows, instance.columns, instance.pixel_spacing_mm)


def _moment(group: tuple[Instance, ...]) -> tuple[datetime, int, int, int, int]:
    """The order of acquisition of a part: time, number, temporal position, word of the contrast phase, image number.

    The frames of a multi-frame object may stand in any order, so that their numbers come last.
    """
    latest, last = datetime.max, 1 << 31
    times = [instance.acquired_at for instance in group if instance.acquired_at is not None]
    first = group[0]
    number = first.acquisition_number if first.acquisition_number is not None else last
    position = first.temporal_position_identifier if first.temporal_position_identifier is not None else last
    word = first.contrast_bolus_agent_phase.upper()
    phase = _PHASE_ORDER.index(word) if word in _PHASE_ORDER else len(_PHASE_ORDER)
    images = [instance.instance_number for instance in group if instance.instance_number is not None]
    frames = [instance.frame_number for instance in group]
    return min(times, default=latest), number, position, phase, min(images or frames, default=last)
