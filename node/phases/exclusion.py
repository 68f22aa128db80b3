"""Says which acquisitions are no contrast phase at all, and which are one but cannot be used."""

import re
from dataclasses import dataclass

import numpy as np

from node.phases.rules import Exclude, Limits, PhaseRules, Words
from node.phases.texts import fold_text, matches_words
from node.study import PAUSE, Acquisition, Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """Why an acquisition is not used.

    Attributes:
        reason: in words, with numbers.
        is_phase: it is a pass of the scanner and takes part in the sequence, but its geometry forbids to use it.
    """

    reason: str
    is_phase: bool


def exclude_acquisition(
    acquisition: Acquisition, rules: PhaseRules, *, geometry: bool = True
) -> Exclusion | None:
    """Returns why an acquisition is not a candidate, None when it is one.

    Args:
        acquisition: as split.
        rules: words, image types and limits.
        geometry: False where only descriptions are known (a table of descriptions, a single header).
    """
    first = acquisition.first
    if first.ours:
        return Exclusion(reason="a result of this product that came back", is_phase=False)
    if first.modality not in ("CT", ""):
        return Exclusion(reason=f"not a CT image: modality {first.modality}", is_phase=False)
    if acquisition.refused.startswith("not a CT image"):
        return Exclusion(reason=acquisition.refused, is_phase=False)
    found = _exclude_kind(acquisition, rules)
    if found is not None:
        return Exclusion(reason=found, is_phase=False)
    if first.burned_in_annotation.upper() == "YES":
        return Exclusion(reason="BurnedInAnnotation is YES: text may lie in the pixels", is_phase=False)
    kernel = _sharp_kernel(first, rules)
    if kernel is not None:
        return Exclusion(reason=f"sharp convolution kernel {kernel}", is_phase=False)
    return _exclude_geometry(acquisition, rules.limits) if geometry else None


def is_soft_kernel(instance: Instance, rules: PhaseRules) -> bool:
    """Returns whether the convolution kernel is known as one for soft tissue."""
    return any(
        _matches(pattern, kernel)
        for kernel in instance.convolution_kernel[:1]
        for pattern in rules.kernels.soft
    )


def coverage_mm(acquisition: Acquisition) -> float:
    """Returns the distance from the first to the last slice of a stack plus one slice, mm; 0 when not known."""
    first, last = acquisition.instances[0].position_mm, acquisition.instances[-1].position_mm
    count = len(acquisition.instances)
    if first is None or last is None or count < 2:
        return 0.0
    return float(np.linalg.norm(np.subtract(last, first))) * count / (count - 1)


def _exclude_kind(acquisition: Acquisition, rules: PhaseRules) -> str | None:
    """The reason of the first rule that an acquisition meets."""
    first = acquisition.first
    types = {value.upper() for value in first.image_type}
    folded = fold_text(first.series_description)
    for rule in rules.exclude:
        hits = types & set(rule.image_types)
        if hits:
            return f"{rule.reason} (Image Type {min(hits)})"
        if first.body_part_examined.upper() in rule.body_parts:
            return f"{rule.reason} (Body Part Examined {first.body_part_examined})"
        if folded and matches_words(folded, rule) and not _has_exception(folded, rule):
            return f"{rule.reason} (Series Description '{first.series_description}')"
    return None


def _has_exception(folded: str, rule: Exclude) -> bool:
    """Whether a text holds a word that forbids to exclude it by this rule."""
    unless = Words(words=rule.unless_words, parts=rule.unless_parts, patterns=rule.unless_patterns)
    return matches_words(folded, unless)


def _sharp_kernel(first: Instance, rules: PhaseRules) -> str | None:
    """The kernel when it is a sharp one; its first value names it."""
    for kernel in first.convolution_kernel[:1]:
        if any(_matches(pattern, kernel) for pattern in rules.kernels.sharp):
            return kernel
    return None


def _matches(pattern: str, kernel: str) -> bool:
    """Whether a kernel's name fits an expression."""
    return re.search(pattern, kernel.strip(), re.IGNORECASE) is not None


def _exclude_geometry(acquisition: Acquisition, limits: Limits) -> Exclusion | None:
    """The first limit that the stack of slices breaks."""
    first = acquisition.first
    count = len(acquisition.instances)
    if first.orientation is not None:
        row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
        upward = abs(float(np.cross(row, column)[2]))
        if upward <= limits.least_normal_z:
            return Exclusion(reason=f"not axial: slice normal has |z| {upward:.2f}", is_phase=False)
    if acquisition.refused:
        return Exclusion(reason=acquisition.refused, is_phase="one position" not in acquisition.refused)
    reasons = []
    if count < limits.fewest_slices:
        reasons.append(f"{count} slices, fewer than {limits.fewest_slices}")
    covered = coverage_mm(acquisition)
    if count > 1 and covered < limits.least_coverage_mm:
        reasons.append(f"covers {covered:.0f} mm, less than {limits.least_coverage_mm:.0f}")
    if first.slice_thickness_mm is not None and first.slice_thickness_mm > limits.thickest_slice_mm:
        reasons.append(
            f"slices of {first.slice_thickness_mm:g} mm, thicker than {limits.thickest_slice_mm:g}"
        )
    if reasons and PAUSE in acquisition.split_attributes:
        reasons.append("a part of a series whose scan was interrupted for more than 15 s")
    if not first.series_instance_uid:
        reasons.append("Series Instance UID is empty: the images cannot be referenced")
    return Exclusion(reason="; ".join(reasons), is_phase=True) if reasons else None
