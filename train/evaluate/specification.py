"""The whole model in numbers: every coefficient with its interval, and the baseline hazard at the reported months."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engines.endpoint import HORIZONS_MONTHS, Endpoint
from engines.models.model import Model
from engines.survival.cox import CoxFit, hazard_ratios
from train.evaluate.absolute_risk import ScoreFit
from train.evaluate.document import Row, Table
from train.evaluate.tables import heading
from train.evaluate.words import NOT_ESTIMABLE, p_text, ratio_text


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Specification:
    """One Cox model to be printed: title, endpoint and the fit."""

    title: str
    endpoint: str
    cox: CoxFit


def list_released(model: Model) -> tuple[Specification, ...]:
    """Returns the Cox models of a model folder, those of a patient's report first."""
    found = [
        Specification(title=f"{name.value}, released", endpoint=endpoint.value, cox=risk.cox)
        for (endpoint, name), risk in model.risk_models.items()
    ]
    found += [
        Specification(title=f"{name.value}, released", endpoint=endpoint.value, cox=comparator.cox)
        for (endpoint, name), comparator in model.comparators.items()
    ]
    return tuple(found)


def list_score_fits(fits: Sequence[ScoreFit]) -> tuple[Specification, ...]:
    """Returns the Cox models of single scores that the absolute risks of this report come from."""
    return tuple(
        Specification(title=f"{fit.model}, score alone", endpoint=fit.endpoint, cox=fit.cox) for fit in fits
    )


def coefficient_table(specifications: Sequence[Specification]) -> Table:
    """Returns every coefficient: mean of the input, coefficient, standard error, hazard ratio, P."""
    rows: list[Row] = []
    for spec in specifications:
        cox = spec.cox
        ridge = f", ridge {cox.ridge:g}" if cox.ridge else ""
        rows.append(
            heading(
                f"{spec.title}, {spec.endpoint}: {cox.n} patients, {cox.events} events, {cox.ties.value}{ridge}"
            )
        )
        errors = np.sqrt(np.diag(cox.covariance))
        for place, ratio in enumerate(hazard_ratios(cox)):
            rows.append(
                Row(
                    cells=(
                        ratio.name,
                        f"{cox.means[place]:.6g}",
                        f"{cox.coefficients[place]:+.6g}",
                        f"{errors[place]:.4g}",
                        ratio_text(ratio),
                        p_text(ratio.p_value),
                    )
                )
            )
    return Table(
        name="coefficients",
        title="All coefficients",
        header=("Input", "Mean", "Coefficient", "Standard error", "HR (95% CI)", "P"),
        rows=tuple(rows),
        notes=(
            "Log hazard = sum of coefficient x (value - mean). Categories count 1 for the second category named in the"
            " Cox tables, 0 for the reference. Covariances and the whole baseline are files of the model folder.",
        ),
    )


def baseline_table(specifications: Sequence[Specification]) -> Table:
    """Returns the cumulative baseline hazard and the survival at the means at the reported months."""
    rows = []
    for spec in specifications:
        for month in _months(spec.endpoint):
            base = spec.cox.baseline
            if month > base.last_time:
                cells = (NOT_ESTIMABLE, NOT_ESTIMABLE)
            else:
                place = int(np.searchsorted(base.time, month, side="right"))
                hazard = 0.0 if place == 0 else float(base.cumulative_hazard[place - 1])
                cells = (f"{hazard:.6g}", f"{np.exp(-hazard):.4f}")
            rows.append(Row(cells=(spec.title, spec.endpoint, f"{month:g}", *cells)))
    return Table(
        name="baseline_hazard",
        title="Baseline: cumulative hazard and survival of a patient at the means",
        header=("Model", "Endpoint", "Month", "Cumulative hazard", "Survival"),
        rows=tuple(rows),
        notes=("Risk by month t = 1 - exp(-cumulative hazard x exp(log hazard)).",),
    )


def _months(endpoint: str) -> tuple[float, ...]:
    return HORIZONS_MONTHS[Endpoint.OS if endpoint == Endpoint.OS.value else Endpoint.PFS]
