"""Sections on the patients: intended use and limits, flow and follow-up, variables, treatment and CT protocol, methods."""

from engines.survival.kaplan_meier import estimate_follow_up, estimate_survival, survival_quantile
from train.evaluate import tables
from train.evaluate.collinearity import collinearity_table
from train.evaluate.context import Context, Parts
from train.evaluate.document import Row, Section, Table, Text
from train.evaluate.flow import flow_table, study_table
from train.evaluate.hazards import list_covariates, list_subgroups
from train.evaluate.measures import CutoffRule
from train.evaluate.missing_values import METHOD, missing_table
from train.evaluate.protocol_table import deviation_table, protocol_table, scanner_table
from train.evaluate.published import BENCHMARK_MODEL, ENSEMBLE_MODEL, REFERENCE_MODEL, canonical_model
from train.evaluate.sample_size import SampleSize, measure_sample_size, sample_size_table
from train.evaluate.score_table import DISCOVERY_PARTS, REGIMEN_COLUMN, EndpointColumns
from train.evaluate.shortcuts import warn_of_shortcuts
from train.evaluate.treatment import agent_table, regimen_table, response_table
from train.evaluate.words import NOT_ESTIMABLE, median_text, percent_text

LIMITS_TITLE = "Intended use and limits"
COHORTS_TITLE = "Flow, cohorts and follow-up"
VARIABLES_TITLE = "Variables and missing values"
TREATMENT_TITLE = "Treatment, response and CT protocol"
METHODS_TITLE = "Methods"

LIMITS = (
    "Research use only. For people who evaluate prognostic models of unresectable hepatocellular carcinoma before"
    " immune checkpoint inhibitor and molecular targeted therapy; not for the care of a patient.",
    "The scores are prognostic, not predictive: there is no untreated arm, so nothing here says who will benefit from"
    " a treatment.",
    "Time zero is the first dose. The paper's cohort required two cycles and follow-up imaging (immortal time); a cohort"
    " chosen otherwise is another population.",
    "Intervals describe chance in patients like these; they do not describe other hospitals, scanners or regimens.",
)

NOT_FROM_SCORES = (
    "Supplementary Tables 2 to 5, Fig. 6, the networks' seeds and auxiliary heads and the CT protocol need images and a"
    " fit: they are made by `mmf-train evaluate --cohort`, not from a table of scores.",
    "Out-of-fold and apparent values cannot be told apart in a table of scores: scores of the training cohort that a"
    " model was fitted on are optimistic.",
)


def limits(context: Context) -> Section:
    """Returns intended use, limits, and what this report cannot tell."""
    lines = (*LIMITS, *(NOT_FROM_SCORES if context.evidence.fit is None else ()))
    return Section(title=LIMITS_TITLE, parts=(Text(lines=lines, bullets=True),))


def cohorts(context: Context) -> Section:
    """Returns the flow with reasons, follow-up by reverse Kaplan-Meier, and the sample size."""
    table = context.table
    rows = [
        _cohort_row(context, cohort, endpoint) for endpoint in table.endpoints for cohort in table.own_cohorts
    ]
    facts = context.evidence.facts
    parts: Parts = [
        *([] if facts is None else [study_table(facts)]),
        flow_table(table, facts),
        Table(
            name="cohorts",
            title="Patients, events and follow-up",
            header=(
                "Cohort",
                "Endpoint",
                "In the table",
                "Follow-up known",
                "Events",
                "Median survival (95% CI)",
                "Median follow-up (95% CI)",
                "Last, months",
            ),
            rows=tuple(rows),
            notes=("Median follow-up by reverse Kaplan-Meier. Months from the first dose.",),
        ),
        sample_size_table(_sample_sizes(context), _weights(context)),
    ]
    if table.notes:
        parts.append(Text(lines=("Notes on the data:",)))
        parts.append(Text(lines=table.notes, bullets=True))
    return Section(title=COHORTS_TITLE, parts=tuple(parts))


def variables(context: Context) -> Section:
    """Returns the variables by cohort, what is missing, and how far they go together."""
    table = context.table
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for name, levels in list_subgroups(table).items():
        counts[name] = tables.count_levels(levels, table)
    parts: Parts = []
    if counts:
        parts.append(tables.count_table("Clinical variables and groups by cohort", "variables", counts))
    parts += [Text(lines=(METHOD,)), missing_table(context.whole)]
    covariates = list_covariates(table, None, table.endpoints[0].name)
    found = collinearity_table(covariates, table.rows(table.cutoff_cohort), table.cutoff_cohort)
    if found is not None:
        parts.append(found)
    return Section(title=VARIABLES_TITLE, parts=tuple(parts))


def treatment(context: Context) -> Section:
    """Returns the agents, the response rate, the CT protocol and the cases outside it."""
    parts: Parts = []
    if REGIMEN_COLUMN in context.table.groups:
        parts += [agent_table(context.table), regimen_table(context.table)]
    else:
        parts.append(Text(lines=("Regimens are not known: supplementary Table 8 cannot be counted.",)))
    response = response_table(context.table)
    if response is None:
        parts.append(Text(lines=("Responses are not known: no objective response rate.",)))
    else:
        parts.append(response)
    facts = context.evidence.facts
    if facts is None:
        parts.append(Text(lines=("The CT protocol is not part of a table of scores.",)))
    else:
        parts.append(protocol_table(facts.cases))
        parts += [found for found in (scanner_table(facts.cases), deviation_table(facts.cases)) if found]
        providers = sorted({case.mask_provider for case in facts.cases if case.mask_provider})
        if len(providers) > 1:
            words = f"Masks were drawn by different providers: {', '.join(providers)}. Their features are different measurements."
            parts.append(Text(lines=(words,)))
    return Section(title=TREATMENT_TITLE, parts=tuple(parts))


def methods(context: Context) -> Section:
    """Returns how everything was computed, and warnings of the scores themselves."""
    table = context.table
    rule = (
        "the median score"
        if context.settings.cutoff == CutoffRule.MEDIAN
        else "the maximally selected log-rank cut"
    )
    lines = (
        f"Cut-offs: {rule} of the cohort {table.cutoff_cohort}, applied unchanged everywhere."
        + (
            ""
            if table.cutoff_cohort in ("discovery", *DISCOVERY_PARTS)
            else " The table names no discovery cohort, so the first cohort named serves."
        ),
        *(
            ("Cut-offs of a fit or a released model belong to it and are used in place of that rule.",)
            if table.released_cutoffs
            else ()
        ),
        "C: Harrell's with percentile bootstrap; Uno's beside it. AUC: cumulative cases, dynamic controls, inverse"
        " probability of censoring weights. Differences: paired bootstrap on the same resamples, and the t test of"
        " survcomp, two-sided. Log-rank two-sided. Cox with Efron ties. Kaplan-Meier and its medians with log(-log) intervals.",
        "Absolute risk: a Cox model of one score on the cut-off cohort. Calibration: observed/expected, slope, ICI."
        " Brier score against Kaplan-Meier. Net benefit at each threshold. Recalibration is a step of its own and marked.",
        *_reference_lines(context),
        *warn_of_shortcuts(context.shortcuts),
        context.note,
    )
    return Section(title=METHODS_TITLE, parts=(Text(lines=lines, bullets=True),))


def _cohort_row(context: Context, cohort: str, endpoint: EndpointColumns) -> Row:
    members = context.table.rows(cohort)
    rows = members & endpoint.known
    n, known = int(members.sum()), int(rows.sum())
    if known == 0:
        return Row(cells=(cohort, endpoint.name, str(n), "0", "", NOT_ESTIMABLE, NOT_ESTIMABLE, ""))
    outcome = endpoint.outcome(rows)
    return Row(
        cells=(
            cohort,
            endpoint.name,
            str(n),
            percent_text(known, n),
            percent_text(outcome.events, known),
            median_text(survival_quantile(estimate_survival(outcome))),
            median_text(survival_quantile(estimate_follow_up(outcome))),
            f"{outcome.time.max():.1f}",
        )
    )


def _sample_sizes(context: Context) -> list[SampleSize]:
    table = context.table
    rows = table.rows(table.cutoff_cohort)
    sizes: list[SampleSize | None] = []
    for endpoint in table.endpoints:
        known = rows & endpoint.known
        score = context.find(ENSEMBLE_MODEL) or context.reference
        clinical = list_covariates(table, None, endpoint.name)
        if clinical:
            sizes.append(measure_sample_size(clinical, endpoint, known, "clinical variables"))
        if score is not None:
            joint = list_covariates(table, score, endpoint.name)
            words = f"{canonical_model(score)} and clinical variables" if clinical else canonical_model(score)
            sizes.append(measure_sample_size(joint, endpoint, known, words))
        features = {name for case in context.evidence.features.values() for name in case}
        if features:
            outcome = endpoint.outcome(known)
            sizes.append(
                SampleSize(
                    endpoint=endpoint.name,
                    model="Radiomic (features screened)",
                    parameters=len(features),
                    patients=outcome.n,
                    events=outcome.events,
                    needed=None,
                )
            )
    return [size for size in sizes if size is not None]


def _weights(context: Context) -> dict[str, int]:
    return {run.facts.network: run.facts.parameters for run in context.evidence.runs}


def _reference_lines(context: Context) -> tuple[str, ...]:
    """What a reader must know of the scores themselves."""
    if context.reference is None:
        return ("The table holds no score: clinical variables only.",)
    lines = []
    if canonical_model(context.reference) != REFERENCE_MODEL:
        lines.append(
            f"The table holds no MMF score: the others are compared with its last score, {context.reference}."
        )
    if context.find(BENCHMARK_MODEL) is None:
        lines.append(
            "The table holds no Benchmark score: what MMF adds to the clinical variables is not measured."
        )
    reversed_scores = dict.fromkeys(
        f"{record.model} ({record.endpoint})"
        for record in context.records
        if record.cohort == context.table.cutoff_cohort
        and record.ci_high is not None
        and record.ci_high < 0.5
    )
    if reversed_scores:
        lines.append(
            f"Warning: {', '.join(reversed_scores)} has a C-index below 0.5 in {context.table.cutoff_cohort}, its whole"
            " interval too. Higher must mean higher risk: check the sign of the score."
        )
    return tuple(lines)
