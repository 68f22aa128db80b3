"""What was given and how the tumour answered: supplementary Table 8 and the objective response rate."""

from collections import Counter

import numpy as np
from scipy import stats

from engines.clinical.regimen import AGENT_FACTS, CheckpointInhibitor, TargetedAgent
from engines.clinical.response import Response
from train.evaluate.document import Row, Table
from train.evaluate.published import canonical_model
from train.evaluate.score_table import REGIMEN_COLUMN, RESPONSE_COLUMN, ScoreTable
from train.evaluate.tables import heading
from train.evaluate.words import estimate_text, percent_text

CONFIDENCE = 0.95

NON_RESPONDER = "non_responder"
"""Number beside a score table: 1 for SD and PD at the first follow-up CT, 0 for CR and PR."""

PROGRESSIVE = "progressive"
"""Number beside a score table: 1 for PD at the first follow-up CT, 0 for any other response."""

FIRST_CT_MONTHS = "first_ct_months"
"""Number beside a score table: months from the first dose to the first follow-up CT."""


def agent_table(table: ScoreTable) -> Table:
    """Returns supplementary Table 8: agents, targets, published administration, patients of each cohort given them."""
    given = [set(words.split("+")) for words in table.groups[REGIMEN_COLUMN]]
    known = np.array([word != "" for word in table.groups[REGIMEN_COLUMN]])
    rows = []
    for title, agents in (
        ("Anti-PD-(L)1 agents", CheckpointInhibitor),
        ("Molecular targeted agents", TargetedAgent),
    ):
        rows.append(heading(title))
        for agent in agents:
            has = np.array([agent.value in words for words in given])
            facts = AGENT_FACTS.get(agent)
            if facts is None and not has.any():
                continue
            counts = [
                percent_text(int((has & table.rows(c)).sum()), int((known & table.rows(c)).sum()))
                for c in table.own_cohorts
            ]
            words = (facts.targets, facts.administration) if facts else ("", "not listed")
            rows.append(Row(cells=(agent.value, *words, *counts)))
    unknown = [f"{c}: {int((~known & table.rows(c)).sum())}" for c in table.own_cohorts]
    return Table(
        name="supplementary_table_8_agents",
        title="Supplementary Table 8 layout: agents, their administration, and the patients given them",
        header=("Agent", "Targets", "Administration (published)", *table.own_cohorts),
        rows=tuple(rows),
        notes=(
            "Shares of the patients whose regimen is known. Administration is that of the published protocol; doses given"
            " in this cohort are not recorded here.",
            f"Regimen not known: {', '.join(unknown)}.",
        ),
    )


def regimen_table(table: ScoreTable) -> Table:
    """Returns the combinations given in each cohort, the most frequent first."""
    words = np.array(table.groups[REGIMEN_COLUMN], dtype=np.str_)
    own = np.isin(table.cohort, table.own_cohorts)
    counts = Counter(str(word) for word in words[own] if word)
    rows = [
        Row(
            cells=(
                regimen,
                *(
                    percent_text(
                        int(((words == regimen) & table.rows(c)).sum()),
                        int(((words != "") & table.rows(c)).sum()),
                    )
                    for c in table.own_cohorts
                ),
            )
        )
        for regimen, _ in counts.most_common()
    ]
    return Table(
        name="regimens",
        title="Regimens by cohort",
        header=("Regimen", *table.own_cohorts),
        rows=tuple(rows),
        notes=(
            "Published, another cohort of 859: camrelizumab with apatinib 47.8%, sintilimab with lenvatinib 12.0%,"
            " tislelizumab with lenvatinib 10.4%, atezolizumab with bevacizumab 5.0%, sintilimab with bevacizumab 4.8%,"
            " pembrolizumab with lenvatinib 3.8%, all others together 16.3%. The regimen is a subgroup, not an input.",
        ),
    )


def response_table(table: ScoreTable) -> Table | None:
    """Returns the objective response rate of each cohort with its exact interval; None without any response.

    Categories come from the column ``response``; without it the fit's responses, or the two values of the mRECIST score,
    tell responders apart.
    """
    responder = _responders(table)
    if responder is None:
        return None
    rows = []
    for cohort in table.own_cohorts:
        values = responder[table.rows(cohort)]
        known = values[~np.isnan(values)]
        if known.size == 0:
            continue
        count, n = int(known.sum()), int(known.size)
        low, high = exact_interval(count, n)
        rate = estimate_text(100 * count / n, 100 * low, 100 * high, 1)
        cells = [cohort, str(n), str(count), rate]
        if RESPONSE_COLUMN in table.groups:
            words = np.array(table.groups[RESPONSE_COLUMN], dtype=np.str_)[table.rows(cohort)]
            cells += [str(int((words == category).sum())) for category in Response]
        rows.append(Row(cells=tuple(cells)))
    header = ["Cohort", "Evaluable", "Responders (CR, PR)", "Rate, % (95% CI)"]
    if RESPONSE_COLUMN in table.groups:
        header += list(Response)
    return Table(
        name="objective_response",
        title="Objective response rate at the first follow-up CT, mRECIST",
        header=tuple(header),
        rows=tuple(rows),
        notes=("Exact (Clopper-Pearson) intervals; patients who are not evaluable are left out.",),
    )


def exact_interval(count: int, n: int) -> tuple[float, float]:
    """Returns the Clopper-Pearson interval of a share."""
    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if count == 0 else float(stats.beta.ppf(tail, count, n - count + 1))
    high = 1.0 if count == n else float(stats.beta.ppf(1 - tail, count + 1, n - count))
    return low, high


def _responders(table: ScoreTable) -> "np.ndarray[tuple[int], np.dtype[np.float64]] | None":
    """(n,) 1 responder, 0 not, NaN not evaluable."""
    if RESPONSE_COLUMN in table.groups:
        words = [Response(word) if word else None for word in table.groups[RESPONSE_COLUMN]]
        found = [None if word is None else word.is_responder for word in words]
        return np.array([np.nan if value is None else float(value) for value in found])
    if NON_RESPONDER in table.background:
        return 1 - table.background[NON_RESPONDER]
    model = next((m for m in table.scores if canonical_model(m) == "mRECIST"), None)
    if model is None:
        return None
    score = table.scores[model][table.endpoints[0].name]
    values = np.unique(score[~np.isnan(score)])
    if values.size != 2:
        return None
    return np.where(np.isnan(score), np.nan, (score == values[0]).astype(np.float64))
