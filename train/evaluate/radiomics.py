"""Radiomic features in the report: the selected ones (supplementary Table 5), and the networks against them (Fig. 6)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from engines.endpoint import Endpoint
from engines.errors import InvalidInput, SurvivalRefused
from engines.models.comparator import Comparator
from engines.phase import Phase
from engines.survival.cox import fit_cox, hazard_ratios
from engines.survival.outcome import BoolArray, FloatArray
from train.evaluate.document import Row, RowKind, Table
from train.evaluate.published import SOURCE
from train.evaluate.score_table import ScoreTable
from train.evaluate.tables import heading
from train.evaluate.words import estimate_text, p_text, ratio_text

MOST_FEATURES = 28
"""Rows of the heat map (OURS)."""

FEWEST_CASES = 10
"""Cases with a feature below which its correlation is not shown (OURS)."""

PUBLISHED_FEATURES: Mapping[Endpoint, tuple[str, ...]] = {
    Endpoint.OS: (
        "GLRLM GrayLevelNonUniformity (liver, A)",
        "GLSZM LargeAreaLowGrayLevelEmphasis (liver, A)",
        "FirstOrder InterquartileRange (liver, V)",
        "GLDM SmallDependenceLowGrayLevelEmphasis (liver, V)",
        "GLSZM LargeAreaHighGrayLevelEmphasis (liver, V)",
        "FirstOrder Skewness (liver, D)",
        "FirstOrder Minimum (tumour, V)",
        "GLSZM SizeZoneNonUniformityNormalized (tumour, V)",
        "GLSZM ZoneVariance (tumour, D)",
    ),
    Endpoint.PFS: (
        "GLRLM GrayLevelNonUniformity (liver, A)",
        "GLSZM LargeAreaHighGrayLevelEmphasis (liver, V)",
        "GLSZM ZoneEntropy (tumour, A)",
        "GLSZM ZoneVariance (tumour, A)",
        "GLSZM SizeZoneNonUniformityNormalized (tumour, V)",
        "GLCM Imc1 (tumour, D)",
    ),
}
"""Source: supplementary Table 5; the abbreviation printed with the last feature is a copy error."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FeatureColumns:
    """Radiomic features of the rows of a score table.

    Attributes:
        names: of the columns, as ``feature_column`` writes them.
        values: (n, p), NaN where missing.
    """

    names: tuple[str, ...]
    values: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Correlations:
    """Spearman correlations of signatures (columns) with features (rows).

    Attributes:
        rho: (features, signatures), NaN where too few cases have both.
        p_values: adjusted for all that was tested, by Benjamini and Hochberg.
        n: cases with the first signature and any feature.
        tested: number of pairs that were tested.
    """

    features: tuple[str, ...]
    signatures: tuple[str, ...]
    rho: FloatArray
    p_values: FloatArray
    n: int
    tested: int


def gather_features(
    table: ScoreTable, by_patient: Mapping[str, Mapping[str, float]]
) -> FeatureColumns | None:
    """Returns the features of the table's patients; None when none has any."""
    names = sorted({name for patient in table.patient_ids for name in by_patient.get(patient, ())})
    if not names:
        return None
    empty: Mapping[str, float] = {}
    values = np.array(
        [
            [features.get(name, np.nan) for name in names]
            for features in (by_patient.get(patient, empty) for patient in table.patient_ids)
        ]
    )
    return FeatureColumns(names=tuple(names), values=values)


def selected_table(
    comparators: Mapping[Endpoint, Comparator],
    frequency: Mapping[tuple[str, str], int],
    folds: int,
    deviation: Mapping[str, float],
) -> Table:
    """Returns supplementary Table 5: the features of the Radiomic model with hazard ratios, and those published.

    Args:
        comparators: Radiomic by endpoint.
        frequency: (endpoint, feature) -> folds that selected it too.
        folds: number of folds; 0 = not known.
        deviation: standard deviation of each feature in the discovery cohort; hazard ratios are per this.
    """
    rows: list[Row] = []
    for endpoint, comparator in comparators.items():
        cox = comparator.cox
        rows.append(
            heading(f"{endpoint.value}: {len(cox.names)} features, {cox.n} patients, {cox.events} events")
        )
        errors = np.sqrt(np.diag(cox.covariance))
        for place, name in enumerate(cox.names):
            unit = deviation.get(name, 1.0)
            middle, half = cox.coefficients[place] * unit, 1.959964 * errors[place] * unit
            ratio, low, high = (float(np.exp(middle + sign * half)) for sign in (0, -1, 1))
            p_value = 2 * float(stats.norm.sf(abs(cox.coefficients[place] / errors[place])))
            rows.append(
                Row(
                    cells=(
                        name,
                        abbreviate(name),
                        f"{cox.coefficients[place]:.4g}",
                        estimate_text(ratio, low, high) + ("" if name in deviation else " per unit"),
                        p_text(p_value),
                        f"{frequency.get((endpoint.value, name), 0)} of {folds}" if folds else "not known",
                    )
                )
            )
        rows += [
            Row(cells=(f"published: {name}", "", "", "", "", ""), kind=RowKind.PUBLISHED)
            for name in PUBLISHED_FEATURES[endpoint]
        ]
    return Table(
        name="supplementary_table_5_radiomic_features",
        title="Supplementary Table 5 layout: features of the Radiomic model",
        header=(
            "Feature",
            "Abbreviation",
            "Coefficient per unit",
            "HR per SD (95% CI)",
            "P",
            "Selected in folds",
        ),
        rows=tuple(rows),
        notes=(
            "Intervals and P ignore that the features were selected on the same patients: they are too sure. How often the"
            " folds selected a feature says more.",
            SOURCE,
        ),
    )


def correlate(
    table: ScoreTable, columns: FeatureColumns, signatures: Sequence[str], endpoint: str, rows: BoolArray
) -> Correlations | None:
    """Returns Spearman's rank correlation of network signatures with features; None when too few cases have both.

    Args:
        table: whose scores are the signatures.
        columns: features of the same rows.
        signatures: score columns.
        endpoint: whose log-risks.
        rows: (n,) patients that take part.
    """
    scores = np.column_stack([table.scores[name][endpoint] for name in signatures])
    used = rows & ~np.isnan(scores).any(axis=1) & ~np.isnan(columns.values).all(axis=1)
    if used.sum() < FEWEST_CASES:
        return None
    rho = np.full((len(columns.names), len(signatures)), np.nan)
    p_values = np.full_like(rho, np.nan)
    for place in range(len(columns.names)):
        feature = columns.values[used, place]
        known = np.isfinite(feature)
        if known.sum() < FEWEST_CASES or np.ptp(feature[known]) == 0:
            continue
        for column in range(len(signatures)):
            score = scores[used, column][known]
            if np.ptp(score) > 0:
                found = stats.spearmanr(feature[known], score)
                rho[place, column], p_values[place, column] = found.statistic, found.pvalue
    tested = np.isfinite(p_values)
    if not tested.any():
        return None
    p_values[tested] = stats.false_discovery_control(p_values[tested])
    strength = np.where(np.isnan(rho), 0.0, np.abs(rho)).max(axis=1)
    order = np.argsort(-strength, kind="stable")[:MOST_FEATURES]
    order = order[strength[order] > 0]
    return Correlations(
        features=tuple(columns.names[place] for place in order),
        signatures=tuple(signatures),
        rho=rho[order],
        p_values=p_values[order],
        n=int(used.sum()),
        tested=int(tested.sum()),
    )


def correlation_table(found: Correlations, endpoint: str, cohort: str) -> Table:
    """Returns the numbers under the heat map."""
    return Table(
        name=f"supplementary_figure_6_correlations_{endpoint.lower()}",
        title=f"Supplementary Fig. 6 in numbers: Spearman correlation of signatures with features, {endpoint}",
        header=("Feature", *found.signatures),
        rows=tuple(
            Row(
                cells=(
                    name,
                    *(
                        "not estimable" if np.isnan(value) else f"{value:+.2f}{' *' if p < 0.05 else ''}"
                        for value, p in zip(found.rho[place], found.p_values[place], strict=True)
                    ),
                )
            )
            for place, name in enumerate(found.features)
        ),
        notes=(
            f"{found.n} patients of {cohort}; the {len(found.features)} features of the strongest correlation out of"
            f" {found.tested} pairs tested. * P < .05 after Benjamini and Hochberg over all pairs tested.",
        ),
    )


def score_features(
    table: ScoreTable,
    columns: FeatureColumns,
    names: Sequence[str],
    endpoint_name: str,
    rows: BoolArray,
    cohort: str,
) -> Table | None:
    """Returns univariable hazard ratios per SD of some features in one cohort; None when none can be fitted."""
    endpoint = next(item for item in table.endpoints if item.name == endpoint_name)
    lines = []
    for name in names:
        if name not in columns.names:
            continue
        values = columns.values[:, columns.names.index(name)]
        used = rows & endpoint.known & np.isfinite(values)
        if used.sum() < FEWEST_CASES or np.std(values[used]) == 0:
            continue
        scaled = (values[used] - values[used].mean()) / values[used].std(ddof=1)
        try:
            ratio = hazard_ratios(fit_cox(scaled, endpoint.outcome(used), (name,)))[0]
        except (InvalidInput, SurvivalRefused):
            continue
        lines.append(Row(cells=(name, str(int(used.sum())), ratio_text(ratio), p_text(ratio.p_value))))
    if not lines:
        return None
    return Table(
        name=f"radiomic_univariable_{endpoint_name.lower()}",
        title=f"Selected radiomic features one by one, {endpoint_name}, {cohort}",
        header=("Feature", "n", "HR per SD (95% CI)", "P"),
        rows=tuple(lines),
    )


def abbreviate(name: str) -> str:
    """Returns the paper's kind of abbreviation: ``liver ARTERIAL original_glrlm_GrayLevelNonUniformity`` is L_A_glrlmGLNU.

    Source: supplementary Table 5.
    """
    words = name.split(" ")
    if len(words) < 2 or "_" not in words[-1]:
        return ""
    phases = [Phase(word).letter for word in words[1:-1] if word in set(Phase)]
    _, kind, feature = [*words[-1].split("_", 2), "", ""][:3]
    capitals = "".join(letter for letter in feature if letter.isupper() or letter.isdigit())
    return "_".join((words[0][0].upper(), *phases, f"{kind}{capitals}"))


def count_selections(rows: Sequence[Mapping[str, str]], whole: str) -> tuple[dict[tuple[str, str], int], int]:
    """Returns how many folds selected each (endpoint, feature), and the number of folds, from the fit's radiomic.csv."""
    folds = {row["unit"] for row in rows if row["unit"] != whole}
    counts = Counter((row["endpoint"], row["feature"]) for row in rows if row["unit"] != whole)
    return dict(counts), len(folds)
