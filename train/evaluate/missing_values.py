"""The table of missing values: follow-up, variables, groups and scores by cohort, with what was done about them."""

from collections.abc import Iterator

import numpy as np

from engines.clinical.variables import DEFINITIONS
from engines.survival.outcome import BoolArray
from train.evaluate.document import Row, RowKind, Table
from train.evaluate.score_table import BACKGROUND_COLUMNS, ScoreTable
from train.evaluate.words import percent_text

METHOD = (
    "Missing values are never imputed: each statistic uses the patients that have what it needs (complete cases), comparisons"
    " those with both scores, and every table says n. A fit does the same inside each fold: a patient who lacks an input is"
    " left out of what is fitted there, and is given no score by it."
)
"""Source: validity, trap 12."""


def missing_table(table: ScoreTable) -> Table:
    """Returns how many patients of each cohort lack each value, with zeros: what is not listed was never asked for.

    Args:
        table: checked scores; the copies of a fit's rows are no further patients.
    """
    members = {cohort: table.rows(cohort) for cohort in table.own_cohorts}
    rows: list[Row] = []
    title = ""
    for heading, name, missing in _list_missing(table):
        if heading != title:
            rows.append(Row(cells=(heading,), kind=RowKind.HEADING))
            title = heading
        counts = (percent_text(int((missing & rows).sum()), int(rows.sum())) for rows in members.values())
        rows.append(Row(cells=(name, *counts)))
    return Table(
        name="missing_values",
        title="Missing values by variable and cohort",
        header=("Patients without", *members),
        rows=tuple(rows),
        notes=("Complete cases; nothing is imputed.",),
    )


def _list_missing(table: ScoreTable) -> Iterator[tuple[str, str, BoolArray]]:
    """Gives heading, name and (n,) who lacks it, of everything that the table holds."""
    for endpoint in table.endpoints:
        yield "Follow-up", endpoint.name, ~endpoint.known
    for variable, values in table.clinical.items():
        lacking = np.array([value is None for value in values], dtype=np.bool_)
        yield "Clinical variables", DEFINITIONS[variable].title, lacking
    for name, words in table.groups.items():
        yield "Groups", name.capitalize(), np.array([word == "" for word in words], dtype=np.bool_)
    for name in BACKGROUND_COLUMNS:
        if name in table.background:
            yield "Examination", name, np.isnan(table.background[name])
    for model, by_endpoint in table.scores.items():
        for name, score in by_endpoint.items():
            yield "Scores", f"{model}, {name}", np.isnan(score)
