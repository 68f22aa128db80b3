"""Sections on absolute risk: calibration, recalibration, Brier score, net benefit, and the whole model in numbers."""

import numpy as np

from train.evaluate import risk_tables
from train.evaluate.context import Context, Parts
from train.evaluate.document import Picture, Section, Text
from train.evaluate.figures import draw_calibration, draw_decision_curves
from train.evaluate.measures import AUC_MONTHS
from train.evaluate.published import BENCHMARK_MODEL, ENSEMBLE_MODEL
from train.evaluate.recalibration import Place, Recalibration, recalibrate, recalibration_table
from train.evaluate.score_table import DISCOVERY, DISCOVERY_PARTS, FIT_COPIES
from train.evaluate.specification import baseline_table, coefficient_table, list_released, list_score_fits

RISK_TITLE = "Absolute risk: calibration, Brier score, net benefit"
SPECIFICATION_TITLE = "The model in numbers"


def absolute_risk(context: Context, reference: str) -> Section:
    """Returns calibration, recalibration, Brier scores and net benefit of the absolute risks."""
    parts: Parts = []
    cohort = context.table.test_cohort
    chosen = {reference, context.find(ENSEMBLE_MODEL), context.find(BENCHMARK_MODEL)}
    own = [record for record in context.risks if record.cohort not in FIT_COPIES.values()]
    for endpoint in context.table.endpoints:
        if not any(record.endpoint == endpoint.name for record in own):
            parts.append(_unfitted(context, endpoint.name))
            continue
        parts.append(risk_tables.absolute_risk_table(own, endpoint.name))
        here = [r for r in own if (r.cohort, r.endpoint) == (cohort, endpoint.name)]
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
        updated = _recalibrations(context, reference, endpoint.name)
        if updated:
            parts.append(recalibration_table(updated, endpoint.name))
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
    return Section(title=RISK_TITLE, parts=tuple(parts))


def specification(context: Context) -> Section:
    """Returns every coefficient and the baseline hazard: of the released model, else of the scores' own Cox models."""
    model = context.evidence.model
    found = list_score_fits(context.fits) if model is None else list_released(model)
    if not found:
        return Section(
            title=SPECIFICATION_TITLE,
            parts=tuple(_unfitted(context, endpoint.name) for endpoint in context.table.endpoints),
        )
    return Section(title=SPECIFICATION_TITLE, parts=(coefficient_table(found), baseline_table(found)))


def _unfitted(context: Context, endpoint_name: str) -> Text:
    """Why there is no absolute risk: nothing can be fitted on the cohort that baselines come from."""
    table = context.table
    endpoint = next(item for item in table.endpoints if item.name == endpoint_name)
    rows = table.rows(table.cutoff_cohort) & endpoint.known
    words = (
        f"Absolute risk, {endpoint_name}: not estimable. No score can be fitted on the cohort {table.cutoff_cohort}"
        f" ({int(rows.sum())} patients, {int(endpoint.event[rows].sum())} events)."
    )
    return Text(lines=(words,))


def _recalibrations(context: Context, reference: str, endpoint_name: str) -> list[Recalibration]:
    """Of the reference and Benchmark in every cohort that the risk was not fitted on."""
    table = context.table
    endpoint = next(item for item in table.endpoints if item.name == endpoint_name)
    models = [m for m in dict.fromkeys((reference, context.find(BENCHMARK_MODEL))) if m is not None]
    seen = {table.cutoff_cohort, DISCOVERY, *DISCOVERY_PARTS}
    found: list[Recalibration] = []
    for cohort in (name for name in table.own_cohorts if name not in seen):
        for model in models:
            fit = next((f for f in context.fits if (f.endpoint, f.model) == (endpoint_name, model)), None)
            score = table.scores[model][endpoint_name]
            rows = table.rows(cohort) & endpoint.known & ~np.isnan(score)
            if fit is None or not rows.any():
                continue
            found += recalibrate(
                Place(cohort=cohort, endpoint=endpoint_name, model=model, released=fit.released),
                fit.cox,
                score[rows],
                endpoint.outcome(rows),
                AUC_MONTHS[endpoint_name],
                context.settings.seed,
            )
    return found
