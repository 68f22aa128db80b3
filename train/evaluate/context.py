"""What every section of the report is laid out from: the scores, what was measured of them, and the evidence beside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engines.survival.cutoff import is_high
from engines.survival.outcome import BoolArray
from train.evaluate.absolute_risk import RiskRecord, ScoreFit
from train.evaluate.document import Picture, Table, Text
from train.evaluate.evidence import Evidence
from train.evaluate.figures import PANELS_A_FIGURE, SurvivalPanel, draw_survival_panels
from train.evaluate.hazards import FEWEST_EVENTS, FEWEST_PATIENTS
from train.evaluate.measures import ModelRecord, Settings, split_by_risk
from train.evaluate.published import Published, canonical_model
from train.evaluate.score_table import EndpointColumns, ScoreTable
from train.evaluate.shortcuts import Shortcut
from train.evaluate.words import NOT_ESTIMABLE

Parts = list[Text | Table | Picture]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Context:
    """Everything a section may read.

    Attributes:
        table: checked scores; of a fit without mRECIST for PFS, which is measured from the landmark alone.
        whole: the same with it.
        settings: seed, repeats, rule of the cut-offs.
        evidence: of the case folders, the fit and the ablation.
        records: of every model in every cohort.
        fits: what gives each score an absolute risk.
        risks: performance of their absolute risks.
        cutoffs: endpoint -> model -> cut-off.
        published: values of another cohort.
        shortcuts: baselines from the examination alone.
        reference: the model the others are compared with; None without any score.
        note: on the intervals.
    """

    table: ScoreTable
    whole: ScoreTable
    settings: Settings
    evidence: Evidence
    records: tuple[ModelRecord, ...]
    fits: tuple[ScoreFit, ...]
    risks: tuple[RiskRecord, ...]
    cutoffs: Mapping[str, Mapping[str, float]]
    published: Published
    shortcuts: tuple[Shortcut, ...]
    reference: str | None
    note: str

    def find(self, published_name: str) -> str | None:
        """Returns the column that holds a published model, whatever its spelling."""
        return next((m for m in self.table.scores if canonical_model(m) == published_name), None)

    def record(self, cohort: str, endpoint: str, model: str) -> ModelRecord:
        """Returns what was measured of one model."""
        return next(
            record
            for record in self.records
            if (record.cohort, record.endpoint, record.model) == (cohort, endpoint, model)
        )

    def panel(self, title: str, model: str, endpoint: EndpointColumns, rows: BoolArray) -> SurvivalPanel:
        """Returns one Kaplan-Meier panel of the risk groups of a model among some patients."""
        score = self.table.scores[model][endpoint.name]
        used = rows & endpoint.known & (score == score)
        cutoff = self.cutoffs[endpoint.name].get(model)
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


def draw_panels(panels: Sequence[SurvivalPanel], name: str, title: str, endpoint: str) -> list[Picture]:
    """Returns the panels as figures of up to ``PANELS_A_FIGURE``."""
    starts = range(0, len(panels), PANELS_A_FIGURE)
    return [
        Picture(
            name=name if len(starts) == 1 else f"{name}_{part}",
            title=title if len(starts) == 1 else f"{title} ({part} of {len(starts)})",
            png=draw_survival_panels(panels[start : start + PANELS_A_FIGURE], endpoint),
        )
        for part, start in enumerate(starts, start=1)
    ]
