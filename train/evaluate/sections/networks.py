"""Sections on what stands behind the scores: architectures, phases, ensembles, seeds; radiomic features."""

from collections.abc import Mapping

import numpy as np

from engines.endpoint import Endpoint
from engines.models.comparator import Comparator, ComparatorName
from engines.survival.outcome import FloatArray
from train.evaluate.ablation_tables import (
    architecture_table,
    as_ensemble_cell,
    ensemble_table,
    phase_table,
)
from train.evaluate.context import Context, Parts
from train.evaluate.document import Picture, Section, Table, Text
from train.evaluate.figures import draw_correlations
from train.evaluate.measures import measure_models
from train.evaluate.network_runs import auxiliary_table, hardware_table, seeds_table
from train.evaluate.published import ENSEMBLE_MODEL, canonical_model
from train.evaluate.radiomics import (
    FeatureColumns,
    correlate,
    correlation_table,
    gather_features,
    score_features,
    selected_table,
)
from train.evaluate.score_table import DISCOVERY

NETWORKS_TITLE = "Networks: architectures, phases, ensembles, seeds"
RADIOMICS_TITLE = "Radiomic features"

SIGNATURES = ("Network 1", "Network 2", "Network 3", ENSEMBLE_MODEL)


def networks(context: Context) -> Section:
    """Returns supplementary Tables 2, 3 and 4, seeds, auxiliary heads, time and hardware."""
    evidence = context.evidence
    parts: Parts = []
    if evidence.ablation is None:
        words = (
            "Supplementary Tables 2 (architectures) and 3 (phases) need other networks trained on the same cohort: run"
            " `mmf-train ablate --cohort DIR`, which prints its cost first."
        )
        parts.append(Text(lines=(words,)))
    else:
        record, cells = evidence.ablation.record, evidence.ablation.cells
        parts.append(architecture_table(record, cells, context.published))
        parts += [phase_table(record, cells, endpoint.value) for endpoint in Endpoint]
    parts.append(_ensembles(context))
    if evidence.runs:
        parts += [
            seeds_table(evidence.runs),
            auxiliary_table(evidence.runs),
            hardware_table(evidence.runs),
        ]
    return Section(title=NETWORKS_TITLE, parts=tuple(parts))


def _ensembles(context: Context) -> Text | Table:
    """Supplementary Table 4: of the fit, whose scores are out-of-fold too, else as the ablation has it."""
    evidence, published = context.evidence, context.published
    if evidence.ensembles is not None:
        measured = measure_models(evidence.ensembles, context.settings)
        shown = [name for name in evidence.ensembles.cohorts if name != DISCOVERY]
        return ensemble_table(
            [as_ensemble_cell(record) for record in measured], shown, evidence.ensembles.title, published
        )
    if evidence.ablation is not None and evidence.ablation.ensembles:
        seed = evidence.ablation.record.seeds[0]
        cells = [cell for cell in evidence.ablation.ensembles if cell.seed == seed]
        return ensemble_table(cells, list(dict.fromkeys(cell.cohort for cell in cells)), str, published)
    return Text(lines=("Supplementary Table 4: neither the fit nor an ablation holds single ensembles.",))


def radiomics(context: Context) -> Section:
    """Returns supplementary Table 5 and Fig. 6."""
    columns = gather_features(context.table, context.evidence.features)
    comparators = _radiomic(context)
    parts: Parts = []
    if not comparators:
        parts.append(Text(lines=("Supplementary Table 5: the fit holds no Radiomic model.",)))
    else:
        parts.append(
            selected_table(
                comparators,
                context.evidence.selections,
                context.evidence.folds,
                _deviations(context, columns),
            )
        )
    if columns is None:
        parts.append(Text(lines=("Supplementary Fig. 6: no case holds radiomic features.",)))
        return Section(title=RADIOMICS_TITLE, parts=tuple(parts))
    table = context.table
    for endpoint, comparator in comparators.items():
        rows = table.rows(table.test_cohort)
        found = score_features(table, columns, comparator.cox.names, endpoint.value, rows, table.test_cohort)
        parts += [] if found is None else [found]
    signatures = [model for model in table.scores if canonical_model(model) in SIGNATURES]
    for endpoint_columns in table.endpoints:
        name = endpoint_columns.name
        rows = table.rows(table.cutoff_cohort)
        correlations = correlate(table, columns, signatures, name, rows) if signatures else None
        if correlations is None:
            words = f"Supplementary Fig. 6, {name}: too few patients have both signatures and features."
            parts.append(Text(lines=(words,)))
            continue
        parts.append(
            Picture(
                name=f"figure_6_correlations_{name.lower()}",
                title=f"Supplementary Fig. 6 layout: network signatures of {name} against radiomic features,"
                f" {table.cutoff_cohort}",
                png=draw_correlations(correlations, f"{name}: Spearman's correlation, * adjusted P < .05"),
            )
        )
        parts.append(correlation_table(correlations, name, table.cutoff_cohort))
    return Section(title=RADIOMICS_TITLE, parts=tuple(parts))


def _radiomic(context: Context) -> dict[Endpoint, Comparator]:
    model = context.evidence.model
    if model is None:
        return {}
    found: dict[Endpoint, Comparator] = {}
    for endpoint in Endpoint:
        comparator = model.comparators.get((endpoint, ComparatorName.RADIOMIC))
        if comparator is not None:
            found[endpoint] = comparator
    return found


def _deviations(context: Context, columns: FeatureColumns | None) -> Mapping[str, float]:
    """Standard deviation of each feature among the patients that cut-offs come from."""
    if columns is None:
        return {}
    rows = context.table.rows(context.table.cutoff_cohort)
    found: dict[str, float] = {}
    for place, name in enumerate(columns.names):
        values: FloatArray = columns.values[rows, place]
        known = values[np.isfinite(values)]
        if known.size > 1 and np.ptp(known) > 0:
            found[name] = float(known.std(ddof=1))
    return found
