"""Collinearity of the clinical variables: variance inflation, and the variable that each one goes with most."""

from collections.abc import Sequence

import numpy as np

from engines.survival.outcome import BoolArray, FloatArray
from train.evaluate.document import Row, Table
from train.evaluate.hazards import Covariate

HIGH_INFLATION = 5.0
"""A variance inflation above it is marked. Source: James et al., Introduction to Statistical Learning 2021, 3.3.3."""


def inflate_variances(columns: FloatArray) -> FloatArray:
    """Returns (p,) the variance inflation factor of each column given the others; infinite where it is their sum.

    Args:
        columns: (n, p) without missing values, none of them constant.
    """
    correlation = np.corrcoef(columns, rowvar=False).reshape(columns.shape[1], columns.shape[1])
    factors = np.empty(columns.shape[1])
    for place in range(columns.shape[1]):
        others = np.delete(np.arange(columns.shape[1]), place)
        cross = correlation[place, others]
        explained = float(cross @ np.linalg.pinv(correlation[np.ix_(others, others)]) @ cross)
        factors[place] = np.inf if explained >= 1 - _EXACT else 1 / (1 - explained)
    return factors


def collinearity_table(covariates: Sequence[Covariate], rows: BoolArray, cohort: str) -> Table | None:
    """Returns variance inflation and the strongest partner of each clinical variable; None with fewer than two.

    Args:
        covariates: clinical variables; scores among them take no part.
        rows: (n,) patients of the cohort; complete cases among them take part.
        cohort: its name.
    """
    clinical = [covariate for covariate in covariates if covariate.variable is not None]
    if len(clinical) < 2:
        return None
    columns = np.column_stack([covariate.joint for covariate in clinical])
    columns = columns[rows & ~np.isnan(columns).any(axis=1)]
    if columns.shape[0] < 3:
        return None
    kept = [place for place in range(columns.shape[1]) if np.ptp(columns[:, place]) > 0]
    constant = [clinical[place].title for place in range(columns.shape[1]) if place not in kept]
    if len(kept) < 2:
        return None
    factors = inflate_variances(columns[:, kept])
    correlation = np.corrcoef(columns[:, kept], rowvar=False) - np.eye(len(kept))
    lines = []
    for place, factor in enumerate(factors):
        partner = int(np.abs(correlation[place]).argmax())
        mark = f" (above {HIGH_INFLATION:g})" if factor > HIGH_INFLATION else ""
        lines.append(
            Row(
                cells=(
                    clinical[kept[place]].title,
                    f"{factor:.2f}{mark}",
                    f"{correlation[place, partner]:+.2f}",
                    clinical[kept[partner]].title,
                )
            )
        )
    notes = (
        f"{columns.shape[0]} complete cases of {cohort}. BCLC C follows from PVTT, metastasis or ECOG, and the up-to-seven"
        " score holds the diameter: their effects cannot be told apart.",
        *((f"The same in everyone: {', '.join(constant)}.",) if constant else ()),
    )
    return Table(
        name="collinearity",
        title=f"Collinearity of the clinical variables, {cohort}",
        header=("Variable", "Variance inflation", "Strongest correlation", "with"),
        rows=tuple(lines),
        notes=notes,
    )


_EXACT = 1e-9
