"""Recalibration as a step of its own: the released risk, its intercept updated, its slope updated, on a cohort it never saw."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from engines.errors import InvalidInput, SurvivalRefused
from engines.survival.brier import brier_score
from engines.survival.calibration import Calibration, assess_calibration
from engines.survival.cox import CoxFit, fit_cox, hazard_multiple, log_hazard, predict_survival
from engines.survival.outcome import FloatArray, IntArray, Outcome
from train.evaluate.document import Row, Table
from train.evaluate.tables import heading
from train.evaluate.words import NOT_ESTIMABLE, estimate_text

FOLDS = 5
"""The update is learned on four parts of the cohort and judged on the fifth (OURS)."""


class Update(StrEnum):
    """How a released risk is adapted to a new cohort."""

    NONE = "as released"
    """Without a released model: ``OWN_COX``."""
    INTERCEPT = "intercept updated"
    SLOPE = "slope and baseline updated"


OWN_COX = "score's own Cox"
"""What stands in place of "as released" where no released risk was measured: a Cox model of the score on discovery."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalibration:
    """Calibration of one model's risk in one cohort at one month after one update; None with a reason."""

    cohort: str
    endpoint: str
    model: str
    update: Update
    month: float
    calibration: Calibration | None
    brier: float | None
    reason: str
    released: bool = False

    @property
    def title(self) -> str:
        """How the row is called."""
        return OWN_COX if self.update is Update.NONE and not self.released else self.update.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which cohort, endpoint and model a recalibration belongs to, and whether the risk is the released one."""

    cohort: str
    endpoint: str
    model: str
    released: bool = False


def recalibrate(
    place: Place, fit: CoxFit, score: FloatArray, outcome: Outcome, months: Sequence[float], seed: int
) -> list[Recalibration]:
    """Returns calibration and Brier score of the risk as it is and of both updates, which are cross-validated.

    Args:
        place: what the rows of the table are called.
        fit: what turns the score into a risk, of another cohort: the released model, or a Cox model of the score alone.
        score: (n,) of this cohort.
        outcome: of the same patients.
        months: horizons.
        seed: of the parts.

    Source: van Houwelingen 2000; Crowson, Atkinson & Therneau 2016 (intercept by observed over expected events).
    """
    part = np.random.default_rng(seed).permutation(outcome.n) % FOLDS
    found = []
    for update in Update:
        for month in months:
            calibration = brier = None
            reason = ""
            try:
                survival = _survival(fit, score, outcome, month, update, part)
                calibration = assess_calibration(1 - survival, outcome, month)
                brier = brier_score(survival, outcome, month)
            except (InvalidInput, SurvivalRefused) as error:
                reason = str(error)
            found.append(
                Recalibration(
                    cohort=place.cohort,
                    endpoint=place.endpoint,
                    model=place.model,
                    update=update,
                    month=month,
                    calibration=calibration,
                    brier=brier,
                    reason=reason,
                    released=place.released,
                )
            )
    return found


def intercept_factor(fit: CoxFit, score: FloatArray, outcome: Outcome) -> float:
    """Returns observed over expected events: the factor on the cumulative baseline hazard.

    Both are counted up to the last event of the fit, where its hazard ends: a cohort that is followed longer has events
    beyond it that nothing was expected of.

    Raises:
        SurvivalRefused: no event is expected.
    """
    hazard = np.concatenate(([0.0], fit.baseline.cumulative_hazard))
    reached = hazard[np.searchsorted(fit.baseline.time, outcome.time, side="right")]
    expected = float((reached * hazard_multiple(fit, score[:, None])).sum())
    if not expected > 0:
        raise SurvivalRefused("no event is expected within the follow-up: the intercept cannot be updated")
    return float((outcome.event & (outcome.time <= fit.baseline.time[-1])).sum()) / expected


def recalibration_table(records: Sequence[Recalibration], endpoint: str) -> Table:
    """Returns calibration before and after each update."""
    rows: list[Row] = []
    reasons: list[str] = []
    chosen = [record for record in records if record.endpoint == endpoint]
    own = OWN_COX in {record.title for record in chosen}
    for cohort in dict.fromkeys(record.cohort for record in chosen):
        for model in dict.fromkeys(record.model for record in chosen if record.cohort == cohort):
            rows.append(heading(f"{cohort}: {model}"))
            for record in (r for r in chosen if (r.cohort, r.model) == (cohort, model)):
                found = record.calibration
                if found is None:
                    reasons.append(f"{cohort}, {record.month:g} months: {record.reason}.")
                    cells = (NOT_ESTIMABLE,) * 4
                else:
                    slope = found.slope
                    cells = (
                        estimate_text(found.ratio, found.ratio_low, found.ratio_high),
                        NOT_ESTIMABLE if slope is None else estimate_text(slope.value, slope.low, slope.high),
                        NOT_ESTIMABLE if found.ici is None else f"{found.ici:.3f}",
                        NOT_ESTIMABLE if record.brier is None else f"{record.brier:.3f}",
                    )
                rows.append(Row(cells=(record.title, f"{record.month:g}", *cells)))
    return Table(
        name=f"recalibration_{endpoint.lower()}",
        title=f"External calibration and recalibration, {endpoint}",
        header=("Update", "Month", "O/E (95% CI)", "Slope (95% CI)", "ICI", "Brier"),
        rows=tuple(rows),
        notes=(
            f"Updated rows were learned on {FOLDS - 1} of {FOLDS} parts of the same cohort and judged on the part left"
            " out: they say what a local update could reach, not how the released risk does. Intercept: the cumulative"
            " baseline hazard times observed over expected events, up to the last event of the fit. Slope: the log hazard"
            " refitted with its own baseline.",
            *(
                (f"{OWN_COX}: no released risk, but that of a Cox model of the score on discovery.",)
                if own
                else ()
            ),
            *dict.fromkeys(reasons),
        ),
    )


def _survival(
    fit: CoxFit, score: FloatArray, outcome: Outcome, month: float, update: Update, part: IntArray
) -> FloatArray:
    released = predict_survival(fit, score[:, None], (month,)).survival[:, 0]
    if np.isnan(released).any():
        raise SurvivalRefused(f"not estimable: follow-up of the fit ends before {month:g}")
    if update is Update.NONE:
        return released
    survival = np.empty(outcome.n)
    linear = log_hazard(fit, score[:, None])
    for number in range(FOLDS):
        held = part == number
        if not held.any():
            continue
        learned = outcome.take(~held)
        if update is Update.INTERCEPT:
            factor = intercept_factor(fit, score[~held], learned)
            survival[held] = released[held] ** factor
        else:
            again = fit_cox(linear[~held], learned, ("log hazard",))
            survival[held] = predict_survival(again, linear[held][:, None], (month,)).survival[:, 0]
    if np.isnan(survival).any():
        raise SurvivalRefused(f"not estimable: follow-up of a part ends before {month:g}")
    return survival
