"""A table of scores: who is in which cohort, outcomes, scores, clinical variables and groups, one row a patient."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from engines.clinical.variables import DEFINITIONS, Value, Variable
from engines.survival.outcome import BoolArray, FloatArray, Outcome

DISCOVERY_PARTS = ("training", "validation")
"""Cohorts that together are the discovery cohort. Source: method, section 1."""

DISCOVERY = "discovery"

TESTING = "testing"

REGIMEN_COLUMN = "regimen"
"""Agents given, as the clinical table writes them: camrelizumab+apatinib. Source: supplementary Table 8."""

RESPONSE_COLUMN = "response"
"""mRECIST category at the first follow-up CT."""

GROUP_COLUMNS = ("centre", "scanner", "vendor", REGIMEN_COLUMN, "aetiology", RESPONSE_COLUMN)

BACKGROUND_COLUMNS = ("kvp", "slice_thickness_mm", "liver_box_ml")
"""Numbers that tell of the examination, not of the patient. Source: validity, trap 9 (shortcuts)."""

COPIES = {"training": "training (apparent)", "validation": "validation (selected on)"}
"""Names of the rows that networks alone were fitted or selected on, as an ablation writes them."""

FIT_COPIES = {
    "training": "training (apparent)",
    "validation": "validation (networks selected on, fused models apparent)",
}
"""The same patients once more, scored by what was fitted or chosen on them; beside the out-of-fold rows, never instead.

Forests, Radiomic, Benchmark and MMF are fitted on training and validation together: there they are apparent in both.
"""

_COPIED = tuple(FIT_COPIES.values())
_SAME_TIME_MONTHS = 0.05
_LONG_MONTHS = 120.0
"""Longer follow-up after a first dose is rare, and weeks under the name of months look like it (OURS)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EndpointColumns:
    """Follow-up for one endpoint.

    Attributes:
        name: OS, PFS or TTP.
        time: (n,) months, NaN where not known.
        event: (n,) bool, False where not known.
    """

    name: str
    time: FloatArray
    event: BoolArray

    @property
    def known(self) -> BoolArray:
        """(n,) whether the patient's follow-up is known."""
        return ~np.isnan(self.time)

    def outcome(self, rows: BoolArray) -> Outcome:
        """Returns the follow-up of rows that are all known."""
        return Outcome(self.time[rows], self.event[rows])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreTable:
    """A checked table of n patients.

    Attributes:
        name: of the file or of the cohorts.
        sha256: of the file, or of the model that scored the cases.
        patient_ids: n.
        cohort: (n,) words.
        cohorts: names in the order of the tables; training and validation are followed by their sum, discovery.
        cutoff_cohort: the cohort that cut-offs come from.
        endpoints: those present.
        scores: model -> endpoint -> (n,) score, NaN where missing.
        clinical: variable -> n values, None where missing.
        groups: group column -> n words, "" where missing.
        background: numbers of the examination by column, (n,) NaN where missing.
        notes: what a reader must know, in sentences.
        released_cutoffs: endpoint -> model -> cut-off that belongs to a released model; used where there is one.
    """

    name: str
    sha256: str
    patient_ids: tuple[str, ...]
    cohort: npt.NDArray[np.str_]
    cohorts: tuple[str, ...]
    cutoff_cohort: str
    endpoints: tuple[EndpointColumns, ...]
    scores: Mapping[str, Mapping[str, FloatArray]]
    clinical: Mapping[Variable, tuple[Value | None, ...]]
    groups: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    background: Mapping[str, FloatArray] = field(default_factory=dict)
    released_cutoffs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def rows(self, cohort: str) -> BoolArray:
        """Returns (n,) which patients belong to a cohort; discovery is training and validation unless it is named."""
        if cohort == DISCOVERY and DISCOVERY not in self.cohort:
            return np.isin(self.cohort, DISCOVERY_PARTS)
        mask: BoolArray = self.cohort == cohort
        return mask

    @property
    def test_cohort(self) -> str:
        """The cohort the paper's figures show: testing, else the last one that is not part of discovery."""
        others = [name for name in self.cohorts if name not in (*DISCOVERY_PARTS, DISCOVERY, *_COPIED)]
        if TESTING in others:
            return TESTING
        return others[-1] if others else self.cohorts[-1]

    @property
    def own_cohorts(self) -> tuple[str, ...]:
        """The cohorts without the copies: every patient is in one of them, or in discovery too."""
        return tuple(name for name in self.cohorts if name not in _COPIED)

    @property
    def patients(self) -> int:
        """Number of patients; the copy of a row is no further patient."""
        return int((~np.isin(self.cohort, _COPIED)).sum())

    def title(self, cohort: str) -> str:
        """Returns how a table heads a cohort; what its scores are worth is part of the name."""
        if cohort in FIT_COPIES and any(copy in self.cohorts for copy in _COPIED):
            return f"{cohort}, out-of-fold"
        return COPIES[cohort] if cohort == DISCOVERY_PARTS[1] else cohort


def order_cohorts(cohort: npt.NDArray[np.str_]) -> tuple[tuple[str, ...], str]:
    """Returns the cohorts in the order of the tables, and the one that cut-offs come from.

    Training and validation come first, followed by their sum, discovery; cut-offs come from discovery, or from the
    first cohort named when there is none. The copy of a part stands beside it.
    """
    named = list(dict.fromkeys(str(word) for word in cohort))
    order = [name for part in DISCOVERY_PARTS for name in (part, FIT_COPIES[part])]
    parts = [name for name in order if name in named]
    others = [name for name in named if name not in order]
    if set(DISCOVERY_PARTS) <= set(parts):
        return (*parts, DISCOVERY, *others), DISCOVERY
    if parts:
        return (*parts, *others), parts[0]
    if DISCOVERY in named:
        return (DISCOVERY, *(name for name in others if name != DISCOVERY)), DISCOVERY
    return tuple(named), named[0]


def describe_data(
    endpoints: tuple[EndpointColumns, ...], clinical: Mapping[Variable, tuple[Value | None, ...]]
) -> tuple[str, ...]:
    """Returns what a reader must know of the data: contradictions, unknown follow-up, categories outside the population."""
    return (*_contradictions(endpoints), *_outside(clinical))


def _contradictions(endpoints: tuple[EndpointColumns, ...]) -> list[str]:
    first, second = endpoints
    both = first.known & second.known
    later = int((both & (second.time > first.time + _SAME_TIME_MONTHS)).sum())
    missed = int((both & first.event & ~second.event & (second.time >= first.time - _SAME_TIME_MONTHS)).sum())
    notes = []
    if later:
        notes.append(
            f"In {later} patients {second.name} time is longer than {first.name} time: check the table."
        )
    if missed and second.name == "PFS":
        notes.append(
            f"In {missed} patients death came at the last {second.name} time but is not counted as a PFS event,"
            " although PFS is progression or death: check the table."
        )
    longest = max(float(np.nanmax(endpoint.time, initial=0)) for endpoint in endpoints)
    if longest > _LONG_MONTHS:
        notes.append(
            f"The longest follow-up is {longest:.1f} months: check that the times are months, not weeks."
        )
    for endpoint in endpoints:
        unknown = int((~endpoint.known).sum())
        if unknown:
            notes.append(
                f"{endpoint.name} is not known for {unknown} patients; they are left out of its statistics."
                " No row means not known, never alive today."
            )
    return notes


def _outside(clinical: Mapping[Variable, tuple[Value | None, ...]]) -> list[str]:
    notes = []
    for variable, values in clinical.items():
        definition = DEFINITIONS[variable]
        counts = Counter(v.category for v in values if v is not None and v.category in definition.outside)
        if counts:
            words = ", ".join(f"{category} ({count})" for category, count in sorted(counts.items()))
            notes.append(
                f"{definition.title}: categories outside the method's population are present and shown as their"
                f" own rows: {words}."
            )
    return notes
