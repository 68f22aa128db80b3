"""Records as JSON: unrounded, missing numbers as null, one record for each cohort, endpoint and model."""

import math
from collections.abc import Sequence

from engines.survival.bootstrap import PairedDifference
from engines.survival.kaplan_meier import Quantile
from train.evaluate.absolute_risk import HorizonRisk, RiskRecord
from train.evaluate.measures import Comparison, ModelRecord, RiskGroups

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def encode_records(records: Sequence[ModelRecord], risks: Sequence[RiskRecord]) -> list[Json]:
    """Returns the list that ``evaluate --json`` prints.

    Members of a record: cohort, endpoint, model, n, events, c_index, ci_low, ci_high, standard_error, uno_c, reason,
    auc (month -> value), auc_detail, cutoff, group_n, group_events, logrank_p, medians (low, high), median_intervals,
    hazard_ratio, comparisons, calibration, brier_integrated. None is "not estimable".
    """
    index = {(risk.cohort, risk.endpoint, risk.model): risk for risk in risks}
    return [_encode(record, index.get((record.cohort, record.endpoint, record.model))) for record in records]


def _encode(record: ModelRecord, risk: RiskRecord | None) -> Json:
    return {
        "cohort": record.cohort,
        "endpoint": record.endpoint,
        "model": record.model,
        "n": record.n,
        "events": record.events,
        "c_index": record.c_index,
        "ci_low": record.ci_low,
        "ci_high": record.ci_high,
        "standard_error": record.standard_error,
        "uno_c": record.uno_c,
        "reason": record.reason,
        "auc": {f"{auc.month:g}": auc.value for auc in record.auc},
        "auc_detail": {
            f"{auc.month:g}": {
                "low": auc.low,
                "high": auc.high,
                "cases": auc.cases,
                "at_risk": auc.at_risk,
                "reason": auc.reason,
            }
            for auc in record.auc
        },
        **_encode_groups(record.groups),
        "comparisons": [_encode_comparison(comparison) for comparison in record.comparisons],
        "calibration": {} if risk is None else {f"{h.month:g}": _encode_horizon(h) for h in risk.horizons},
        "calibration_apparent": None if risk is None else risk.apparent,
        "calibration_released": None if risk is None else risk.released,
        "brier_integrated": None
        if risk is None or risk.integrated is None
        else {
            "start": risk.integrated.start,
            "end": risk.integrated.end,
            "score": risk.integrated.score,
            "reference": risk.integrated.reference,
        },
    }


def _encode_groups(groups: RiskGroups | None) -> dict[str, Json]:
    if groups is None:
        return dict.fromkeys(
            ("cutoff", "group_n", "group_events", "logrank_p", "medians", "median_intervals", "hazard_ratio")
        )
    ratio = groups.hazard_ratio
    return {
        "cutoff": groups.cutoff,
        "group_n": dict(groups.n),
        "group_events": dict(groups.events),
        "logrank_p": groups.logrank_p,
        "medians": {name: median.time for name, median in groups.medians.items()},
        "median_intervals": {name: _encode_bounds(median) for name, median in groups.medians.items()},
        "hazard_ratio": None
        if ratio is None
        else {
            "value": _finite(ratio.hazard_ratio),
            "low": _finite(ratio.low),
            "high": _finite(ratio.high),
            "p": ratio.p_value,
        },
    }


def _encode_bounds(median: Quantile) -> Json:
    return {"low": median.low, "high": median.high}


def _encode_comparison(comparison: Comparison) -> Json:
    return {
        "model": comparison.model,
        "n": comparison.n,
        "c_index": _encode_difference(comparison.c_index),
        "t_test_p": comparison.t_test_p,
        "auc": {f"{month:g}": _encode_difference(value) for month, value in comparison.auc.items()},
    }


def _encode_difference(value: PairedDifference | None) -> Json:
    if value is None:
        return None
    return {
        "difference": value.difference,
        "low": value.low,
        "high": value.high,
        "p": value.p_value,
        "normal_p": _finite(value.normal_p),
    }


def _encode_horizon(horizon: HorizonRisk) -> Json:
    calibration = horizon.calibration
    if calibration is None:
        return {"reason": horizon.reason}
    slope = calibration.slope
    return {
        "observed": calibration.observed,
        "expected": calibration.expected,
        "ratio": calibration.ratio,
        "slope": None if slope is None else {"value": slope.value, "low": slope.low, "high": slope.high},
        "ici": calibration.ici,
        "brier": horizon.brier,
        "brier_reference": horizon.brier_reference,
        "net_benefit": [
            {"threshold": point.threshold, "model": point.model, "everyone": point.everyone}
            for point in horizon.net_benefit
        ],
        "reason": "",
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
