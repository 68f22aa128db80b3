"""Response of the tumour between two examinations by mRECIST: target lesions, their sum, the category."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from engines.errors import InvalidInput

MOST_TARGETS = 5
MOST_TARGETS_AN_ORGAN = 2
SMALLEST_TARGET_MM = 10.0
"""Source: RECIST 1.1 (Eisenhauer 2009), taken over by mRECIST (Lencioni & Llovet, Semin Liver Dis 2010;30:52)."""

PARTIAL_RATIO = 0.7
PROGRESSION_RATIO = 1.2
"""Source: supplementary information 1: >= 30 % decrease from baseline, >= 20 % increase from the smallest sum."""

_ROUNDING = 1e-9
"""Relative: 0.7 x 90 mm in binary must not decide between two categories."""


class Response(StrEnum):
    """Category of response."""

    COMPLETE = "CR"
    PARTIAL = "PR"
    STABLE = "SD"
    PROGRESSIVE = "PD"
    NOT_EVALUABLE = "NE"

    @property
    def is_responder(self) -> bool | None:
        """Whether the patient counts as a responder (CR or PR); None when not evaluable."""
        if self is Response.NOT_EVALUABLE:
            return None
        return self in (Response.COMPLETE, Response.PARTIAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion:
    """One lesion of one examination.

    Attributes:
        name: the same in every examination of the patient.
        organ: for the rule of two targets an organ.
        viable_diameter_mm: longest diameter of what enhances in the arterial phase; 0 when nothing does.
    """

    name: str
    organ: str
    viable_diameter_mm: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.viable_diameter_mm <= 400.0:
            raise InvalidInput(
                f"lesion {self.name}: {self.viable_diameter_mm:g} mm is not a plausible diameter (expected 0 to 400)"
            )


def select_targets(baseline: Sequence[Lesion]) -> tuple[Lesion, ...]:
    """Returns the target lesions: the largest first, at least 10 mm, at most two an organ and five in all."""
    chosen: list[Lesion] = []
    per_organ: Counter[str] = Counter()
    for lesion in sorted(baseline, key=lambda one: (-one.viable_diameter_mm, one.name)):
        if lesion.viable_diameter_mm < SMALLEST_TARGET_MM or len(chosen) == MOST_TARGETS:
            break
        if per_organ[lesion.organ] < MOST_TARGETS_AN_ORGAN:
            per_organ[lesion.organ] += 1
            chosen.append(lesion)
    return tuple(chosen)


def sum_of_diameters(targets: Sequence[Lesion], examination: Sequence[Lesion]) -> float:
    """Returns the sum of the viable diameters of ``targets`` in an examination, mm.

    Raises:
        InvalidInput: a target was not read in this examination (a lesion that vanished is read as 0 mm), or twice.
    """
    read = Counter(lesion.name for lesion in examination)
    faults = [target.name for target in targets if read[target.name] != 1]
    if faults:
        raise InvalidInput(f"target lesions not read exactly once: {', '.join(faults)}")
    names = {target.name for target in targets}
    return sum(lesion.viable_diameter_mm for lesion in examination if lesion.name in names)


def judge_response(
    baseline_mm: float, current_mm: float, *, smallest_mm: float | None = None, new_lesion: bool = False
) -> Response:
    """Returns the mRECIST category of a follow-up examination.

    Args:
        baseline_mm: sum of viable diameters before treatment, >= 0.
        current_mm: the same sum now.
        smallest_mm: smallest sum since treatment started, baseline included; None when this is the first follow-up.
        new_lesion: a new lesion appeared: progression whatever the sum.

    Raises:
        InvalidInput: a negative sum, or a smallest sum above the baseline.

    Source: supplementary information 1 (mRECIST); baseline sum 0 is not evaluable (method, section 6).
    """
    nadir = baseline_mm if smallest_mm is None else smallest_mm
    if min(baseline_mm, current_mm, nadir) < 0.0 or nadir > baseline_mm * (1.0 + _ROUNDING):
        raise InvalidInput(
            f"sums of diameters: baseline {baseline_mm:g}, smallest {nadir:g}, now {current_mm:g} mm"
        )
    if new_lesion:
        return Response.PROGRESSIVE
    if baseline_mm == 0.0:
        return Response.NOT_EVALUABLE
    if current_mm == 0.0:
        return Response.COMPLETE
    if current_mm >= PROGRESSION_RATIO * nadir * (1.0 - _ROUNDING):
        return Response.PROGRESSIVE
    if current_mm <= PARTIAL_RATIO * baseline_mm * (1.0 + _ROUNDING):
        return Response.PARTIAL
    return Response.STABLE
