"""The tables of discrimination and risk groups, from records: supplementary Tables 1 and 2, comparisons, counts."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from train.evaluate.document import Row, RowKind, Table
from train.evaluate.measures import AUC_MONTHS, HIGH, LOW, ModelRecord
from train.evaluate.published import (
    SOURCE,
    Published,
    PublishedValue,
    canonical_model,
)
from train.evaluate.score_table import FIT_COPIES, ScoreTable
from train.evaluate.words import (
    NOT_ESTIMABLE,
    SEE_LANDMARK,
    estimate_text,
    median_text,
    p_text,
    percent_text,
    ratio_text,
)

BOOTSTRAP_NOTE = "Intervals: percentile bootstrap, {repeats} resamples of patients, seed {seed}."

_P_MARKS = ((0.001, " †"), (0.05, " *"))


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
        most = max(record.n for record in members)
        rows.append(heading(f"{cohort} (n = {most})"))
        for record in members:
            cells = []
            for auc in record.auc:
                p_value = _auc_p(record, reference, auc.month)
                cells.append(estimate_text(auc.value, auc.low, auc.high) + _mark(p_value))
                if auc.reason == SEE_LANDMARK:
                    reasons.append(f"{SEE_LANDMARK}.")
                elif auc.value is None:
                    fewer = f", {record.model}, scored in {record.n}" if record.n < most else ""
                    reasons.append(f"{cohort}{fewer}, {auc.month:g} months: {auc.reason}.")
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
            *published_note(rows),
        ),
    )


def c_index_table(
    records: Sequence[ModelRecord],
    cohorts: Sequence[str],
    title: Callable[[str], str],
    published: Published,
    note: str,
) -> Table:
    """Returns Harrell's C of every model, endpoints and cohorts as columns, as supplementary Tables 2 and 4 set them.

    Args:
        records: of every model and cohort.
        cohorts: columns in order.
        title: how a cohort is headed.
        published: printed under the rows they belong to.
        note: on intervals.
    """
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
                published.c_index.get((paper_cohort(cohort, cohorts), endpoint, canonical_model(model)))
                for endpoint, cohort in columns
            ],
        )
        if row is not None:
            rows.append(row)
    return Table(
        name="c_index",
        title="Harrell's C-index (95% CI) of every model, in the layout of supplementary Tables 2 and 4",
        header=("Model", *(f"{endpoint} {title(cohort)}" for endpoint, cohort in columns)),
        rows=tuple(rows),
        notes=(
            note,
            *_elsewhere(records),
            "Training (apparent) and validation columns that are not out-of-fold support no claim: in validation the networks"
            " were selected, and the fused models (forests, Radiomic, Benchmark, MMF) are apparent as in training. The"
            " published training and validation columns are of that kind and stand beside them.",
            *published_note(rows),
        ),
    )


def comparison_table(records: Sequence[ModelRecord], endpoint: str, reference: str, note: str) -> Table:
    """Returns each model's C beside Uno's C, and the difference from the reference with both tests."""
    rows = []
    chosen = [record for record in records if record.endpoint == endpoint]
    for cohort in dict.fromkeys(record.cohort for record in chosen):
        rows.append(heading(cohort))
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
            *_elsewhere(chosen),
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
        rows.append(heading(cohort))
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
            *_elsewhere(chosen),
        ),
    )


def count_table(
    title: str, name: str, counts: Mapping[str, Mapping[str, Mapping[str, int]]], notes: tuple[str, ...] = ()
) -> Table:
    """Returns numbers and shares: variable -> level -> cohort -> patients."""
    cohorts = list(dict.fromkeys(c for levels in counts.values() for by in levels.values() for c in by))
    rows = []
    for variable, levels in counts.items():
        rows.append(heading(variable))
        whole = {cohort: sum(by.get(cohort, 0) for by in levels.values()) for cohort in cohorts}
        for level, by in levels.items():
            rows.append(
                Row(cells=(level, *(percent_text(by.get(cohort, 0), whole[cohort]) for cohort in cohorts)))
            )
    return Table(name=name, title=title, header=("Level", *cohorts), rows=tuple(rows), notes=notes)


def heading(words: str) -> Row:
    """Returns a row that heads the rows below it."""
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


def published_note(rows: Sequence[Row]) -> tuple[str, ...]:
    """Returns where published values are from, if a row holds one."""
    return (SOURCE,) if any(row.kind == RowKind.PUBLISHED for row in rows) else ()


def _elsewhere(records: Sequence[ModelRecord]) -> tuple[str, ...]:
    return (f"{SEE_LANDMARK}.",) if any(record.reason == SEE_LANDMARK for record in records) else ()


def slug(name: str) -> str:
    """Returns a name as part of a file name."""
    return "".join(letter if letter.isalnum() else "_" for letter in name.lower()).strip("_")


def paper_cohort(cohort: str, cohorts: Sequence[str]) -> str:
    """Returns the paper's cohort that a column stands beside; "" for out-of-fold columns, which the paper has not."""
    for part, copy in FIT_COPIES.items():
        if cohort == copy:
            return part
        if cohort == part and copy in cohorts:
            return ""
    return cohort


def count_levels(levels: npt.NDArray[np.str_], table: ScoreTable) -> dict[str, dict[str, int]]:
    """Returns the patients of each cohort in each level, those without a value, if any, last."""
    words = [str(word) for word in np.unique(levels) if word]
    counts = {
        word: {cohort: int((table.rows(cohort) & (levels == word)).sum()) for cohort in table.own_cohorts}
        for word in words
    }
    if (levels == "").any():
        counts["missing"] = {
            cohort: int((table.rows(cohort) & (levels == "")).sum()) for cohort in table.own_cohorts
        }
    return counts
