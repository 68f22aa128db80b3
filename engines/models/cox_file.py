"""A fitted Cox model as JSON: coefficients, covariance and a baseline hazard that names no patient's event time."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.errors import ModelRefused
from engines.models.schema import check_schema
from engines.survival.cox import Baseline, CoxFit, Ties

BASELINE_STEP_MONTHS = 0.5
"""The released baseline hazard is given on this grid: every reported horizon lies on it, single event times do not show."""


def coarsen_baseline(cox: CoxFit, step_months: float = BASELINE_STEP_MONTHS) -> CoxFit:
    """Returns the model with its baseline hazard read off at multiples of ``step_months``.

    At these times survival and intervals are those of the full model, to the last bit; between them they are those of the
    step before. The end of follow-up is rounded down to the grid.

    Args:
        cox: fitted in months.
        step_months: > 0.

    Raises:
        ModelRefused: the follow-up ends before the first step, or no event falls on the grid.
    """
    base = cox.baseline
    steps = int(np.floor(base.last_time / step_months))
    grid = step_months * np.arange(1, steps + 1, dtype=np.float64)
    index = np.searchsorted(base.time, grid, side="right")
    kept = index > 0
    if not kept.any():
        raise ModelRefused(
            f"no event within the follow-up of {base.last_time:g} months: no baseline to release"
        )
    row = index[kept] - 1
    return replace(
        cox,
        baseline=Baseline(
            time=np.asarray(grid[kept], dtype=np.float64),
            cumulative_hazard=base.cumulative_hazard[row],
            variance=base.variance[row],
            mean_hazard=base.mean_hazard[row],
            last_time=float(grid[-1]),
        ),
    )


def write_cox(cox: CoxFit) -> str:
    """Returns the model as JSON, floats unrounded, so that ``read_cox`` gives the same numbers bit by bit."""
    base = cox.baseline
    content = {
        "schema": "mmf-cox",
        "schema_version": 1,
        "names": list(cox.names),
        "coefficients": cox.coefficients.tolist(),
        "covariance": cox.covariance.tolist(),
        "means": cox.means.tolist(),
        "ties": cox.ties.value,
        "ridge": cox.ridge,
        "log_likelihood": cox.log_likelihood,
        "null_log_likelihood": cox.null_log_likelihood,
        "effective_degrees": cox.effective_degrees,
        "iterations": cox.iterations,
        "n": cox.n,
        "events": cox.events,
        "baseline": {
            "time": base.time.tolist(),
            "cumulative_hazard": base.cumulative_hazard.tolist(),
            "variance": base.variance.tolist(),
            "mean_hazard": base.mean_hazard.tolist(),
            "last_time": base.last_time,
        },
    }
    return json.dumps(content, allow_nan=False, indent=1) + "\n"


def read_cox(text: str, file: str) -> CoxFit:
    """Returns the model of a JSON text.

    Args:
        text: as ``write_cox`` makes it.
        file: its name, for messages.

    Raises:
        ModelRefused: not JSON, not of the schema, or rows of different lengths.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ModelRefused(f"{file} is not JSON: {error}") from error
    check_schema("model-cox", content, file)
    base = content["baseline"]
    return CoxFit(
        names=tuple(content["names"]),
        coefficients=_array(content["coefficients"], file),
        covariance=_array(content["covariance"], file),
        means=_array(content["means"], file),
        ties=Ties(content["ties"]),
        ridge=float(content["ridge"]),
        log_likelihood=float(content["log_likelihood"]),
        null_log_likelihood=float(content["null_log_likelihood"]),
        effective_degrees=float(content["effective_degrees"]),
        iterations=int(content["iterations"]),
        n=int(content["n"]),
        events=int(content["events"]),
        baseline=Baseline(
            time=_array(base["time"], file),
            cumulative_hazard=_array(base["cumulative_hazard"], file),
            variance=_array(base["variance"], file),
            mean_hazard=_array(base["mean_hazard"], file),
            last_time=float(base["last_time"]),
        ),
    )


def _array(rows: list[Any], file: str) -> npt.NDArray[np.float64]:
    try:
        return np.asarray(rows, dtype=np.float64)
    except ValueError as error:
        raise ModelRefused(f"{file}: rows of different lengths") from error
