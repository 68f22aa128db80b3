"""The tables of the report, from records: supplementary Tables 1, 2, 6 and 7, comparisons, risk groups, absolute risk."""

from collections.abc import Mapping, Sequence

from train.evaluate.absolute_risk import RiskRecord
from train.evaluate.document import Row, RowKind, Table
from train.evaluate.hazards import Covariate, CoxTable, SubgroupRow
from train.evaluate.measures import AUC_MONTHS, HIGH, LOW, ModelRecord
from train.evaluate.published import (
    SOURCE,
    Published,
    PublishedValue,
    canonical_model,
    published_variable,
)
from train.evaluate.words import NOT_ESTIMABLE, estimate_text, median_text, p_text, percent_text, ratio_text

BOOTSTRAP_NOTE = "Intervals: percentile bootstrap, {repeats} resamples of patients, seed {seed}."

_P_MARKS = ((0.001, " †"), (0.05, " *"))
_ENSEMBLE_KEYS = ("Ensemble-DL",)


def auc_table(
    records: Sequence[ModelRecord], endpoint: str, reference: str, published: Published, note: str
) -> Table:
    """Returns supplementary Table 1 for one endpoint: AUC by month, cohort and model, marked against the reference.

    Args:
        records: of any cohorts and endpoints.
        endpoint: which rows are taken.
        reference: the model that the others are tested against.
        published: printed under the rows they belong to.
        note: on intervals.
    """
    months = AUC_MONTHS[endpoint]
    rows: list[Row] = []
    reasons: list[str] = []
    chosen = [record for record in records if record.endpoint == endpoint]
    for cohort in dict.fromkeys(record.cohort for record in chosen):
        members = [record for record in chosen if record.cohort == cohort]
        rows.append(_heading(f"{cohort} (n = {max(record.n for record in members)})"))
        for record in members:
            cells = []
            for auc in record.auc:
                p_value = _auc_p(record, reference, auc.month)
                cells.append(estimate_text(auc.value, auc.low, auc.high) + _mark(p_value))
                if auc.value is None:
                    reasons.append(f"{cohort}, {auc.month:g} months: {auc.reason}.")
            rows.append(Row(cells=(record.model, *cells)))
            row = _published_row(
                record.model,
                [
                    published.auc.get((cohort, endpoint, canonical_model(record.model), month))
                    for month in months
                ],
            )
            if row is not None:
                rows.append(row)
    return Table(
        name=f"supplementary_table_1_auc_{endpoint.lower()}",
        title=f"Supplementary Table 1 layout: time-dependent AUC for {endpoint}",
        header=("Cohort and model", *(f"{month:g}-month AUC (95% CI)" for month in months)),
        rows=tuple(rows),
        notes=(
            f"* P < .05, † P < .001 against {reference}, two-sided: difference in AUC over its standard deviation in"
            " the paired bootstrap.",
            "Cumulative cases, dynamic controls, inverse probability of censoring weights; at least 10 patients"
            " observed beyond the month, else not estimable.",
            note,
            *dict.fromkeys(reasons),
            *_published_note(rows),
        ),
    )


def c_index_table(
    records: Sequence[ModelRecord], cohorts: Sequence[str], published: Published, note: str
) -> Table:
    """Returns supplementary Table 2 for the models of this table: Harrell's C, endpoints and cohorts as columns."""
    endpoints = tuple(dict.fromkeys(record.endpoint for record in records))
    columns = [(endpoint, cohort) for endpoint in endpoints for cohort in cohorts]
    index = {(record.model, record.endpoint, record.cohort): record for record in records}
    rows: list[Row] = []
    for model in dict.fromkeys(record.model for record in records):
        found = [index[model, endpoint, cohort] for endpoint, cohort in columns]
        cells = [estimate_text(record.c_index, record.ci_low, record.ci_high) for record in found]
        rows.append(Row(cells=(model, *cells)))
        row = _published_row(
            model,
            [
                published.c_index.get((cohort, endpoint, canonical_model(model)))
                for endpoint, cohort in columns
            ],
        )
        if row is not None:
            rows.append(row)
    return Table(
        name="supplementary_table_2_c_index",
        title="Supplementary Tables 2 and 4 layout: Harrell's C-index (95% CI)",
        header=("Model", *(f"{endpoint} {cohort}" for endpoint, cohort in columns)),
        rows=tuple(rows),
        notes=(
            note,
            "Validation rows were selected on (networks, checkpoints, cut-offs) and support no claim.",
            *_published_note(rows),
        ),
    )


def comparison_table(records: Sequence[ModelRecord], endpoint: str, reference: str, note: str) -> Table:
    """Returns each model's C beside Uno's C, and the difference from the reference with both tests."""
    rows = []
    chosen = [record for record in records if record.endpoint == endpoint]
    for cohort in dict.fromkeys(record.cohort for record in chosen):
        rows.append(_heading(cohort))
        for record in (record for record in chosen if record.cohort == cohort):
            other = next((c for c in record.comparisons if c.model == reference), None)
            difference = other.c_index if other else None
            rows.append(
                Row(
                    cells=(
                        record.model,
                        f"{record.n} / {record.events}",
                        estimate_text(record.c_index, record.ci_low, record.ci_high, 3),
                        NOT_ESTIMABLE if record.uno_c is None else f"{record.uno_c:.3f}",
                        "reference"
                        if record.model == reference
                        else (
                            estimate_text(difference.difference, difference.low, difference.high, 3)
                            if difference
                            else NOT_ESTIMABLE
                        ),
                        p_text(difference.p_value if difference else None),
                        p_text(other.t_test_p if other else None),
                    )
                )
            )
    return Table(
        name=f"comparisons_{endpoint.lower()}",
        title=f"C-indices and their difference from {reference}, {endpoint}",
        header=(
            "Model",
            "n / events",
            "Harrell's C (95% CI)",
            "Uno's C",
            f"C less C of {reference} (95% CI)",
            "P, paired bootstrap",
            "P, t test",
        ),
        rows=tuple(rows),
        notes=(
            note,
            "t test: survcomp's cindex.comp with Noether's standard errors and Spearman's correlation, two-sided."
            " Uno's C up to the last month of the AUC table within follow-up.",
            "At n = 209 a difference of two C-indices has a standard deviation of about .014-.019: one test set of"
            " that size proves little.",
        ),
    )


def risk_group_table(records: Sequence[ModelRecord], endpoint: str, origin: str) -> Table:
    """Returns low against high risk of each model and cohort: numbers, medians, hazard ratio, log-rank."""
    rows = []
    chosen = [record for record in records if record.endpoint == endpoint]
    for cohort in dict.fromkeys(record.cohort for record in chosen):
        rows.append(_heading(cohort))
        for record in (record for record in chosen if record.cohort == cohort):
            groups = record.groups
            if groups is None:
                rows.append(Row(cells=(record.model, NOT_ESTIMABLE, "", "", "", "", "")))
                continue
            rows.append(
                Row(
                    cells=(
                        record.model,
                        f"{groups.cutoff:.4g}",
                        *(f"{groups.n[name]} / {groups.events[name]}" for name in (LOW, HIGH)),
                        " vs ".join(median_text(groups.medians[name]) for name in (LOW, HIGH)),
                        NOT_ESTIMABLE if groups.hazard_ratio is None else ratio_text(groups.hazard_ratio),
                        NOT_ESTIMABLE if groups.logrank_p is None else p_text(groups.logrank_p),
                    )
                )
            )
    return Table(
        name=f"risk_groups_{endpoint.lower()}",
        title=f"Low and high risk, {endpoint}",
        header=(
            "Model",
            "Cut-off",
            "Low: n / events",
            "High: n / events",
            "Median, months (95% CI), low vs high",
            "HR high vs low (95% CI)",
            "Log-rank P",
        ),
        rows=tuple(rows),
        notes=(
            f"High is strictly above the cut-off, which comes from {origin} and is applied unchanged. P two-sided.",
        ),
    )


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
            *_published_note(rows),
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


def absolute_risk_table(records: Sequence[RiskRecord], endpoint: str) -> Table:
    """Returns calibration and Brier scores of each model's absolute risk."""
    rows = []
    chosen = [record for record in records if record.endpoint == endpoint]
    reasons: list[str] = []
    for cohort in dict.fromkeys(record.cohort for record in chosen):
        members = [record for record in chosen if record.cohort == cohort]
        rows.append(
            _heading(cohort + (" (apparent: the risk was fitted here)" if members[0].apparent else ""))
        )
        for record in members:
            for horizon in record.horizons:
                if horizon.calibration is None:
                    reasons.append(f"{cohort}, {horizon.month:g} months: {horizon.reason}.")
                    rows.append(Row(cells=(record.model, f"{horizon.month:g}", *(NOT_ESTIMABLE,) * 5)))
                    continue
                calibration = horizon.calibration
                slope = calibration.slope
                rows.append(
                    Row(
                        cells=(
                            record.model,
                            f"{horizon.month:g}",
                            f"{calibration.observed:.3f} / {calibration.expected:.3f}",
                            estimate_text(calibration.ratio, calibration.ratio_low, calibration.ratio_high),
                            NOT_ESTIMABLE
                            if slope is None
                            else estimate_text(slope.value, slope.low, slope.high),
                            NOT_ESTIMABLE if calibration.ici is None else f"{calibration.ici:.3f}",
                            f"{horizon.brier:.3f} / {horizon.brier_reference:.3f}",
                        )
                    )
                )
            if record.integrated is not None:
                integrated = record.integrated
                rows.append(
                    Row(
                        cells=(
                            record.model,
                            f"{integrated.start:g}-{integrated.end:g}",
                            "",
                            "",
                            "",
                            "",
                            f"{integrated.score:.3f} / {integrated.reference:.3f}"
                            f" ({integrated.explained:.0%} explained)",
                        )
                    )
                )
    return Table(
        name=f"calibration_{endpoint.lower()}",
        title=f"Calibration and Brier score of the absolute risk, {endpoint}",
        header=(
            "Model",
            "Month",
            "Risk observed / expected",
            "O/E (95% CI)",
            "Slope (95% CI)",
            "ICI",
            "Brier: model / Kaplan-Meier",
        ),
        rows=tuple(rows),
        notes=(
            "A score has no probability of its own: the risk is that of a Cox model of the score alone, fitted on the"
            " cohort of the cut-offs. ICI: mean absolute difference from a smoothed calibration curve. Rows over a span"
            " of months give the integrated Brier score.",
            *dict.fromkeys(reasons),
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
            lines.append(_heading(f"{row.subgroup}{p_value}"))
        if row.shown:
            c_index = NOT_ESTIMABLE if row.c_index is None else f"{row.c_index:.2f}"
            ratio = NOT_ESTIMABLE if row.hazard_ratio is None else ratio_text(row.hazard_ratio)
        else:
            c_index = ratio = "not shown"
        lines.append(Row(cells=(row.level, str(row.n), str(row.events), c_index, ratio)))
    return Table(
        name=f"subgroups_{_slug(model)}_{endpoint.lower()}",
        title=f"Subgroups, {model}, {endpoint}, {cohort}",
        header=("Level", "n", "Events", "Harrell's C", "HR high vs low (95% CI)"),
        rows=tuple(lines),
        notes=(
            "Levels of fewer than 10 patients or 5 events are not shown. Interaction: likelihood ratio test of score x"
            " level, not corrected for the number of subgroups.",
        ),
    )


def count_table(
    title: str, name: str, counts: Mapping[str, Mapping[str, Mapping[str, int]]], notes: tuple[str, ...] = ()
) -> Table:
    """Returns numbers and shares: variable -> level -> cohort -> patients."""
    cohorts = list(dict.fromkeys(c for levels in counts.values() for by in levels.values() for c in by))
    rows = []
    for variable, levels in counts.items():
        rows.append(_heading(variable))
        whole = {cohort: sum(by.get(cohort, 0) for by in levels.values()) for cohort in cohorts}
        for level, by in levels.items():
            rows.append(
                Row(cells=(level, *(percent_text(by.get(cohort, 0), whole[cohort]) for cohort in cohorts)))
            )
    return Table(name=name, title=title, header=("Level", *cohorts), rows=tuple(rows), notes=notes)


def _heading(words: str) -> Row:
    return Row(cells=(words,), kind=RowKind.HEADING)


def _mark(p_value: float | None) -> str:
    if p_value is None:
        return ""
    return next((mark for limit, mark in _P_MARKS if p_value < limit), "")


def _auc_p(record: ModelRecord, reference: str, month: float) -> float | None:
    comparison = next((c for c in record.comparisons if c.model == reference), None)
    difference = comparison.auc.get(month) if comparison else None
    return difference.normal_p if difference else None


def _published_row(model: str, values: Sequence[PublishedValue | None]) -> Row | None:
    if not any(values):
        return None
    cells = []
    for value in values:
        if value is None:
            cells.append("")
            continue
        mark = {"<0.001": " †", "<0.05": " *"}.get(value.p_value, "")
        cells.append(estimate_text(value.value, value.low, value.high) + mark)
    return Row(cells=(f"{canonical_model(model)}, published", *cells), kind=RowKind.PUBLISHED)


def _published_cox(
    covariate: Covariate, cohorts: Sequence[str], endpoint: str, published: Published
) -> list[Row]:
    if covariate.variable is None:
        if canonical_model(covariate.key) not in _ENSEMBLE_KEYS:
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


def _published_note(rows: Sequence[Row]) -> tuple[str, ...]:
    return (SOURCE,) if any(row.kind == RowKind.PUBLISHED for row in rows) else ()


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name.lower()).strip("_")
