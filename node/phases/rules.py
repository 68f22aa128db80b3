"""The rules of phase recognition, read from conf/phases.toml and checked as a whole."""

import re
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from engines.configuration import find_conf
from engines.errors import InvalidInput
from engines.phase import Phase

OTHER = "OTHER"
"""The hidden state of a pass that is none of the four phases."""
STATES: tuple[str, ...] = (*(phase.value for phase in Phase), OTHER)
"""The hidden states, in the order of every likelihood vector."""

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


def _check_pattern(pattern: str) -> str:
    """Refuses what is no regular expression."""
    try:
        re.compile(pattern)
    except re.error as fault:
        raise ValueError(f"'{pattern}' is no regular expression: {fault}") from fault
    return pattern


def _check_states(row: dict[str, float]) -> dict[str, float]:
    """Refuses a row that names no probability for some state, or one for a state that there is not."""
    unknown = sorted(set(row) - {*STATES, "other"})
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: no such state; known are {', '.join(STATES)} and other")
    missing = [state for state in STATES if state not in row]
    if missing and "other" not in row:
        raise ValueError(f"must name {', '.join(missing)}, or other")
    return row


Pattern = Annotated[str, AfterValidator(_check_pattern)]
ByState = Annotated[dict[str, Probability], AfterValidator(_check_states)]
"""Probabilities by state; ``other`` stands for those not named."""


class Strength(StrEnum):
    """How far a text may be trusted."""

    PLAIN = "plain"
    DOUBTFUL = "doubtful"
    HINT = "hint"


class _Rules(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ByOrder(_Rules):
    """A probability by the attribute that gave the order of the passes."""

    time: Probability
    acquisition_number: Probability
    series_number: Probability


class Decision(_Rules):
    """Thresholds on posterior probabilities."""

    named: Probability
    used: Probability
    without_pixels_delayed: Probability
    contradicted: Probability
    other: ByOrder


class LogNormal(_Rules):
    """A log-normal distribution of seconds."""

    median_seconds: Positive
    spread: Positive


class Gap(_Rules):
    """Seconds between two passes, by the states of both."""

    outlier: Probability
    PRE_CONTRAST: dict[Phase, LogNormal]
    ARTERIAL: dict[Phase, LogNormal]
    PORTAL_VENOUS: dict[Phase, LogNormal]
    DELAYED: dict[Phase, LogNormal]


class Sequence(_Rules):
    """Order and gaps of the phases within a study."""

    first: dict[Phase, Probability]
    none: Probability
    next: dict[Phase, dict[Phase, Probability]]
    unreliable: ByOrder
    gap: Gap

    @model_validator(mode="after")
    def _sums(self) -> Self:
        if set(self.first) != set(Phase) or abs(sum(self.first.values()) - 1.0) > 1e-6:
            raise ValueError(
                f"sequence.first must name the four phases and sum to 1, got {sum(self.first.values()):g}"
            )
        for place, phase in enumerate(Phase):
            row = self.next.get(phase, {})
            back = [str(before) for before in list(Phase)[:place] if row.get(before, 0.0) > 0.0]
            if back:
                raise ValueError(
                    f"sequence.next.{phase} goes back to {', '.join(back)}; contrast does not, and that an order lies is "
                    "said by sequence.unreliable"
                )
            if set(row) != set(Phase) or not 0.0 < sum(row.values()) < 1.0:
                raise ValueError(
                    f"sequence.next.{phase} must name the four phases and sum to less than 1, got {row}"
                )
        return self


class Injection(_Rules):
    """Seconds after the start of the injection."""

    earliest_seconds: float
    latest_seconds: Positive
    shortest_seconds: Positive
    outlier: Probability
    ARTERIAL: LogNormal
    PORTAL_VENOUS: LogNormal
    DELAYED: LogNormal


class StudentT(_Rules):
    """Location and scale of (aorta, portal vein), HU and HU squared; own degrees of freedom where given."""

    location_hu: tuple[float, float]
    scale_hu2: tuple[tuple[float, float], tuple[float, float]]
    degrees_of_freedom: Positive | None = None

    @model_validator(mode="after")
    def _positive(self) -> Self:
        (aorta, shared), (again, portal) = self.scale_hu2
        if shared != again or min(aorta, portal) <= 0.0 or aorta * portal <= shared * shared:
            raise ValueError(f"scale_hu2 must be symmetric and positive definite, got {self.scale_hu2}")
        return self


class Hounsfield(_Rules):
    """Distribution of vessel HU by state."""

    degrees_of_freedom: Positive
    weight: Probability
    portal_vein_unseen: ByState
    PRE_CONTRAST: StudentT
    ARTERIAL: StudentT
    PORTAL_VENOUS: StudentT
    DELAYED: StudentT
    OTHER: StudentT


class Agent(_Rules):
    """What an empty Contrast/Bolus Agent says where other passes of the study have one."""

    empty_elsewhere_filled: ByState


class StudyText(_Rules):
    """What the description of the whole study says of passes whose own texts say nothing."""

    doubt: Probability
    latest_first_series: Annotated[int, Field(ge=1)]


class Words(_Rules):
    """Words that are looked for in a text."""

    words: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    patterns: tuple[Pattern, ...] = ()
    language: str = ""
    source: str = ""


class Says(Words):
    """Words that name a phase; ``against``: phases that they are never used for, however doubtful they are."""

    phase: Phase
    strength: Strength
    against: tuple[Phase, ...] = ()


class Text(_Rules):
    """How texts are read."""

    unreliable: Probability
    plain: Probability
    doubtful: Probability
    hint: Probability
    other: Probability
    shortest_seconds: Positive
    longest_seconds: Positive
    second_words: tuple[str, ...]
    minute_words: tuple[str, ...]
    reconstruction_words: tuple[str, ...]
    says: tuple[Says, ...]
    enhanced: tuple[Words, ...]
    both: tuple[Words, ...]
    several: tuple[Words, ...]
    silent: tuple[Words, ...]


class Limits(_Rules):
    """Geometry that an acquisition must have to be used."""

    fewest_slices: Annotated[int, Field(ge=2)]
    least_coverage_mm: Positive
    least_normal_z: Probability
    thickest_slice_mm: Positive


class Exclude(Words):
    """One reason why images are not a phase, and how they are known."""

    reason: str
    image_types: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    unless_words: tuple[str, ...] = ()
    unless_parts: tuple[str, ...] = ()
    unless_patterns: tuple[Pattern, ...] = ()


class Kernels(_Rules):
    """Regular expressions of convolution kernels."""

    sharp: tuple[Pattern, ...]
    soft: tuple[Pattern, ...]


class Choice(_Rules):
    """Weights of the choice between reconstructions of one pass."""

    soft_kernel: float
    original: float
    best_thickness_mm: Positive
    thickness_weight: float
    coverage_weight: float


class PhaseRules(_Rules):
    """All rules of phase recognition, version 1 of the file."""

    schema_version: Annotated[int, Field(ge=1, le=1)]
    decision: Decision
    sequence: Sequence
    injection: Injection
    hounsfield: Hounsfield
    attribute: dict[str, ByState]
    study: StudyText
    agent: Agent
    text: Text
    limits: Limits
    exclude: tuple[Exclude, ...]
    kernels: Kernels
    choice: Choice


def load_rules(path: Path | None = None) -> PhaseRules:
    """Returns the rules of a file, by default those of ``conf/phases.toml``.

    Args:
        path: another file, as given by ``--rules``.

    Raises:
        InvalidInput: not TOML in UTF-8, or faults in it; all are listed at once.
    """
    found = find_conf("phases.toml", path)
    try:
        return PhaseRules.model_validate(tomllib.loads(found.read_text(encoding="utf-8-sig")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise InvalidInput(f"{found} is not TOML: {fault}") from fault
    except ValidationError as fault:
        lines = [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in fault.errors()]
        if any(error["type"] == "missing" for error in fault.errors()):
            lines.append(
                "what is missing may be newer than this file: copy it from the conf/phases.toml of this version"
            )
        raise InvalidInput(f"{found.name} has {fault.error_count()} faults:\n" + "\n".join(lines)) from fault
