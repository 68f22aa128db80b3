"""The report of a score table, alone or with its cohort and fit: what is measured, in the supplement's order, as a document."""

from dataclasses import dataclass

from train.evaluate import tables
from train.evaluate.absolute_risk import RiskRecord, fit_scores, measure_risk
from train.evaluate.context import Context
from train.evaluate.document import Document, Section
from train.evaluate.evidence import NO_EVIDENCE, Evidence
from train.evaluate.landmark import explain_records, leave_to_landmark
from train.evaluate.measures import (
    ModelRecord,
    Settings,
    derive_cutoffs,
    find_reference_model,
    measure_models,
)
from train.evaluate.published import read_published
from train.evaluate.score_table import ScoreTable
from train.evaluate.sections.card import model_card
from train.evaluate.sections.networks import networks, radiomics
from train.evaluate.sections.patients import cohorts, limits, methods, treatment, variables
from train.evaluate.sections.risk import absolute_risk, specification
from train.evaluate.sections.scores import cox, discrimination, risk_groups, subgroups
from train.evaluate.sections.stability import stability
from train.evaluate.shortcuts import measure_shortcuts
from train.evaluate.tripod import TRIPOD_TITLE, tripod_table

TITLE = "Evaluation of prognostic scores"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A finished evaluation: the records behind it and the document made from them."""

    records: tuple[ModelRecord, ...]
    risks: tuple[RiskRecord, ...]
    document: Document


def evaluate_scores(table: ScoreTable, settings: Settings, evidence: Evidence = NO_EVIDENCE) -> Evaluation:
    """Returns the evaluation of a checked table of scores.

    Args:
        table: from ``read_score_table``, or of a fit.
        settings: seed, repeats and rule of the cut-offs.
        evidence: what the case folders, the fit and the ablation tell beside the scores.
    """
    whole = table
    if evidence.fit is not None:
        table = leave_to_landmark(whole)
    records = measure_models(table, settings)
    fits = fit_scores(table, {} if evidence.model is None else evidence.model.risk_models)
    context = Context(
        table=table,
        whole=whole,
        settings=settings,
        evidence=evidence,
        records=records if evidence.fit is None else explain_records(records),
        fits=fits,
        risks=measure_risk(table, fits),
        cutoffs={
            endpoint.name: derive_cutoffs(table, endpoint, settings.cutoff) for endpoint in table.endpoints
        },
        published=read_published(),
        shortcuts=measure_shortcuts(table, settings.seed),
        reference=find_reference_model(tuple(table.scores)),
        note=tables.BOOTSTRAP_NOTE.format(repeats=f"{settings.repeats:,}", seed=settings.seed),
    )
    return Evaluation(records=context.records, risks=context.risks, document=_lay_out(context))


def _lay_out(context: Context) -> Document:
    reference, evidence, table = context.reference, context.evidence, context.table
    sections = [
        limits(context),
        model_card(context),
        cohorts(context),
        variables(context),
        treatment(context),
        methods(context),
    ]
    if reference is not None:
        sections += [discrimination(context, reference), risk_groups(context)]
    if evidence.fit is not None:
        sections += [networks(context), radiomics(context)]
    sections.append(cox(context))
    if reference is not None:
        sections += [subgroups(context, reference), absolute_risk(context, reference)]
        sections.append(specification(context))
    sections.append(stability(context))
    draft = Document(title=TITLE, subtitle=_subtitle(context), sections=tuple(sections))
    items = tripod_table(draft.anchors, tuple(table.groups))
    tripod = Section(title=TRIPOD_TITLE, parts=(items,))
    return Document(title=TITLE, subtitle=draft.subtitle, sections=(*sections, tripod))


def _subtitle(context: Context) -> str:
    table, fit = context.table, context.evidence.fit
    names = ", ".join(table.scores) or "no score, clinical variables only"
    synthetic = " SYNTHETIC COHORT: no clinical meaning." if fit is not None and fit.cohort.synthetic else ""
    return (
        f"{'Fit' if fit is not None else 'Table'} {table.name}, SHA-256 {table.sha256[:16]}..., {table.patients} patients."
        f" Scores: {names}. Research use only.{synthetic}"
    )
