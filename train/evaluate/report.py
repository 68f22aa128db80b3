"""The report of a score table: what is measured, in the supplement's order, as a document."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engines.survival.cutoff import is_high
from engines.survival.kaplan_meier import estimate_follow_up, estimate_survival, survival_quantile
from engines.survival.outcome import BoolArray
from train.evaluate import hazard_tables, risk_tables, tables
from train.evaluate.absolute_risk import RiskRecord, measure_risk
from train.evaluate.document import Document, Picture, Row, Section, Table, Text
from train.evaluate.figures import (
    PANELS_A_FIGURE,
    SurvivalPanel,
    draw_calibration,
    draw_decision_curves,
    draw_survival_panels,
)
from train.evaluate.hazards import (
    FEWEST_EVENTS,
    FEWEST_PATIENTS,
    CoxTable,
    assess_added_value,
    list_covariates,
    list_subgroups,
    tabulate_cox,
    tabulate_subgroups,
)
from train.evaluate.measures import (
    CutoffRule,
    ModelRecord,
    Settings,
    derive_cutoffs,
    find_reference_model,
    measure_models,
    split_by_risk,
)
from train.evaluate.published import (
    BENCHMARK_MODEL,
    ENSEMBLE_MODEL,
    REFERENCE_MODEL,
    Published,
    canonical_model,
    read_published,
)
from train.evaluate.score_table import DISCOVERY_PARTS, REGIMEN_COLUMN, EndpointColumns, ScoreTable
from train.evaluate.tripod import tripod_table
from train.evaluate.words import NOT_ESTIMABLE, estimate_text, median_text, p_text, percent_text

TITLE = "Evaluation of prognostic scores"

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
    "Supplementary Table 3 (phases), Table 5 (radiomic features), Fig. 6 (networks against radiomic features) and"
    " activation maps need images; Table 8 (doses) needs treatment records. They are made from a cohort of cases, not"
    " from a table of scores.",
    "Out-of-fold and apparent values cannot be told apart in a table of scores: scores of the training cohort that a"
    " model was fitted on are optimistic.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A finished evaluation: the records behind it and the document made from them."""

    records: tuple[ModelRecord, ...]
    risks: tuple[RiskRecord, ...]
    document: Document


def evaluate_scores(table: ScoreTable, settings: Settings) -> Evaluation:
    """Returns the evaluation of a checked table of scores.

    Args:
        table: from ``read_score_table``.
        settings: seed, repeats and rule of the cut-offs.
    """
    records, risks = measure_models(table, settings), measure_risk(table)
    builder = _Builder(table, settings, records, risks)
    return Evaluation(records=records, risks=risks, document=builder.document())


class _Builder:
    """Lays the sections out; every method returns one."""

    def __init__(
        self,
        table: ScoreTable,
        settings: Settings,
        records: tuple[ModelRecord, ...],
        risks: tuple[RiskRecord, ...],
    ) -> None:
        self._table, self._settings, self._records, self._risks = table, settings, records, risks
        self._published: Published = read_published()
        self._reference = find_reference_model(tuple(table.scores))
        self._note = tables.BOOTSTRAP_NOTE.format(repeats=f"{settings.repeats:,}", seed=settings.seed)
        self._cutoffs: Mapping[str, Mapping[str, float]] = {
            endpoint.name: derive_cutoffs(table, endpoint, settings.cutoff) for endpoint in table.endpoints
        }

    def document(self) -> Document:
        """Returns the whole report."""
        sections = [self._limits(), self._cohorts(), self._variables(), self._methods()]
        if self._reference is not None:
            sections += [self._discrimination(self._reference), self._risk_groups()]
        sections.append(self._cox())
        if self._reference is not None:
            sections += [self._subgroups(self._reference), self._absolute_risk(self._reference)]
        sections.append(Section(title="TRIPOD+AI", parts=(tripod_table(),)))
        names = ", ".join(self._table.scores) or "no score, clinical variables only"
        return Document(
            title=TITLE,
            subtitle=f"Table {self._table.name}, SHA-256 {self._table.sha256[:16]}..., {len(self._table.patient_ids)}"
            f" patients. Scores: {names}. Research use only.",
            sections=tuple(sections),
        )

    def _limits(self) -> Section:
        lines = (*LIMITS, *NOT_FROM_SCORES)
        return Section(title="Intended use and limits", parts=(Text(lines=lines, bullets=True),))

    def _cohorts(self) -> Section:
        rows = []
        for endpoint in self._table.endpoints:
            for cohort in self._table.cohorts:
                rows.append(self._cohort_row(cohort, endpoint))
        parts: list[Text | Table | Picture] = [
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
            )
        ]
        if self._table.notes:
            parts.append(Text(lines=("Notes on the data:",)))
            parts.append(Text(lines=self._table.notes, bullets=True))
        return Section(title="Cohorts and follow-up", parts=tuple(parts))

    def _cohort_row(self, cohort: str, endpoint: EndpointColumns) -> Row:
        members = self._table.rows(cohort)
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

    def _variables(self) -> Section:
        counts: dict[str, dict[str, dict[str, int]]] = {}
        for name, levels in list_subgroups(self._table).items():
            counts[name] = tables.count_levels(levels, self._table)
        parts: list[Text | Table | Picture] = []
        if counts:
            parts.append(tables.count_table("Clinical variables and groups by cohort", "variables", counts))
        if REGIMEN_COLUMN in self._table.groups:
            parts.append(tables.agent_table(self._table))
        words = (
            "Missing values are never imputed here: each statistic uses the patients that have what it needs"
            " (complete cases), comparisons use patients with both scores, and every table says n."
        )
        parts.append(Text(lines=(words,)))
        parts.append(tables.missing_table(self._table))
        return Section(title="Variables and missing values", parts=tuple(parts))

    def _methods(self) -> Section:
        rule = (
            "the median score"
            if self._settings.cutoff == CutoffRule.MEDIAN
            else "the maximally selected log-rank cut"
        )
        lines = (
            f"Cut-offs: {rule} of the cohort {self._table.cutoff_cohort}, applied unchanged everywhere."
            + (
                ""
                if self._table.cutoff_cohort in ("discovery", *DISCOVERY_PARTS)
                else " The table names no discovery cohort, so the first cohort named serves."
            ),
            *(
                ("Cut-offs of a released model belong to it and are used in place of that rule.",)
                if self._table.released_cutoffs
                else ()
            ),
            "C: Harrell's with percentile bootstrap; Uno's beside it. AUC: cumulative cases, dynamic controls, inverse"
            " probability of censoring weights. Differences: paired bootstrap on the same resamples, and the t test of"
            " survcomp, two-sided. Log-rank two-sided. Cox with Efron ties.",
            "Absolute risk: a Cox model of one score on the cut-off cohort. Calibration: observed/expected, slope, ICI."
            " Brier score against Kaplan-Meier. Net benefit at each threshold.",
            *self._reference_lines(),
            self._note,
        )
        return Section(title="Methods", parts=(Text(lines=lines, bullets=True),))

    def _reference_lines(self) -> tuple[str, ...]:
        """What a reader must know of the scores themselves."""
        if self._reference is None:
            return ("The table holds no score: clinical variables only.",)
        lines = []
        if canonical_model(self._reference) != REFERENCE_MODEL:
            lines.append(
                f"The table holds no MMF score: the others are compared with its last score, {self._reference}."
            )
        reversed_scores = dict.fromkeys(
            f"{record.model} ({record.endpoint})"
            for record in self._records
            if record.cohort == self._table.cutoff_cohort
            and record.ci_high is not None
            and record.ci_high < 0.5
        )
        if reversed_scores:
            lines.append(
                f"Warning: {', '.join(reversed_scores)} has a C-index below 0.5 in {self._table.cutoff_cohort}, its whole"
                " interval too. Higher must mean higher risk: check the sign of the score."
            )
        return tuple(lines)

    def _discrimination(self, reference: str) -> Section:
        whole = [
            name
            for name in self._table.cohorts
            if name not in DISCOVERY_PARTS or "discovery" not in self._table.cohorts
        ]
        parts: list[Text | Table | Picture] = []
        for endpoint in self._table.endpoints:
            chosen = [record for record in self._records if record.cohort in whole]
            parts.append(tables.auc_table(chosen, endpoint.name, reference, self._published, self._note))
        split = [name for name in self._table.cohorts if name != "discovery"] or list(self._table.cohorts)
        parts.append(tables.c_index_table(self._records, split, self._published, self._note))
        for endpoint in self._table.endpoints:
            parts.append(tables.comparison_table(self._records, endpoint.name, reference, self._note))
        parts.append(self._added_value(reference))
        return Section(title="Discrimination", parts=tuple(parts))

    def _added_value(self, reference: str) -> Text | Table:
        benchmark = self._find(BENCHMARK_MODEL)
        if benchmark is None or benchmark == reference:
            return Text(lines=("Added value over Benchmark: the table holds no Benchmark score.",))
        rows = []
        for endpoint in self._table.endpoints:
            small = self._table.scores[benchmark][endpoint.name]
            large = self._table.scores[reference][endpoint.name]
            for cohort in self._table.cohorts:
                used = self._table.rows(cohort) & endpoint.known & ~np.isnan(small) & ~np.isnan(large)
                if not used.any():
                    continue
                test = assess_added_value(small[used], large[used], endpoint.outcome(used))
                record = self._record(cohort, endpoint.name, reference)
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

    def _risk_groups(self) -> Section:
        origin = f"the cohort {self._table.cutoff_cohort}"
        if self._table.released_cutoffs:
            origin += " (networks) or the released model (all others)"
        parts: list[Text | Table | Picture] = []
        cohort = self._table.test_cohort
        for endpoint in self._table.endpoints:
            parts.append(tables.risk_group_table(self._records, endpoint.name, origin))
            panels = [
                self._panel(model, model, endpoint, self._table.rows(cohort)) for model in self._table.scores
            ]
            parts += _pictures(
                panels,
                f"figure_5_models_{endpoint.name.lower()}",
                f"Supplementary Fig. 5 layout: {endpoint.name} by risk group of every model, {cohort}",
                endpoint.name,
            )
        return Section(title="Risk groups", parts=tuple(parts))

    def _cox(self) -> Section:
        score = self._find(ENSEMBLE_MODEL) or self._reference
        cohorts = list(dict.fromkeys((self._table.cutoff_cohort, self._table.test_cohort)))
        parts: list[Text | Table | Picture] = []
        for endpoint in self._table.endpoints:
            covariates = list_covariates(self._table, score, endpoint.name)
            if not covariates:
                continue
            found: dict[str, CoxTable] = {
                cohort: tabulate_cox(covariates, endpoint, self._table.rows(cohort) & endpoint.known)
                for cohort in cohorts
            }
            parts.append(hazard_tables.cox_table(covariates, found, endpoint.name, self._published))
            if any(table.proportionality for table in found.values()):
                parts.append(hazard_tables.proportionality_table(found, endpoint.name))
        return Section(title="Univariable and multivariable Cox models", parts=tuple(parts))

    def _subgroups(self, reference: str) -> Section:
        cohort = self._table.test_cohort
        rows = self._table.rows(cohort)
        models = list(dict.fromkeys(m for m in (reference, self._find(ENSEMBLE_MODEL)) if m is not None))
        parts: list[Text | Table | Picture] = []
        subgroups = list_subgroups(self._table)
        if not subgroups:
            return Section(
                title="Subgroups", parts=(Text(lines=("The table holds no clinical variable or group.",)),)
            )
        for model in models:
            for endpoint in self._table.endpoints:
                cutoff = self._cutoffs[endpoint.name].get(model)
                if cutoff is None:
                    continue
                score = self._table.scores[model][endpoint.name]
                lines = tabulate_subgroups(self._table, score, cutoff, endpoint, rows & endpoint.known)
                parts.append(hazard_tables.subgroup_table(lines, model, endpoint.name, cohort))
                panels = [
                    self._panel(f"{name}: {level}", model, endpoint, rows & (levels == level))
                    for name, levels in subgroups.items()
                    for level in dict.fromkeys(str(word) for word in np.sort(levels[rows]) if word)
                ]
                parts += _pictures(
                    panels,
                    f"subgroups_{tables.slug(model)}_{endpoint.name.lower()}",
                    f"Supplementary Figs. 1-4 layout: {endpoint.name} by risk group of {model} in subgroups, {cohort}",
                    endpoint.name,
                )
        return Section(title="Subgroups", parts=tuple(parts))

    def _absolute_risk(self, reference: str) -> Section:
        parts: list[Text | Table | Picture] = []
        cohort = self._table.test_cohort
        chosen = {reference, self._find(ENSEMBLE_MODEL), self._find(BENCHMARK_MODEL)}
        for endpoint in self._table.endpoints:
            parts.append(risk_tables.absolute_risk_table(self._risks, endpoint.name))
            here = [r for r in self._risks if (r.cohort, r.endpoint) == (cohort, endpoint.name)]
            for record in (record for record in here if record.model == reference):
                calibrations = [h.calibration for h in record.horizons if h.calibration is not None]
                if calibrations:
                    parts.append(
                        Picture(
                            name=f"calibration_{endpoint.name.lower()}",
                            title=f"Calibration of {reference}, {endpoint.name}, {cohort}"
                            + (" (apparent)" if record.apparent else ""),
                            png=draw_calibration(calibrations, endpoint.name),
                        )
                    )
            curves = risk_tables.list_benefit([record for record in here if record.model in chosen])
            if curves:
                parts.append(
                    Picture(
                        name=f"decision_curve_{endpoint.name.lower()}",
                        title=f"Decision curves, {endpoint.name}, {cohort}",
                        png=draw_decision_curves(curves, endpoint.name),
                    )
                )
                parts.append(risk_tables.benefit_table(curves, endpoint.name, cohort))
        return Section(title="Absolute risk: calibration, Brier score, net benefit", parts=tuple(parts))

    def _panel(self, title: str, model: str, endpoint: EndpointColumns, rows: BoolArray) -> SurvivalPanel:
        score = self._table.scores[model][endpoint.name]
        used = rows & endpoint.known & ~np.isnan(score)
        cutoff = self._cutoffs[endpoint.name].get(model)
        n, events = int(used.sum()), int(endpoint.event[used].sum())
        if n == 0 or cutoff is None:
            return SurvivalPanel(title=title, reason=NOT_ESTIMABLE)
        outcome = endpoint.outcome(used)
        if n < FEWEST_PATIENTS or events < FEWEST_EVENTS:
            return SurvivalPanel(title=title, reason=f"not shown: {n} patients, {events} events")
        return SurvivalPanel(
            title=title,
            outcome=outcome,
            high=is_high(score[used], cutoff),
            groups=split_by_risk(score[used], outcome, cutoff),
        )

    def _find(self, published_name: str) -> str | None:
        return next((m for m in self._table.scores if canonical_model(m) == published_name), None)

    def _record(self, cohort: str, endpoint: str, model: str) -> ModelRecord:
        return next(
            record
            for record in self._records
            if (record.cohort, record.endpoint, record.model) == (cohort, endpoint, model)
        )


def _pictures(panels: Sequence[SurvivalPanel], name: str, title: str, endpoint: str) -> list[Picture]:
    starts = range(0, len(panels), PANELS_A_FIGURE)
    return [
        Picture(
            name=name if len(starts) == 1 else f"{name}_{part}",
            title=title if len(starts) == 1 else f"{title} ({part} of {len(starts)})",
            png=draw_survival_panels(panels[start : start + PANELS_A_FIGURE], endpoint),
        )
        for part, start in enumerate(starts, start=1)
    ]
