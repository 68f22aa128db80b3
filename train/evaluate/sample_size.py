"""Sample size: events per screened parameter, and the patients a model of so many parameters would have needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engines.errors import InvalidInput, SurvivalRefused
from engines.survival.cox import fit_cox
from engines.survival.outcome import BoolArray
from train.evaluate.document import Row, Table
from train.evaluate.hazards import EVENTS_PER_VARIABLE, SEPARATION_RIDGE, Covariate
from train.evaluate.score_table import EndpointColumns

SHRINKAGE = 0.9
"""Expected uniform shrinkage that the needed sample size aims at. Source: Riley et al., Stat Med 2019;38:1276."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSize:
    """How many patients and events stand behind one model of one endpoint.

    Attributes:
        model: what was fitted.
        parameters: candidates that were screened, not those that were kept.
        patients: rows of the fit.
        events: among them.
        needed: patients for a shrinkage of 0.9 at this Cox-Snell R squared; None where it cannot be computed.
    """

    endpoint: str
    model: str
    parameters: int
    patients: int
    events: int
    needed: int | None


def measure_sample_size(
    covariates: Sequence[Covariate], endpoint: EndpointColumns, rows: BoolArray, model: str
) -> SampleSize | None:
    """Returns the sample size of the multivariable Cox of these covariates; None without covariates or rows.

    Args:
        covariates: every one counts as screened.
        endpoint: follow-up.
        rows: (n,) patients of the fitting cohort with known follow-up; complete cases among them take part.
        model: name in the table.
    """
    if not covariates:
        return None
    columns = np.column_stack([covariate.joint for covariate in covariates])
    used = rows & ~np.isnan(columns).any(axis=1)
    if not used.any():
        return None
    outcome = endpoint.outcome(used)
    varying = columns[used][:, np.ptp(columns[used], axis=0) > 0]
    needed = None
    if varying.shape[1]:
        try:
            fit = fit_cox(varying, outcome, ridge=SEPARATION_RIDGE)
            statistic = 2 * (fit.log_likelihood - fit.null_log_likelihood)
            needed = patients_needed(len(covariates), 1 - float(np.exp(-statistic / outcome.n)))
        except (InvalidInput, SurvivalRefused):
            needed = None
    return SampleSize(
        endpoint=endpoint.name,
        model=model,
        parameters=len(covariates),
        patients=outcome.n,
        events=outcome.events,
        needed=needed,
    )


def patients_needed(parameters: int, cox_snell: float) -> int | None:
    """Returns the patients for which the expected shrinkage is 0.9; None without any explained variation.

    Args:
        parameters: candidates, >= 1.
        cox_snell: Cox-Snell R squared that is expected, between 0 and 1.

    Source: Riley et al., Stat Med 2019;38:1276, criterion (i): n = p / ((S - 1) ln(1 - R2 / S)).
    """
    if not 0 < cox_snell < SHRINKAGE:
        return None
    return int(np.ceil(parameters / ((SHRINKAGE - 1) * np.log(1 - cox_snell / SHRINKAGE))))


def sample_size_table(sizes: Sequence[SampleSize], weights: Mapping[str, int]) -> Table:
    """Returns events per screened parameter of each model.

    Args:
        sizes: of the models.
        weights: learned weights by network; events per weight say nothing, which the note says.
    """
    rows = []
    for size in sizes:
        ratio = size.events / size.parameters
        mark = "" if ratio >= EVENTS_PER_VARIABLE else f" (fewer than {EVENTS_PER_VARIABLE}: unstable)"
        rows.append(
            Row(
                cells=(
                    size.model,
                    size.endpoint,
                    str(size.parameters),
                    f"{size.patients} / {size.events}",
                    f"{ratio:.1f}{mark}",
                    "not estimable" if size.needed is None else f"{size.needed}",
                )
            )
        )
    notes = [
        "Every candidate counts, kept or not. Patients needed: an expected shrinkage of 0.9 at the Cox-Snell R squared"
        " of the fit (Riley et al. 2019, criterion i).",
    ]
    if weights:
        words = ", ".join(f"{name} {count:,}" for name, count in weights.items())
        notes.append(
            f"Learned weights of the networks: {words}. Events per weight say nothing of them: their out-of-fold and"
            " testing scores do."
        )
    return Table(
        name="sample_size",
        title="Sample size: events per screened parameter",
        header=(
            "Model",
            "Endpoint",
            "Screened parameters",
            "Patients / events",
            "Events per parameter",
            "Patients needed",
        ),
        rows=tuple(rows),
        notes=tuple(notes),
    )
