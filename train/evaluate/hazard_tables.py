"""The Cox tables: supplementary Tables 6 and 7, proportional hazards, subgroups."""

from collections.abc import Mapping, Sequence

from train.evaluate.document import Row, RowKind, Table
from train.evaluate.hazards import Covariate, CoxTable, SubgroupRow
from train.evaluate.published import ENSEMBLE_MODEL, Published, canonical_model, published_variable
from train.evaluate.tables import heading, published_note, slug
from train.evaluate.words import NOT_ESTIMABLE, estimate_text, p_text, ratio_text


def cox_table(
    covariates: Sequence[Covariate],
    tables: Mapping[str, CoxTable],
    endpoint: str,
    published: Published,
) -> Table:
    """Returns supplementary Table 6 (OS) or 7 (PFS): univariable and multivariable Cox, cohorts side by side.

    Args:
        covariates: rows in order.
        tables: by cohort, two at most fit a page.
        endpoint: OS, PFS or TTP.
        published: printed under the rows they belong to.
    """
    rows: list[Row] = []
    for covariate in covariates:
        cells: list[str] = []
        for table in tables.values():
            line = table.rows[covariate.title]
            cells += [
                ratio_text(line.univariable) if line.univariable else line.univariable_reason,
                p_text(line.univariable.p_value) if line.univariable else "",
                ratio_text(line.multivariable) if line.multivariable else line.multivariable_reason,
                p_text(line.multivariable.p_value) if line.multivariable else "",
            ]
        rows.append(Row(cells=(covariate.title, *cells)))
        rows += _published_cox(covariate, tuple(tables), endpoint, published)
    number = {"OS": "6", "PFS": "7"}.get(endpoint, "7")
    notes = [
        f"{cohort}: {table.n} patients and {table.events} events in the multivariable model."
        for cohort, table in tables.items()
    ]
    notes += [f"{cohort}: {note}" for cohort, table in tables.items() for note in table.notes]
    return Table(
        name=f"supplementary_table_{number}_cox_{endpoint.lower()}",
        title=f"Supplementary Table {number} layout: univariable and multivariable Cox for {endpoint}",
        header=(
            "Variable",
            *(
                title
                for cohort in tables
                for title in (f"{cohort}: univariable HR (95% CI)", "P", "multivariable HR (95% CI)", "P")
            ),
        ),
        rows=tuple(rows),
        notes=(
            *notes,
            "Efron ties, Wald intervals. The hazard ratio is that of the second category named. BCLC C follows from"
            " PVTT, metastasis or ECOG: these variables are collinear and share their effect.",
            *published_note(rows),
        ),
    )


def proportionality_table(tables: Mapping[str, CoxTable], endpoint: str) -> Table:
    """Returns the test of proportional hazards of the multivariable models."""
    names = dict.fromkeys(test.name for table in tables.values() for test in table.proportionality)
    found = {
        cohort: {test.name: test.p_value for test in table.proportionality}
        for cohort, table in tables.items()
    }
    return Table(
        name=f"proportional_hazards_{endpoint.lower()}",
        title=f"Test of proportional hazards, multivariable model, {endpoint}: P",
        header=("Variable", *tables),
        rows=tuple(
            Row(cells=(name, *(p_text(values.get(name)) for values in found.values()))) for name in names
        ),
        notes=(
            "Score test against 1 - Kaplan-Meier (R survival's cox.zph). Not made where a ridge was needed.",
        ),
    )


def subgroup_table(rows: Sequence[SubgroupRow], model: str, endpoint: str, cohort: str) -> Table:
    """Returns C and hazard ratio of high against low risk in subgroups, with interaction p."""
    lines: list[Row] = []
    last = ""
    for row in rows:
        if row.subgroup != last:
            last = row.subgroup
            p_value = "" if row.interaction_p is None else f", interaction P {p_text(row.interaction_p)}"
            lines.append(heading(f"{row.subgroup}{p_value}"))
        if row.shown:
            c_index = NOT_ESTIMABLE if row.c_index is None else f"{row.c_index:.2f}"
            ratio = NOT_ESTIMABLE if row.hazard_ratio is None else ratio_text(row.hazard_ratio)
        else:
            c_index = ratio = "not shown"
        lines.append(Row(cells=(row.level, str(row.n), str(row.events), c_index, ratio)))
    return Table(
        name=f"subgroups_{slug(model)}_{endpoint.lower()}",
        title=f"Subgroups, {model}, {endpoint}, {cohort}",
        header=("Level", "n", "Events", "Harrell's C", "HR high vs low (95% CI)"),
        rows=tuple(lines),
        notes=(
            "Levels of fewer than 10 patients or 5 events are not shown. Interaction: likelihood ratio test of score x"
            " level, not corrected for the number of subgroups.",
        ),
    )


def _published_cox(
    covariate: Covariate, cohorts: Sequence[str], endpoint: str, published: Published
) -> list[Row]:
    if covariate.variable is None:
        if canonical_model(covariate.key) != ENSEMBLE_MODEL:
            return []
    elif covariate.key != covariate.variable.value:
        return []
    key = published_variable(covariate.variable)
    cells = []
    for cohort in cohorts:
        for analysis in ("univariable", "multivariable"):
            value = published.hazard_ratios.get((endpoint, key, cohort, analysis))
            cells += (
                ["", ""]
                if value is None
                else [estimate_text(value.value, value.low, value.high), value.p_value]
            )
    if not any(cells):
        return []
    return [Row(cells=("published", *cells), kind=RowKind.PUBLISHED)]
