"""The CT-protocol table: what each phase was acquired with, and how many cases lie outside the published protocol."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from engines.acquisition import (
    FIELD_OF_VIEW_MM,
    KVP_KV,
    MATRIX,
    SECONDS_AFTER_INJECTION,
    SLICE_THICKNESS_MM,
    TUBE_CURRENT_MA,
    PhaseProtocol,
    find_deviations,
)
from engines.phase import ASSESSED_PHASES, Phase
from train.evaluate.case_facts import CaseFacts
from train.evaluate.document import Row, Table
from train.evaluate.tables import heading
from train.evaluate.words import percent_text

_ITEMS: tuple[tuple[str, str, Callable[[PhaseProtocol], float | None]], ...] = (
    ("kVp", f"{KVP_KV[0]:g}-{KVP_KV[1]:g} kV", lambda p: p.kvp),
    ("tube current", f"{TUBE_CURRENT_MA[0]:g}-{TUBE_CURRENT_MA[1]:g} mA", lambda p: p.tube_current_ma),
    (
        "slice thickness",
        f"{SLICE_THICKNESS_MM[0]:g}-{SLICE_THICKNESS_MM[1]:g} mm",
        lambda p: p.slice_thickness_mm,
    ),
    ("matrix", f"{MATRIX[0]}x{MATRIX[1]}", lambda p: None if p.matrix is None else float(p.matrix[0])),
    (
        "field of view",
        f"{FIELD_OF_VIEW_MM[0]:g}-{FIELD_OF_VIEW_MM[1]:g} mm",
        lambda p: None if p.field_of_view_mm is None else float(p.field_of_view_mm[0]),
    ),
    ("time after injection", "", lambda p: p.seconds_after_injection),
)


def protocol_table(cases: Sequence[CaseFacts]) -> Table:
    """Returns each item of the protocol by phase and cohort: cases known, median and range, cases outside."""
    cohorts = list(dict.fromkeys(case.cohort for case in cases))
    rows: list[Row] = []
    for phase in ASSESSED_PHASES:
        rows.append(heading(phase.value.replace("_", " ").lower()))
        for item, expected, read in _ITEMS:
            rows.append(
                Row(
                    cells=(
                        item,
                        _expected(phase, item, expected),
                        *(
                            _cell([c for c in cases if c.cohort == name], phase, item, read)
                            for name in cohorts
                        ),
                    )
                )
            )
    clean = [_share_within([case for case in cases if case.cohort == name]) for name in cohorts]
    rows.append(heading("all phases"))
    rows.append(Row(cells=("every known item within the protocol", "", *clean)))
    return Table(
        name="ct_protocol",
        title="CT protocol: known cases, median (range), cases outside the published protocol",
        header=("Item", "Published protocol", *cohorts),
        rows=tuple(rows),
        notes=(
            "Published protocol: supplementary information 1 of Xu et al. 2025; the arterial phase started by bolus"
            " tracking at 100 HU in the aorta. What is not known is no deviation. Slice thickness without acquisition.json"
            " is the spacing of the slices.",
        ),
    )


def deviation_table(cases: Sequence[CaseFacts]) -> Table | None:
    """Returns the flag of each case outside the protocol; None when there is none."""
    rows = [
        Row(
            cells=(
                case.case_id,
                case.cohort,
                phase.value.replace("_", " ").lower(),
                "; ".join(f"{d.item} {d.value} (expected {d.expected})" for d in deviations),
            )
        )
        for case in cases
        for phase, protocol in case.protocol.phases.items()
        if (deviations := find_deviations(phase, protocol))
    ]
    if not rows:
        return None
    return Table(
        name="ct_protocol_deviations",
        title="Cases outside the published CT protocol",
        header=("Case", "Cohort", "Phase", "Outside"),
        rows=tuple(rows[:MOST_ROWS]),
        notes=()
        if len(rows) <= MOST_ROWS
        else (f"The first {MOST_ROWS} of {len(rows)} rows; all are counted in the table above.",),
    )


MOST_ROWS = 60
"""Flags that are listed one by one (OURS)."""


def scanner_table(cases: Sequence[CaseFacts]) -> Table | None:
    """Returns the scanners by cohort; None when no header is known."""
    cohorts = list(dict.fromkeys(case.cohort for case in cases))
    names = {case.case_id: _scanner(case) for case in cases}
    counts = Counter(name for name in names.values() if name)
    if not counts:
        return None
    rows = []
    for name, _ in counts.most_common():
        cells = []
        for cohort in cohorts:
            members = [case for case in cases if case.cohort == cohort and names[case.case_id]]
            cells.append(percent_text(sum(names[c.case_id] == name for c in members), len(members)))
        rows.append(Row(cells=(name, *cells)))
    return Table(
        name="scanners",
        title="Scanners by cohort",
        header=("Scanner", *cohorts),
        rows=tuple(rows),
        notes=("Shares of the cases whose scanner is known.",),
    )


def _scanner(case: CaseFacts) -> str:
    words = [f"{p.manufacturer} {p.model}".strip() for p in case.protocol.phases.values()]
    return next((word for word in words if word), "")


def _expected(phase: Phase, item: str, text: str) -> str:
    if item != "time after injection":
        return text
    limits = SECONDS_AFTER_INJECTION.get(phase)
    return "bolus tracking" if limits is None else f"{limits[0]:g}-{limits[1]:g} s"


def _cell(
    cases: Sequence[CaseFacts], phase: Phase, item: str, read: Callable[[PhaseProtocol], float | None]
) -> str:
    protocols = [case.protocol.phases[phase] for case in cases if phase in case.protocol.phases]
    values = [value for protocol in protocols if (value := read(protocol)) is not None]
    if not values:
        return "not known"
    outside = sum(any(d.item == item for d in find_deviations(phase, protocol)) for protocol in protocols)
    spread = f"{np.median(values):g}"
    if min(values) < max(values):
        spread += f" ({min(values):g}-{max(values):g})"
    return f"n {len(values)}: {spread}; outside {outside}"


def _share_within(cases: Sequence[CaseFacts]) -> str:
    within = sum(
        not any(find_deviations(phase, protocol) for phase, protocol in case.protocol.phases.items())
        for case in cases
    )
    return percent_text(within, len(cases))
