"""The Radiomic model: selection of features on the rows that may be seen, then a Cox model of those that are left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from warnings import catch_warnings, filterwarnings

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from engines.endpoint import Endpoint
from engines.errors import InvalidInput
from engines.models.comparator import feature_column
from engines.phase import Phase
from engines.radiomics.names import full_name
from engines.survival.concordance import harrell_c
from engines.survival.cox import CoxFit, fit_cox, hazard_ratios, log_hazard
from engines.survival.outcome import Outcome
from train.errors import CohortRefused
from train.out_of_fold import deal_folds

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MOST_MISSING = 0.1
"""A feature that more of the rows lack is dropped, so that complete cases remain (OURS)."""

SAME_SHARE = 0.95
"""A feature with one value in this share of the rows is near-constant (OURS; caret's nearZeroVar: 95/5)."""

MOST_CORRELATED = 0.9
"""Absolute Spearman correlation of two features of which one goes. Source: method, section 7."""

UNIVARIABLE_P = 0.05
LASSO_FOLDS = 10
"""Source: method, section 7."""

LASSO_PENALTIES = 50
SMALLEST_PENALTY = 0.02
"""Penalties tried, down to this share of the one that leaves no feature (OURS)."""

LIGHT_RIDGE = 1.0
"""Of the final Cox model, as of the clinical models: few of the fixed features can separate small cohorts (OURS)."""

_LIVER, _TUMOUR = "liver", "tumour"

FIXED_FEATURES: Mapping[Endpoint, tuple[str, ...]] = {
    Endpoint.OS: (
        feature_column(_LIVER, Phase.ARTERIAL, full_name("glrlm", "GrayLevelNonUniformity")),
        feature_column(_LIVER, Phase.ARTERIAL, full_name("glszm", "LargeAreaLowGrayLevelEmphasis")),
        feature_column(_LIVER, Phase.PORTAL_VENOUS, full_name("firstorder", "InterquartileRange")),
        feature_column(_LIVER, Phase.PORTAL_VENOUS, full_name("gldm", "SmallDependenceLowGrayLevelEmphasis")),
        feature_column(_LIVER, Phase.PORTAL_VENOUS, full_name("glszm", "LargeAreaHighGrayLevelEmphasis")),
        feature_column(_LIVER, Phase.DELAYED, full_name("firstorder", "Skewness")),
        feature_column(_TUMOUR, Phase.PORTAL_VENOUS, full_name("firstorder", "Minimum")),
        feature_column(_TUMOUR, Phase.PORTAL_VENOUS, full_name("glszm", "SizeZoneNonUniformityNormalized")),
        feature_column(_TUMOUR, Phase.DELAYED, full_name("glszm", "ZoneVariance")),
    ),
    Endpoint.PFS: (
        feature_column(_LIVER, Phase.ARTERIAL, full_name("glrlm", "GrayLevelNonUniformity")),
        feature_column(_LIVER, Phase.PORTAL_VENOUS, full_name("glszm", "LargeAreaHighGrayLevelEmphasis")),
        feature_column(_TUMOUR, Phase.ARTERIAL, full_name("glszm", "ZoneEntropy")),
        feature_column(_TUMOUR, Phase.ARTERIAL, full_name("glszm", "ZoneVariance")),
        feature_column(_TUMOUR, Phase.PORTAL_VENOUS, full_name("glszm", "SizeZoneNonUniformityNormalized")),
        feature_column(_TUMOUR, Phase.DELAYED, full_name("glcm", "Imc1")),
    ),
}
"""Source: supplementary Table 5; the abbreviation of its last line is a copy error (method, section 7)."""


class RadiomicMode(StrEnum):
    """Which features: chosen on the rows that may be seen, or the paper's list."""

    SELECTED = "selected"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FeatureMatrix:
    """Radiomic features of n cases.

    Attributes:
        names: of the columns, as ``feature_column`` gives them.
        values: (n, columns), NaN where a case lacks the feature.
    """

    names: tuple[str, ...]
    values: FloatArray

    def columns(self, names: Sequence[str]) -> FloatArray:
        """Returns the named columns, (n, names); a feature that no case has is NaN throughout."""
        place = {name: column for column, name in enumerate(self.names)}
        missing = np.full(len(self.values), np.nan)
        found = [self.values[:, place[name]] if name in place else missing for name in names]
        return np.column_stack(found) if found else np.empty((len(self.values), 0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RadiomicFit:
    """A fitted Radiomic model.

    Attributes:
        features: inputs of the Cox model; empty when no feature was left.
        used: rows it was fitted on, of those that might be seen.
        cox: None when no feature was left: everyone's log hazard is 0.
        steps: number of features left after each step, in words and order.
    """

    features: tuple[str, ...]
    used: IntArray
    cox: CoxFit | None
    steps: tuple[tuple[str, int], ...]

    def log_hazards(self, matrix: FeatureMatrix) -> FloatArray:
        """Returns the log hazard of every case, (n,), NaN where one of the features is missing."""
        if self.cox is None:
            return np.where(np.isfinite(matrix.values).any(axis=1), 0.0, np.nan)
        table = matrix.columns(self.features)
        found = np.full(len(table), np.nan)
        complete = np.isfinite(table).all(axis=1)
        if complete.any():
            found[complete] = log_hazard(self.cox, table[complete])
        return found


def fit_radiomic(
    matrix: FeatureMatrix,
    rows: IntArray,
    outcome: Outcome,
    endpoint: Endpoint,
    mode: RadiomicMode = RadiomicMode.SELECTED,
    *,
    seed: int = 0,
) -> RadiomicFit:
    """Returns the Radiomic model of one endpoint, selection included, from these rows alone.

    Args:
        matrix: features of all cases.
        rows: the cases that may be seen.
        outcome: of exactly these rows.
        endpoint: decides the fixed list.
        mode: selection or the paper's list.
        seed: of the lasso's folds.

    Raises:
        CohortRefused: fixed list, and no row has all of its features.
        InvalidInput: rows and outcome do not fit.
        SurvivalRefused: no event among the complete rows.
    """
    if len(rows) != outcome.n:
        raise InvalidInput(f"Radiomic {endpoint}: {len(rows)} rows, {outcome.n} outcomes")
    if mode is RadiomicMode.FIXED:
        return _fit_fixed(matrix, rows, outcome, endpoint)
    seen = matrix.values[rows]
    kept = np.flatnonzero((~np.isfinite(seen)).mean(axis=0) <= MOST_MISSING)
    steps = [("measured", seen.shape[1]), ("known", kept.size)]
    used = np.flatnonzero(np.isfinite(seen[:, kept]).all(axis=1))
    if used.size == 0 or kept.size == 0:
        return RadiomicFit(features=(), used=rows[used[:0]], cox=None, steps=tuple(steps))
    outcome, seen = outcome.take(used), seen[used]
    kept = kept[~_near_constant(seen[:, kept])]
    steps.append(("not near-constant", kept.size))
    kept = kept[_uncorrelated(seen[:, kept], outcome)]
    steps.append((f"|Spearman| <= {MOST_CORRELATED}", kept.size))
    kept = kept[_associated(_standardise(seen[:, kept]), outcome)]
    steps.append((f"univariable p < {UNIVARIABLE_P}", kept.size))
    if kept.size:
        kept = kept[_select_by_lasso(_standardise(seen[:, kept]), outcome, seed)]
    steps.append((f"lasso, {LASSO_FOLDS}-fold", kept.size))
    features = tuple(matrix.names[column] for column in kept)
    cox = fit_cox(seen[:, kept], outcome, features, ridge=LIGHT_RIDGE) if kept.size else None
    return RadiomicFit(features=features, used=rows[used], cox=cox, steps=tuple(steps))


def _fit_fixed(matrix: FeatureMatrix, rows: IntArray, outcome: Outcome, endpoint: Endpoint) -> RadiomicFit:
    features = FIXED_FEATURES[endpoint]
    table = matrix.columns(features)[rows]
    used = np.flatnonzero(np.isfinite(table).all(axis=1))
    if used.size == 0:
        known = np.isfinite(table).any(axis=0)
        absent = [features[column] for column in np.flatnonzero(~known)]
        raise CohortRefused(
            f"Radiomic {endpoint} with the paper's features: no case has all of them; none has"
            f" {', '.join(absent) or 'all at once'}"
        )
    cox = fit_cox(table[used], outcome.take(used), features, ridge=LIGHT_RIDGE)
    steps = (("the paper's list", len(features)),)
    return RadiomicFit(features=features, used=rows[used], cox=cox, steps=steps)


def _near_constant(values: FloatArray) -> npt.NDArray[np.bool_]:
    """Whether one value fills nearly all rows, or the spread is rounding only."""
    spread = values.std(axis=0)
    tiny = spread <= 1e-9 * np.maximum(np.abs(values).max(axis=0), 1e-300)
    most = np.array([np.unique(column, return_counts=True)[1].max() for column in values.T])
    found: npt.NDArray[np.bool_] = tiny | (most >= SAME_SHARE * len(values))
    return found


def _uncorrelated(values: FloatArray, outcome: Outcome) -> IntArray:
    """The columns to keep: of two that rank the patients nearly alike, the one with the better univariable C."""
    if values.shape[1] == 0:
        return np.empty(0, dtype=np.int64)
    strength = np.array([abs(harrell_c(column, outcome) - 0.5) for column in values.T])
    ranks = _standardise(rankdata(values, axis=0))
    correlation = np.abs(ranks.T @ ranks) / len(values)
    kept: list[int] = []
    for column in np.argsort(-strength, kind="stable"):
        if not kept or correlation[column, kept].max() <= MOST_CORRELATED:
            kept.append(int(column))
    return np.sort(np.asarray(kept, dtype=np.int64))


def _associated(scaled: FloatArray, outcome: Outcome) -> npt.NDArray[np.bool_]:
    """Whether each column alone has p < 0.05; the ridge keeps a separating column finite."""
    p_values = [hazard_ratios(fit_cox(column, outcome, ridge=LIGHT_RIDGE))[0].p_value for column in scaled.T]
    return np.asarray(p_values, dtype=np.float64) < UNIVARIABLE_P


def _select_by_lasso(scaled: FloatArray, outcome: Outcome, seed: int) -> npt.NDArray[np.bool_]:
    """Which columns have a coefficient at the penalty with the best cross-validated partial likelihood.

    Source: Verweij & van Houwelingen, Stat Med 1993;12:2305; the largest of the best penalties.
    """
    path, penalties = _lasso_path(scaled, outcome, None)
    fold = deal_folds(outcome.event.astype(np.int64), min(LASSO_FOLDS, outcome.events), seed)
    likelihood, reached = np.zeros(penalties.size), penalties.size
    for number in range(int(fold.max()) + 1):
        seen = np.flatnonzero(fold != number)
        if not outcome.event[seen].any():
            continue
        part = outcome.take(seen)
        coefficients, _ = _lasso_path(scaled[seen], part, penalties)
        reached = min(reached, coefficients.shape[1])  # a path ends where its fit is perfect
        predictors = scaled @ coefficients
        gain = log_likelihoods(predictors, outcome) - log_likelihoods(predictors[seen], part)
        likelihood[: coefficients.shape[1]] += gain
    chosen: npt.NDArray[np.bool_] = path[:, int(np.argmax(likelihood[:reached]))] != 0
    return chosen


def log_likelihoods(predictors: FloatArray, outcome: Outcome) -> FloatArray:
    """Returns Breslow's partial log-likelihood of many models at once, (models,); predictors (n, models)."""
    order = np.argsort(outcome.time, kind="stable")
    time, event, sorted_ = outcome.time[order], outcome.event[order], predictors[order]
    shift = sorted_.max(axis=0)
    at_risk = np.cumsum(np.exp(sorted_ - shift)[::-1], axis=0)[::-1]
    first = np.searchsorted(time, time[event], side="left")
    summed: FloatArray = (sorted_[event] - shift - np.log(at_risk[first])).sum(axis=0)
    return summed


def _lasso_path(
    scaled: FloatArray, outcome: Outcome, penalties: FloatArray | None
) -> tuple[FloatArray, FloatArray]:
    """Coefficients (columns, penalties) of the lasso, and the penalties, from the strongest on."""
    from sksurv.linear_model import CoxnetSurvivalAnalysis
    from sksurv.util import Surv

    model = CoxnetSurvivalAnalysis(
        l1_ratio=1.0,
        alphas=penalties,
        n_alphas=LASSO_PENALTIES,
        alpha_min_ratio=SMALLEST_PENALTY,
        normalize=False,
    )
    with catch_warnings():
        filterwarnings("ignore", message="all coefficients are zero")  # nothing selected is an answer
        fitted = model.fit(scaled, Surv.from_arrays(event=outcome.event, time=outcome.time))
    return np.asarray(fitted.coef_, dtype=np.float64), np.asarray(fitted.alphas_, dtype=np.float64)


def _standardise(values: FloatArray) -> FloatArray:
    spread = values.std(axis=0)
    scaled: FloatArray = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return scaled
