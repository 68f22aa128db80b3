"""Sections on what the scores do: discrimination, risk groups, Cox models, subgroups."""

import numpy as np

from train.evaluate import hazard_tables, tables
from train.evaluate.context import Context, Parts, draw_panels
from train.evaluate.document import Row, Section, Table, Text
from train.evaluate.hazards import (
    CoxTable,
    assess_added_value,
    list_covariates,
    list_drawn_subgroups,
    list_subgroups,
    tabulate_cox,
    tabulate_subgroups,
)
from train.evaluate.landmark import landmark_table
from train.evaluate.published import BENCHMARK_MODEL, ENSEMBLE_MODEL, REFERENCE_MODEL, canonical_model
from train.evaluate.score_table import DISCOVERY, DISCOVERY_PARTS, FIT_COPIES
from train.evaluate.words import NOT_ESTIMABLE, estimate_text, p_text

DISCRIMINATION_TITLE = "Discrimination"
GROUPS_TITLE = "Risk groups"
COX_TITLE = "Univariable and multivariable Cox models"
SUBGROUPS_TITLE = "Subgroups"

_FIGURES = {
    (REFERENCE_MODEL, "OS"): 1,
    (REFERENCE_MODEL, "PFS"): 2,
    (ENSEMBLE_MODEL, "OS"): 3,
    (ENSEMBLE_MODEL, "PFS"): 4,
}
"""Supplementary figure of the subgroups of a model and an endpoint."""


def discrimination(context: Context, reference: str) -> Section:
    """Returns supplementary Table 1, the C-indices, their comparisons, the landmark subset and the value over Benchmark."""
    table = context.table
    whole = [
        name for name in table.own_cohorts if name not in DISCOVERY_PARTS or DISCOVERY not in table.cohorts
    ]
    parts: Parts = []
    for endpoint in table.endpoints:
        chosen = [record for record in context.records if record.cohort in whole]
        parts.append(tables.auc_table(chosen, endpoint.name, reference, context.published, context.note))
    split = [name for name in table.cohorts if name != DISCOVERY] or list(table.cohorts)
    parts.append(tables.c_index_table(context.records, split, table.title, context.published, context.note))
    own = [record for record in context.records if record.cohort not in FIT_COPIES.values()]
    for endpoint in table.endpoints:
        parts.append(tables.comparison_table(own, endpoint.name, reference, context.note))
    parts.append(landmark_table(context.whole, whole, context.settings, context.note))
    parts.append(_added_value(context, reference))
    return Section(title=DISCRIMINATION_TITLE, parts=tuple(parts))


def risk_groups(context: Context) -> Section:
    """Returns low against high risk of every model, and supplementary Fig. 5."""
    table = context.table
    origin = f"the cohort {table.cutoff_cohort}"
    if table.released_cutoffs:
        origin += " or from the fit"
    own = [record for record in context.records if record.cohort not in FIT_COPIES.values()]
    parts: Parts = []
    cohort = table.test_cohort
    for endpoint in table.endpoints:
        parts.append(tables.risk_group_table(own, endpoint.name, origin))
        panels = [context.panel(model, model, endpoint, table.rows(cohort)) for model in table.scores]
        parts += draw_panels(
            panels,
            f"figure_5_models_{endpoint.name.lower()}",
            f"Supplementary Fig. 5 layout: {endpoint.name} by risk group of every model, {cohort}",
            endpoint.name,
        )
    return Section(title=GROUPS_TITLE, parts=tuple(parts))


def cox(context: Context) -> Section:
    """Returns supplementary Tables 6 and 7 and the tests of proportional hazards."""
    table = context.table
    score = context.find(ENSEMBLE_MODEL) or context.reference
    cohorts = list(dict.fromkeys((table.cutoff_cohort, table.test_cohort)))
    parts: Parts = []
    for endpoint in table.endpoints:
        covariates = list_covariates(table, score, endpoint.name)
        if not covariates:
            continue
        found: dict[str, CoxTable] = {
            cohort: tabulate_cox(covariates, endpoint, table.rows(cohort) & endpoint.known)
            for cohort in cohorts
        }
        parts.append(hazard_tables.cox_table(covariates, found, endpoint.name, context.published))
        if any(table.proportionality for table in found.values()):
            parts.append(hazard_tables.proportionality_table(found, endpoint.name))
    return Section(title=COX_TITLE, parts=tuple(parts))


def subgroups(context: Context, reference: str) -> Section:
    """Returns C and hazard ratios in subgroups with interaction P, and supplementary Figs. 1 to 4."""
    table = context.table
    cohort = table.test_cohort
    rows = table.rows(cohort)
    models = list(dict.fromkeys(m for m in (reference, context.find(ENSEMBLE_MODEL)) if m is not None))
    parts: Parts = []
    levels_by_name = list_subgroups(table)
    if not levels_by_name:
        words = "The table holds no clinical variable or group."
        return Section(title=SUBGROUPS_TITLE, parts=(Text(lines=(words,)),))
    for model in models:
        for endpoint in table.endpoints:
            cutoff = context.cutoffs[endpoint.name].get(model)
            if cutoff is None:
                continue
            score = table.scores[model][endpoint.name]
            lines = tabulate_subgroups(table, score, cutoff, endpoint, rows & endpoint.known)
            parts.append(hazard_tables.subgroup_table(lines, model, endpoint.name, cohort))
            panels = [
                context.panel(f"{name}: {level}", model, endpoint, rows & (levels == level))
                for name in list_drawn_subgroups(table)
                for levels in (levels_by_name[name],)
                for level in dict.fromkeys(str(word) for word in np.sort(levels[rows]) if word)
            ]
            parts += draw_panels(
                panels,
                f"subgroups_{tables.slug(model)}_{endpoint.name.lower()}",
                f"Supplementary {_figure_words(model, endpoint.name)} layout: {endpoint.name} by risk group of {model} in subgroups,"
                f" {cohort}",
                endpoint.name,
            )
    return Section(title=SUBGROUPS_TITLE, parts=tuple(parts))


def _figure_words(model: str, endpoint: str) -> str:
    number = _FIGURES.get((canonical_model(model), endpoint))
    return "Figs. 1-4" if number is None else f"Fig. {number}"


def _added_value(context: Context, reference: str) -> Text | Table:
    table = context.table
    benchmark = context.find(BENCHMARK_MODEL)
    if benchmark is None or benchmark == reference:
        return Text(lines=("Added value over Benchmark: the table holds no Benchmark score.",))
    rows = []
    for endpoint in table.endpoints:
        small = table.scores[benchmark][endpoint.name]
        large = table.scores[reference][endpoint.name]
        for cohort in table.own_cohorts:
            used = table.rows(cohort) & endpoint.known & ~np.isnan(small) & ~np.isnan(large)
            if not used.any():
                continue
            test = assess_added_value(small[used], large[used], endpoint.outcome(used))
            record = context.record(cohort, endpoint.name, reference)
            other = next((c for c in record.comparisons if c.model == benchmark), None)
            gain = other.c_index if other else None
            rows.append(
                Row(
                    cells=(
                        cohort,
                        endpoint.name,
                        NOT_ESTIMABLE if test is None else f"{test.statistic:.2f}",
                        p_text(test.p_value if test else None),
                        NOT_ESTIMABLE
                        if gain is None
                        else estimate_text(gain.difference, gain.low, gain.high, 3),
                    )
                )
            )
    return Table(
        name="added_value",
        title=f"Added value of {reference} over {benchmark}",
        header=(
            "Cohort",
            "Endpoint",
            "Likelihood ratio chi-squared, 1 df",
            "P",
            "Difference in C (95% CI)",
        ),
        rows=tuple(rows),
        notes=("Cox model of the Benchmark score with and without the other score, in each cohort.",),
    )
