"""Shortcut baselines: what header, centre or size of the liver's box alone would predict. None of them should."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engines.errors import InvalidInput, SurvivalRefused
from engines.survival.concordance import measure_concordance
from engines.survival.cox import fit_cox, log_hazard
from engines.survival.outcome import FloatArray, Outcome
from train.evaluate.document import Row, Table
from train.evaluate.hazards import FEWEST_EVENTS, FEWEST_PATIENTS
from train.evaluate.score_table import DISCOVERY_PARTS, ScoreTable
from train.evaluate.words import estimate_text

WARNING_C = 0.55
"""A shortcut above it warns in the report. Source: validity, trap 9."""

FOLDS = 5
RIDGE = 5.0
"""Of the shortcut's Cox model: many centres stand against few events (OURS)."""

SHORTCUTS = {
    "header only (kVp, slice thickness, vendor)": (("kvp", "slice_thickness_mm"), ("vendor",)),
    "centre only": ((), ("centre",)),
    "size of the liver's box only": (("liver_box_ml",), ()),
}
"""Numbers and groups of each baseline. Source: validity, trap 9."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortcut:
    """One baseline in one cohort; c_index is None with a reason where it is not estimable."""

    name: str
    cohort: str
    endpoint: str
    n: int
    events: int
    c_index: float | None
    low: float | None
    high: float | None
    reason: str

    @property
    def warns(self) -> bool:
        """Whether the shortcut predicts more than it should."""
        return self.c_index is not None and self.c_index > WARNING_C


def measure_shortcuts(table: ScoreTable, seed: int) -> tuple[Shortcut, ...]:
    """Returns the cross-validated C of every baseline whose columns the table holds, in each cohort.

    Args:
        table: checked scores.
        seed: of the parts.
    """
    found = []
    seen = {*DISCOVERY_PARTS} - {table.cutoff_cohort}  # discovery holds them
    for name, (numbers, groups) in SHORTCUTS.items():
        columns = [table.background[column] for column in numbers if column in table.background]
        words = [np.array(table.groups[column]) for column in groups if column in table.groups]
        if not columns and not words:
            continue
        for endpoint in table.endpoints:
            for cohort in (name for name in table.own_cohorts if name not in seen):
                rows = table.rows(cohort) & endpoint.known
                if not rows.any():
                    continue
                inputs = _inputs([column[rows] for column in columns], [word[rows] for word in words])
                found.append(_measure(name, cohort, endpoint.name, inputs, endpoint.outcome(rows), seed))
    return tuple(found)


def shortcut_table(found: Sequence[Shortcut]) -> Table:
    """Returns the C of each shortcut, those above the limit marked."""
    rows = []
    for entry in found:
        text = entry.reason if entry.c_index is None else estimate_text(entry.c_index, entry.low, entry.high)
        mark = f"WARNING: above {WARNING_C}" if entry.warns else ""
        rows.append(
            Row(cells=(entry.name, entry.cohort, entry.endpoint, f"{entry.n} / {entry.events}", text, mark))
        )
    return Table(
        name="shortcuts",
        title="Shortcut baselines",
        header=("Baseline", "Cohort", "Endpoint", "n / events", "Harrell's C (95% CI)", ""),
        rows=tuple(rows),
        notes=(
            f"Cox models with a ridge, cross-validated in {FOLDS} parts inside each cohort. A C above {WARNING_C} warns:"
            " images carry the examination as well as the tumour, and a network may have read it there. Intervals by"
            " Noether's standard error.",
        ),
    )


def warn_of_shortcuts(found: Sequence[Shortcut]) -> tuple[str, ...]:
    """Returns a sentence for each shortcut above the limit."""
    return tuple(
        f"Warning: {entry.name} has a cross-validated C of {entry.c_index:.2f} for {entry.endpoint} in {entry.cohort}"
        f" (limit {WARNING_C})."
        for entry in found
        if entry.warns
    )


def _inputs(
    columns: Sequence[FloatArray], words: Sequence[np.ndarray[tuple[int], np.dtype[np.str_]]]
) -> FloatArray:
    """Numbers with an indicator of being missing, and indicators of every word but the first."""
    parts: list[FloatArray] = []
    for column in columns:
        missing = np.isnan(column)
        middle = float(np.median(column[~missing])) if (~missing).any() else 0.0
        parts += [np.where(missing, middle, column), missing.astype(np.float64)]
    for word in words:
        parts += [(word == level).astype(np.float64) for level in np.unique(word)[1:]]
    size = (columns[0] if columns else words[0]).shape[0]
    varying = [part for part in parts if np.ptp(part) > 0]
    return np.column_stack(varying) if varying else np.empty((size, 0))


def _measure(
    name: str, cohort: str, endpoint: str, inputs: FloatArray, outcome: Outcome, seed: int
) -> Shortcut:
    c_index = low = high = None
    reason = ""
    if inputs.shape[1] == 0:
        reason = "the same in everyone"
    elif outcome.n < FEWEST_PATIENTS or outcome.events < FEWEST_EVENTS:
        reason = "not shown"
    else:
        try:
            measured = measure_concordance(_cross_validate(inputs, outcome, seed), outcome)
            c_index, error = measured.c_index, measured.standard_error
            low, high = max(0.0, c_index - 1.96 * error), min(1.0, c_index + 1.96 * error)
        except SurvivalRefused as refused:
            reason = str(refused)
    return Shortcut(
        name=name,
        cohort=cohort,
        endpoint=endpoint,
        n=outcome.n,
        events=outcome.events,
        c_index=c_index,
        low=low,
        high=high,
        reason=reason,
    )


def _cross_validate(inputs: FloatArray, outcome: Outcome, seed: int) -> FloatArray:
    part = np.random.default_rng(seed).permutation(outcome.n) % FOLDS
    values = np.zeros(outcome.n)
    for number in range(FOLDS):
        held = part == number
        learned = inputs[~held]
        kept = np.ptp(learned, axis=0) > 0
        if not kept.any():
            continue
        try:
            fit = fit_cox(learned[:, kept], outcome.take(~held), ridge=RIDGE)
        except (InvalidInput, SurvivalRefused):
            continue  # nothing can be learned from these parts: the part left out gets the mean, 0
        values[held] = log_hazard(fit, inputs[held][:, kept])
    return values
