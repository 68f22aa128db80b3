"""What is measured of each model in each cohort for each endpoint: C, AUC, risk groups, comparisons with every other model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from engines.errors import InvalidInput, SurvivalRefused
from engines.survival.bootstrap import (
    DEFAULT_REPEATS,
    PairedDifference,
    bootstrap_concordance,
    compare_paired,
    draw_resamples,
    percentile_interval,
)
from engines.survival.concordance import compare_concordance, measure_concordance, uno_c
from engines.survival.cox import HazardRatio, fit_cox, hazard_ratios
from engines.survival.cutoff import is_high, median_cutoff, select_cutoff
from engines.survival.kaplan_meier import Quantile, compare_groups, estimate_survival, survival_quantile
from engines.survival.outcome import BoolArray, FloatArray, Outcome
from engines.survival.roc import bootstrap_auc, measure_auc
from train.evaluate.published import REFERENCE_MODEL, canonical_model
from train.evaluate.score_table import EndpointColumns, ScoreTable

AUC_MONTHS: Mapping[str, tuple[float, ...]] = {
    "OS": (12.0, 24.0, 36.0),
    "PFS": (3.0, 6.0, 12.0),
    "TTP": (3.0, 6.0, 12.0),
}
"""Horizons of the time-dependent AUC. Source: method, section 8; TTP as PFS (OURS)."""

LOW, HIGH = "low", "high"


class CutoffRule(StrEnum):
    """How the cut-off between low and high risk is derived on the discovery cohort."""

    MEDIAN = "median"
    LOGRANK = "logrank"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How an evaluation is run: bootstrap repeats and seed, rule of the cut-offs."""

    repeats: int = DEFAULT_REPEATS
    seed: int = 20250185
    cutoff: CutoffRule = CutoffRule.MEDIAN


@dataclass(frozen=True, slots=True, kw_only=True)
class Auc:
    """Time-dependent AUC at one month; None where not estimable, with the reason."""

    month: float
    value: float | None
    low: float | None
    high: float | None
    cases: int
    at_risk: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskGroups:
    """Low and high risk by the cut-off; members of the other fields are None where they cannot be computed.

    Attributes:
        cutoff: high is strictly above.
        n: patients in low and high.
        events: events in low and high.
        logrank_p: two-sided.
        medians: median survival in months by group.
        hazard_ratio: high against low.
    """

    cutoff: float
    n: Mapping[str, int]
    events: Mapping[str, int]
    logrank_p: float | None
    medians: Mapping[str, Quantile]
    hazard_ratio: HazardRatio | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """This model against another on the patients that have both scores.

    Attributes:
        model: the other one.
        n: patients with both scores.
        c_index: paired bootstrap of the difference in C, this less the other.
        t_test_p: survcomp's t test of the two C-indices, two-sided.
        auc: paired bootstrap of the difference in AUC, by month.
    """

    model: str
    n: int
    c_index: PairedDifference | None
    t_test_p: float | None
    auc: Mapping[float, PairedDifference | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """Everything measured of one model in one cohort for one endpoint.

    Attributes:
        n: patients with follow-up and score.
        events: among them.
        c_index: Harrell's; None when nothing is comparable, with the reason.
        ci_low: percentile bootstrap.
        ci_high: percentile bootstrap.
        uno_c: Uno's C up to the last month of ``AUC_MONTHS`` within follow-up; None where not estimable.
        reason: why c_index is None, else "".
    """

    cohort: str
    endpoint: str
    model: str
    n: int
    events: int
    c_index: float | None
    ci_low: float | None
    ci_high: float | None
    standard_error: float | None
    uno_c: float | None
    reason: str
    auc: tuple[Auc, ...]
    groups: RiskGroups | None
    comparisons: tuple[Comparison, ...]


def measure_models(table: ScoreTable, settings: Settings) -> tuple[ModelRecord, ...]:
    """Returns the record of every model in every cohort for every endpoint, in the table's order.

    Args:
        table: checked scores.
        settings: seed, repeats and rule of the cut-offs.
    """
    records: list[ModelRecord] = []
    for endpoint in table.endpoints:
        cutoffs = derive_cutoffs(table, endpoint, settings.cutoff)
        for cohort in table.cohorts:
            rows = table.rows(cohort) & endpoint.known
            scores = {name: by_endpoint[endpoint.name] for name, by_endpoint in table.scores.items()}
            records += _CohortMeasures(cohort, endpoint, rows, scores, cutoffs, settings).records()
    return tuple(records)


def derive_cutoffs(table: ScoreTable, endpoint: EndpointColumns, rule: CutoffRule) -> Mapping[str, float]:
    """Returns each model's cut-off: that of its release, else from the discovery cohort; models without are left out."""
    rows = table.rows(table.cutoff_cohort) & endpoint.known
    released = table.released_cutoffs.get(endpoint.name, {})
    cutoffs = {}
    for name, by_endpoint in table.scores.items():
        if name in released:
            cutoffs[name] = released[name]
            continue
        score = by_endpoint[endpoint.name]
        used = rows & ~np.isnan(score)
        if used.any():
            cutoffs[name] = derive_cutoff(score[used], endpoint.outcome(used), rule)
    return cutoffs


def derive_cutoff(score: FloatArray, outcome: Outcome, rule: CutoffRule) -> float:
    """Returns a cut-off that leaves patients on both sides wherever the score has two values.

    The median of a coarse score (responder or not) may be its largest value; then the next smaller value is taken.
    """
    if rule == CutoffRule.LOGRANK:
        try:
            return select_cutoff(score, outcome).cutoff
        except SurvivalRefused:
            pass  # no event, or too few values to select from: the median serves and the tables show which it is
    cutoff = median_cutoff(score)
    values = np.unique(score)
    return float(values[-2]) if values.size > 1 and cutoff >= values[-1] else cutoff


def split_by_risk(score: FloatArray, outcome: Outcome, cutoff: float) -> RiskGroups:
    """Returns the two risk groups with their log-rank test, medians and hazard ratio."""
    high = is_high(score, cutoff)
    labels = np.where(high, HIGH, LOW)
    members = {LOW: ~high, HIGH: high}
    try:
        p_value = compare_groups(outcome, list(labels)).p_value
    except (InvalidInput, SurvivalRefused):
        p_value = None
    try:
        ratio = hazard_ratios(fit_cox(high.astype(np.float64), outcome, ("high risk",)))[0]
    except (InvalidInput, SurvivalRefused):
        ratio = None
    return RiskGroups(
        cutoff=cutoff,
        n={name: int(mask.sum()) for name, mask in members.items()},
        events={name: int(outcome.event[mask].sum()) for name, mask in members.items()},
        logrank_p=p_value,
        medians={
            name: survival_quantile(estimate_survival(outcome.take(mask)))
            if mask.any()
            else Quantile(time=None, low=None, high=None)
            for name, mask in members.items()
        },
        hazard_ratio=ratio,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """Bootstrap values of some models on one set of patients."""

    c_index: Mapping[str, FloatArray]
    auc: Mapping[str, Mapping[float, FloatArray]]


class _CohortMeasures:
    """Measures all models of one cohort and endpoint; models scored on the same patients share their resamples."""

    def __init__(
        self,
        cohort: str,
        endpoint: EndpointColumns,
        rows: BoolArray,
        scores: Mapping[str, FloatArray],
        cutoffs: Mapping[str, float],
        settings: Settings,
    ) -> None:
        self._cohort, self._endpoint, self._cutoffs, self._settings = cohort, endpoint, cutoffs, settings
        self._rows = {name: rows & ~np.isnan(score) for name, score in scores.items()}
        self._scores = scores
        self._months = AUC_MONTHS[endpoint.name]
        self._drawn: dict[bytes, _Drawn] = {}

    def records(self) -> list[ModelRecord]:
        """Returns one record a model."""
        records = [self._record(name) for name in self._scores]
        pairs: dict[tuple[str, str], Comparison | None] = {}
        names = list(self._scores)
        for place, first in enumerate(names):
            for second in names[place + 1 :]:
                pairs[first, second] = self._compare(first, second)
                pairs[second, first] = _mirrored(pairs[first, second], first)
        return [
            _with_comparisons(
                record,
                tuple(
                    comparison
                    for other in names
                    if other != record.model and (comparison := pairs[record.model, other]) is not None
                ),
            )
            for record in records
        ]

    def _record(self, name: str) -> ModelRecord:
        rows = self._rows[name]
        if not rows.any():
            return self._empty(name, 0, 0, "no patient has follow-up and score")
        outcome, score = self._endpoint.outcome(rows), self._scores[name][rows]
        try:
            concordance = measure_concordance(score, outcome)
        except SurvivalRefused as error:
            return self._empty(name, outcome.n, outcome.events, str(error))
        drawn = self._draw(rows)
        interval = percentile_interval(drawn.c_index[name])
        return ModelRecord(
            cohort=self._cohort,
            endpoint=self._endpoint.name,
            model=name,
            n=outcome.n,
            events=outcome.events,
            c_index=concordance.c_index,
            ci_low=interval.low if interval else None,
            ci_high=interval.high if interval else None,
            standard_error=_finite(concordance.standard_error),
            uno_c=_uno(score, outcome, self._months),
            reason="",
            auc=tuple(self._auc(name, score, outcome, month, drawn) for month in self._months),
            groups=split_by_risk(score, outcome, self._cutoffs[name]) if name in self._cutoffs else None,
            comparisons=(),
        )

    def _auc(self, name: str, score: FloatArray, outcome: Outcome, month: float, drawn: _Drawn) -> Auc:
        point = measure_auc(score, outcome, month)
        interval = None if point.auc is None else percentile_interval(drawn.auc[name][month])
        return Auc(
            month=month,
            value=point.auc,
            low=interval.low if interval else None,
            high=interval.high if interval else None,
            cases=point.cases,
            at_risk=point.at_risk,
            reason=point.reason,
        )

    def _draw(self, rows: BoolArray) -> _Drawn:
        """Bootstrap values of every model that is scored on all these patients."""
        key = rows.tobytes()
        if key not in self._drawn:
            outcome = self._endpoint.outcome(rows)
            names = [name for name, known in self._rows.items() if (known | ~rows).all()]
            scores = np.stack([self._scores[name][rows] for name in names])
            resamples = draw_resamples(outcome.n, self._settings.repeats, self._settings.seed)
            c_index = bootstrap_concordance(scores, outcome, resamples)
            auc = {
                month: bootstrap_auc(scores, outcome, month, resamples)
                for month in self._months
                if measure_auc(scores[0], outcome, month).auc is not None
            }
            self._drawn[key] = _Drawn(
                c_index={name: c_index[:, place] for place, name in enumerate(names)},
                auc={
                    name: {month: values[:, place] for month, values in auc.items()}
                    for place, name in enumerate(names)
                },
            )
        return self._drawn[key]

    def _compare(self, first: str, second: str) -> Comparison | None:
        rows = self._rows[first] & self._rows[second]
        if not rows.any():
            return None
        outcome = self._endpoint.outcome(rows)
        one, two = self._scores[first][rows], self._scores[second][rows]
        try:
            difference = measure_concordance(one, outcome).c_index - measure_concordance(two, outcome).c_index
        except SurvivalRefused:
            return None
        try:
            t_test_p = _finite(compare_concordance(one, two, outcome).p_value)
        except SurvivalRefused:
            t_test_p = None
        drawn = self._draw(rows)
        auc: dict[float, PairedDifference | None] = {}
        for month in self._months:
            a, b = measure_auc(one, outcome, month).auc, measure_auc(two, outcome, month).auc
            auc[month] = (
                None
                if a is None or b is None
                else compare_paired(a - b, drawn.auc[first][month], drawn.auc[second][month])
            )
        return Comparison(
            model=second,
            n=outcome.n,
            c_index=compare_paired(difference, drawn.c_index[first], drawn.c_index[second]),
            t_test_p=t_test_p,
            auc=auc,
        )

    def _empty(self, name: str, n: int, events: int, reason: str) -> ModelRecord:
        return ModelRecord(
            cohort=self._cohort,
            endpoint=self._endpoint.name,
            model=name,
            n=n,
            events=events,
            c_index=None,
            ci_low=None,
            ci_high=None,
            standard_error=None,
            uno_c=None,
            reason=reason,
            auc=tuple(
                Auc(month=month, value=None, low=None, high=None, cases=0, at_risk=0, reason=reason)
                for month in self._months
            ),
            groups=None,
            comparisons=(),
        )


def find_reference_model(names: tuple[str, ...]) -> str | None:
    """Returns the column that is MMF, else the last score column, else None."""
    for name in names:
        if canonical_model(name) == REFERENCE_MODEL:
            return name
    return names[-1] if names else None


def _uno(score: FloatArray, outcome: Outcome, months: tuple[float, ...]) -> float | None:
    within = [month for month in months if month < outcome.time.max()]
    try:
        return uno_c(score, outcome, until=within[-1] if within else None)
    except SurvivalRefused:
        return None


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _mirrored(comparison: Comparison | None, model: str) -> Comparison | None:
    if comparison is None:
        return None
    return Comparison(
        model=model,
        n=comparison.n,
        c_index=_negated(comparison.c_index),
        t_test_p=comparison.t_test_p,
        auc={month: _negated(value) for month, value in comparison.auc.items()},
    )


def _negated(value: PairedDifference | None) -> PairedDifference | None:
    if value is None:
        return None
    return replace(value, difference=-value.difference, low=-value.high, high=-value.low)


def _with_comparisons(record: ModelRecord, comparisons: tuple[Comparison, ...]) -> ModelRecord:
    return replace(record, comparisons=comparisons)
