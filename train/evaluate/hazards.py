"""Hazard ratios of a score and the clinical variables: univariable, multivariable, by subgroup, and their proportionality."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.clinical.variables import DEFINITIONS, Value, Variable
from engines.errors import InvalidInput, SurvivalRefused, VariableSeparates
from engines.survival.concordance import harrell_c
from engines.survival.cox import CoxFit, HazardRatio, LikelihoodRatio, compare_nested, fit_cox, hazard_ratios
from engines.survival.cutoff import is_high
from engines.survival.outcome import BoolArray, FloatArray, Outcome
from engines.survival.proportionality import ProportionalityTest, assess_proportionality
from train.evaluate.score_table import RESPONSE_COLUMN, EndpointColumns, ScoreTable

SEPARATION_RIDGE = 1.0
"""Ridge of a multivariable fit in which a variable separates the events; its rows are marked (OURS)."""

EVENTS_PER_VARIABLE = 10
"""Fewer events per variable are said to be unstable. Source: Peduzzi et al. 1995."""

FEWEST_PATIENTS = 10
FEWEST_EVENTS = 5
"""A group under either is not shown. Source: validity, "What a reviewer will ask"."""


DRAWN_VARIABLES = (
    Variable.LUNG_METASTASIS,
    Variable.LYMPH_NODE_METASTASIS,
    Variable.PVTT,
    Variable.UP_TO_SEVEN,
    Variable.BCLC,
    Variable.MAX_TUMOUR_DIAMETER,
    Variable.SEX,
    Variable.AGE,
    Variable.HBV,
    Variable.AFP,
    Variable.PREVIOUS_LOCAL_THERAPY,
    Variable.ECOG,
)
"""Subgroups with Kaplan-Meier curves; all others are tabled. Source: legends of supplementary Figs. 1 to 4."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Covariate:
    """One column of a Cox table.

    Attributes:
        key: the score's name, or the variable's word.
        title: with the categories, reference first.
        variable: None for a score.
        values: (n,) NaN where missing or of a third category: for the univariable fit.
        joint: (n,) NaN where missing, 0 in a third category: for the multivariable fit.
    """

    key: str
    title: str
    variable: Variable | None
    values: FloatArray
    joint: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class CoxRow:
    """One line of supplementary Tables 6 and 7 for one cohort; None with a reason where not fitted."""

    univariable: HazardRatio | None
    univariable_n: int
    univariable_reason: str
    multivariable: HazardRatio | None
    multivariable_reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CoxTable:
    """Univariable and multivariable Cox of one cohort and endpoint.

    Attributes:
        rows: by covariate title.
        n: patients of the multivariable fit (complete cases).
        events: among them.
        ridge: of the multivariable fit; 0 unless a variable separates the events.
        proportionality: of the multivariable fit; empty with a ridge.
        notes: sentences for the reader.
    """

    rows: Mapping[str, CoxRow]
    n: int
    events: int
    ridge: float
    proportionality: tuple[ProportionalityTest, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubgroupRow:
    """High against low risk in one level of a subgroup.

    Attributes:
        shown: False for fewer than 10 patients or 5 events; then nothing else is known.
        interaction_p: likelihood ratio test of score x level over all levels; the same in every row of a subgroup.
    """

    subgroup: str
    level: str
    n: int
    events: int
    shown: bool
    c_index: float | None
    hazard_ratio: HazardRatio | None
    interaction_p: float | None


def list_covariates(table: ScoreTable, score: str | None, endpoint: str) -> tuple[Covariate, ...]:
    """Returns the score, then the clinical variables in the order of supplementary Tables 6 and 7.

    A category outside the method's population gets its own row against the same reference.

    Args:
        table: the checked table.
        score: a model, or None.
        endpoint: whose score is taken.
    """
    covariates = []
    if score is not None:
        values = table.scores[score][endpoint]
        covariates.append(Covariate(key=score, title=score, variable=None, values=values, joint=values))
    for variable in Variable:
        known = table.clinical.get(variable)
        if known is None:
            continue
        definition = DEFINITIONS[variable]
        present = {value.category for value in known if value is not None}
        for category in (definition.other, *definition.outside):
            if category == definition.other or category in present:
                alone, joint = _category(known, definition.reference, category)
                covariates.append(
                    Covariate(
                        key=variable.value
                        if category == definition.other
                        else f"{variable.value}_{category}",
                        title=f"{definition.title} ({definition.reference} vs {category})",
                        variable=variable,
                        values=alone,
                        joint=joint,
                    )
                )
    return tuple(covariates)


def tabulate_cox(covariates: tuple[Covariate, ...], endpoint: EndpointColumns, rows: BoolArray) -> CoxTable:
    """Returns the univariable and multivariable Cox models of one cohort.

    Univariable fits use the patients of the two categories; the multivariable fit uses complete cases. A column of one
    value is left out of the multivariable fit, which is said.

    Args:
        covariates: from ``list_covariates``.
        endpoint: follow-up.
        rows: (n,) patients of the cohort with known follow-up.
    """
    joint = _fit_joint(covariates, endpoint, rows)
    lines = {}
    for covariate in covariates:
        used = rows & ~np.isnan(covariate.values)
        ratio, reason = _fit_one(covariate, endpoint, used)
        lines[covariate.title] = CoxRow(
            univariable=ratio,
            univariable_n=int(used.sum()),
            univariable_reason=reason,
            multivariable=joint.ratios.get(covariate.title),
            multivariable_reason=joint.reasons.get(covariate.title, ""),
        )
    return CoxTable(
        rows=lines,
        n=joint.n,
        events=joint.events,
        ridge=joint.ridge,
        proportionality=joint.proportionality,
        notes=joint.notes,
    )


def tabulate_subgroups(
    table: ScoreTable, score: FloatArray, cutoff: float, endpoint: EndpointColumns, rows: BoolArray
) -> tuple[SubgroupRow, ...]:
    """Returns C and the hazard ratio of high against low risk in each level of each subgroup, with interaction p.

    Args:
        table: whose clinical variables and groups make the subgroups.
        score: (n,) of one model.
        cutoff: from discovery.
        endpoint: follow-up.
        rows: (n,) patients of the cohort with known follow-up.
    """
    result: list[SubgroupRow] = []
    for name, levels in list_subgroups(table).items():
        used = rows & ~np.isnan(score) & (levels != "")
        words = [str(word) for word in np.unique(levels[used])]
        members = {word: used & (levels == word) for word in words}
        p_value = _interaction(score, endpoint, members)
        for word, mask in members.items():
            outcome = endpoint.outcome(mask)
            shown = outcome.n >= FEWEST_PATIENTS and outcome.events >= FEWEST_EVENTS
            result.append(
                SubgroupRow(
                    subgroup=name,
                    level=word,
                    n=outcome.n,
                    events=outcome.events,
                    shown=shown,
                    c_index=_c_index(score[mask], outcome) if shown else None,
                    hazard_ratio=_high_risk_ratio(score[mask], cutoff, outcome) if shown else None,
                    interaction_p=p_value,
                )
            )
    return tuple(result)


def list_subgroups(table: ScoreTable) -> Mapping[str, npt.NDArray[np.str_]]:
    """Returns the levels, (n,) words, of each clinical variable and group column; "" where missing.

    The response is none of them: it is known only after time zero.
    """
    subgroups = {
        DEFINITIONS[variable].title: np.array(
            ["" if value is None else value.category for value in values], dtype=np.str_
        )
        for variable, values in table.clinical.items()
    }
    return subgroups | {
        name.capitalize(): np.array(words, dtype=np.str_)
        for name, words in table.groups.items()
        if name != RESPONSE_COLUMN
    }


def list_drawn_subgroups(table: ScoreTable) -> tuple[str, ...]:
    """Returns the subgroups of supplementary Figs. 1 to 4 that the table holds, in their order, by title."""
    return tuple(DEFINITIONS[variable].title for variable in DRAWN_VARIABLES if variable in table.clinical)


def assess_added_value(smaller: FloatArray, larger: FloatArray, outcome: Outcome) -> LikelihoodRatio | None:
    """Returns the likelihood ratio test of adding the second score to the first; None where either cannot be fitted."""
    try:
        alone = fit_cox(smaller, outcome, ("first",))
        both = fit_cox(np.column_stack((smaller, larger)), outcome, ("first", "second"))
        return compare_nested(alone, both)
    except (InvalidInput, SurvivalRefused):
        return None


@dataclass(frozen=True, slots=True, eq=False)
class _Joint:
    ratios: Mapping[str, HazardRatio]
    reasons: Mapping[str, str]
    n: int
    events: int
    ridge: float
    proportionality: tuple[ProportionalityTest, ...]
    notes: tuple[str, ...]


def _category(
    values: tuple[Value | None, ...], reference: str, category: str
) -> tuple[FloatArray, FloatArray]:
    """Indicator of a category: against the reference alone (NaN elsewhere), and against all others known."""
    words = ["" if value is None else value.category for value in values]
    against_reference = [1.0 if word == category else 0.0 if word == reference else np.nan for word in words]
    against_all = [1.0 if word == category else np.nan if word == "" else 0.0 for word in words]
    return np.array(against_reference), np.array(against_all)


def _fit_one(
    covariate: Covariate, endpoint: EndpointColumns, used: BoolArray
) -> tuple[HazardRatio | None, str]:
    if not used.any():
        return None, "no patient with this variable"
    try:
        fit = fit_cox(covariate.values[used], endpoint.outcome(used), (covariate.title,))
    except VariableSeparates:
        return None, "hazard ratio infinite: one category has no event"
    except SurvivalRefused:
        return None, "no event"
    except InvalidInput:
        return None, "one category only"
    return hazard_ratios(fit)[0], ""


def _fit_joint(covariates: tuple[Covariate, ...], endpoint: EndpointColumns, rows: BoolArray) -> _Joint:
    columns = np.column_stack([covariate.joint for covariate in covariates])
    used = rows & ~np.isnan(columns).any(axis=1)
    n, reasons = int(used.sum()), {}
    kept = []
    for place, covariate in enumerate(covariates):
        if n and np.ptp(columns[used, place]) > 0:
            kept.append(place)
        else:
            reasons[covariate.title] = "one category only"
    notes = []
    if n < rows.sum():
        notes.append(f"Multivariable: {n} complete cases of {int(rows.sum())} patients.")
    if n == 0 or not kept:
        return _Joint({}, reasons, n, 0, 0.0, (), tuple(notes))
    outcome, x = endpoint.outcome(used), columns[used][:, kept]
    names = tuple(covariates[place].title for place in kept)
    try:
        fit, ridge = fit_cox(x, outcome, names), 0.0
    except VariableSeparates as error:
        notes.append(f"Multivariable: {', '.join(error.variables)} separates the events; a ridge was used.")
        fit, ridge = fit_cox(x, outcome, names, ridge=SEPARATION_RIDGE), SEPARATION_RIDGE
    except SurvivalRefused:
        return _Joint({}, dict.fromkeys(names, "no event"), n, 0, 0.0, (), tuple(notes))
    except InvalidInput as error:
        notes.append(f"Multivariable: {error}; a ridge was used.")
        fit, ridge = fit_cox(x, outcome, names, ridge=SEPARATION_RIDGE), SEPARATION_RIDGE
    per_variable = outcome.events / len(names)
    if per_variable < EVENTS_PER_VARIABLE:
        notes.append(
            f"Multivariable: {per_variable:.1f} events per variable, fewer than {EVENTS_PER_VARIABLE}: unstable."
        )
    return _Joint(
        {ratio.name: ratio for ratio in hazard_ratios(fit)},
        reasons,
        n,
        outcome.events,
        ridge,
        _proportionality(fit, x, outcome),
        tuple(notes),
    )


def _proportionality(fit: CoxFit, x: FloatArray, outcome: Outcome) -> tuple[ProportionalityTest, ...]:
    if fit.ridge:
        return ()
    try:
        return assess_proportionality(fit, x, outcome)
    except SurvivalRefused:
        return ()


def _interaction(
    score: FloatArray, endpoint: EndpointColumns, members: Mapping[str, BoolArray]
) -> float | None:
    """Returns p of score x level, over the levels that are shown."""
    large = [
        mask
        for mask in members.values()
        if mask.sum() >= FEWEST_PATIENTS and endpoint.event[mask].sum() >= FEWEST_EVENTS
    ]
    if len(large) < 2:
        return None
    used = np.logical_or.reduce(large)
    value = score[used]
    levels = np.column_stack([mask[used] for mask in large[1:]]).astype(np.float64)
    centred = value - value.mean()
    main = np.column_stack((centred, levels))
    names = tuple(f"x{column}" for column in range(main.shape[1] + levels.shape[1]))
    try:
        outcome = endpoint.outcome(used)
        smaller = fit_cox(main, outcome, names[: main.shape[1]])
        larger = fit_cox(np.column_stack((main, centred[:, None] * levels)), outcome, names)
        return compare_nested(smaller, larger).p_value
    except (InvalidInput, SurvivalRefused):
        return None


def _c_index(score: FloatArray, outcome: Outcome) -> float | None:
    try:
        return harrell_c(score, outcome)
    except SurvivalRefused:
        return None


def _high_risk_ratio(score: FloatArray, cutoff: float, outcome: Outcome) -> HazardRatio | None:
    try:
        return hazard_ratios(fit_cox(is_high(score, cutoff).astype(np.float64), outcome, ("high risk",)))[0]
    except (InvalidInput, SurvivalRefused):
        return None
