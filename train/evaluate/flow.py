"""The flow of patients into each analysis, with the reason of every one that is not there."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from engines.clinical.variables import STANDARD_VARIABLES
from train.evaluate.case_facts import CohortFacts
from train.evaluate.document import Row, Table
from train.evaluate.published import canonical_model
from train.evaluate.score_table import ScoreTable


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowLine:
    """One step: what it is, and the patients by cohort; ``leaves`` marks those who leave here."""

    words: str
    counts: Mapping[str, int]
    leaves: bool = False


def flow_table(table: ScoreTable, facts: CohortFacts | None) -> Table:
    """Returns the patients in each analysis, and those left out with the reason.

    Args:
        table: the checked table.
        facts: of the case folders; None for a ready table, whose exclusions are its author's to tell.
    """
    notes = ["Complete case: every variable that the model needs is known and within the population."]
    if facts is None:
        notes.append("Exclusions before the table of scores are not known here: its authors must tell them.")
    return Table(
        name="flow",
        title="Flow of patients, with reasons",
        header=("Step", *table.own_cohorts),
        rows=tuple(
            Row(
                cells=(
                    ("left out: " if line.leaves else "") + line.words,
                    *(str(line.counts.get(cohort, 0)) for cohort in table.own_cohorts),
                )
            )
            for line in _lines(table)
        ),
        notes=tuple(notes),
    )


def study_table(facts: CohortFacts) -> Table:
    """Returns how the studies of each cohort became cases, and why some did not."""
    cohorts = list(dict.fromkeys(case.cohort for case in facts.cases))
    cases = {name: [case for case in facts.cases if case.cohort == name] for name in cohorts}
    reasons = dict.fromkeys(reason for name in cohorts for reason in facts.excluded.get(name, {}))
    lines: list[tuple[str, dict[str, int]]] = [
        ("studies looked at", {n: len(cases[n]) + sum(facts.excluded.get(n, {}).values()) for n in cohorts})
    ]
    lines += [
        (f"left out: {reason}", {n: facts.excluded.get(n, {}).get(reason, 0) for n in cohorts})
        for reason in reasons
    ]
    lines.append(("cases", {n: len(cases[n]) for n in cohorts}))
    unlabelled = {n: sum(not case.labelled for case in cases[n]) for n in cohorts}
    lines.append(("left out: no outcome (such cases teach the autoencoder alone)", unlabelled))
    silent = [name for name in cohorts if name not in facts.excluded]
    return Table(
        name="studies",
        title="From studies to cases, with reasons",
        header=("Step", *cohorts),
        rows=tuple(Row(cells=(words, *(str(counts[n]) for n in cohorts))) for words, counts in lines),
        notes=(f"Without exclusions.csv, what was left out is not known: {', '.join(silent)}.",)
        if silent
        else (),
    )


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
