"""The flow of patients into each analysis, with the reason of every one that is not there."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from engines.clinical.variables import STANDARD_VARIABLES
from train.evaluate.case_facts import CohortFacts
from train.evaluate.document import Row, Table
from train.evaluate.published import canonical_model
from train.evaluate.score_table import ScoreTable
from train.evaluate.tables import heading


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowLine:
    """One step: what it is, and the patients by cohort; ``leaves`` marks those who leave here."""

    words: str
    counts: Mapping[str, int]
    leaves: bool = False


def flow_table(table: ScoreTable, facts: CohortFacts | None) -> Table:
    """Returns the flow: studies that became no case, cases without outcome, patients in each analysis.

    Args:
        table: the checked table.
        facts: of the case folders; None for a ready table, whose exclusions are its author's to tell.
    """
    rows: list[Row] = []
    notes = []
    if facts is None:
        notes.append("Exclusions before the table of scores are not known here: its authors must tell them.")
    else:
        rows += _before(facts)
        if not facts.excluded:
            notes.append(
                "No cohort holds exclusions.csv: studies that did not become cases are not known here."
            )
    rows.append(heading("Patients by cohort of the analysis"))
    lines = _lines(table)
    rows += [
        Row(
            cells=(
                ("  left out: " if line.leaves else "") + line.words,
                *(str(line.counts.get(cohort, 0)) for cohort in table.own_cohorts),
            )
        )
        for line in lines
    ]
    width = 1 + len(table.own_cohorts)
    return Table(
        name="flow",
        title="Flow of patients, with reasons",
        header=("Step", *table.own_cohorts),
        rows=tuple(
            row if len(row.cells) in (1, width) else Row(cells=(*row.cells, *[""] * (width - len(row.cells))))
            for row in rows
        ),
        notes=(
            *notes,
            "Complete case: every variable that the model needs is known and within the population.",
        ),
    )


def _before(facts: CohortFacts) -> list[Row]:
    rows = []
    for cohort in dict.fromkeys(case.cohort for case in facts.cases):
        cases = [case for case in facts.cases if case.cohort == cohort]
        reasons = facts.excluded.get(cohort, {})
        rows.append(heading(f"Studies of {cohort}"))
        if reasons:
            rows.append(Row(cells=("studies looked at", str(len(cases) + sum(reasons.values())))))
            rows += [Row(cells=(f"  left out: {reason}", str(count))) for reason, count in reasons.items()]
        rows.append(Row(cells=("cases", str(len(cases)))))
        unlabelled = sum(not case.labelled for case in cases)
        if unlabelled:
            rows.append(
                Row(
                    cells=(
                        "  left out of the evaluation: no outcome (they teach the autoencoder alone)",
                        str(unlabelled),
                    )
                )
            )
    return rows


def _lines(table: ScoreTable) -> list[FlowLine]:
    def count(mask: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> dict[str, int]:
        return {cohort: int((table.rows(cohort) & mask).sum()) for cohort in table.own_cohorts}

    everyone = np.ones(len(table.patient_ids), dtype=np.bool_)
    lines = [FlowLine(words="patients", counts=count(everyone))]
    for endpoint in table.endpoints:
        if (~endpoint.known).any():
            lines.append(
                FlowLine(words=f"{endpoint.name} not known", counts=count(~endpoint.known), leaves=True)
            )
        lines.append(FlowLine(words=f"{endpoint.name}: in the analysis", counts=count(endpoint.known)))
        for model, by_endpoint in table.scores.items():
            missing = np.isnan(by_endpoint[endpoint.name]) & endpoint.known
            if missing.any():
                words = f"{endpoint.name}, {canonical_model(model)}: no score"
                lines.append(FlowLine(words=words, counts=count(missing), leaves=True))
    known = [variable for variable in STANDARD_VARIABLES if variable in table.clinical]
    if known:
        lacking = everyone & False
        for variable in known:
            lacking |= np.array([value is None for value in table.clinical[variable]])
        lines.append(
            FlowLine(
                words=f"one of {len(known)} pre-specified clinical variables missing",
                counts=count(lacking),
                leaves=True,
            )
        )
        lines.append(FlowLine(words="complete case of the clinical variables", counts=count(~lacking)))
    return lines
