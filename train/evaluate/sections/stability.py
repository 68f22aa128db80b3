"""The section on what holds elsewhere: leave one centre out, instability of predictions, shortcut baselines."""

import numpy as np

from train.evaluate.context import Context, Parts
from train.evaluate.document import Picture, Row, Section, Table, Text
from train.evaluate.figures import draw_instability
from train.evaluate.published import ENSEMBLE_MODEL, canonical_model
from train.evaluate.refits import (
    FusionInputs,
    Instability,
    LeftOut,
    gather_inputs,
    leave_centres_out,
    left_out_table,
    measure_instability,
)
from train.evaluate.score_table import DISCOVERY, EndpointColumns
from train.evaluate.shortcuts import shortcut_table

STABILITY_TITLE = "Heterogeneity and stability"


def stability(context: Context) -> Section:
    """Returns internal-external validation, instability of the fusion, and shortcut baselines."""
    parts: Parts = [*_internal_external(context), *_instability(context)]
    if context.shortcuts:
        parts.append(shortcut_table(context.shortcuts))
    else:
        words = "Shortcut baselines: neither header, centre nor liver box is known."
        parts.append(Text(lines=(words,)))
    return Section(title=STABILITY_TITLE, parts=tuple(parts))


def _internal_external(context: Context) -> Parts:
    table = context.table
    if "centre" not in table.groups:
        return [Text(lines=("Internal-external validation: centres are not known.",))]
    own = np.isin(table.cohort, [name for name in table.own_cohorts if name != DISCOVERY])
    centres = np.array(table.groups["centre"], dtype=np.str_)
    named = sorted({str(word) for word in centres[own] if word})
    if len(named) < 2:
        words = f"Internal-external validation: all patients are of one centre ({', '.join(named)}); it cannot be made."
        return [Text(lines=(words,))]
    found: list[LeftOut] = []
    for endpoint in table.endpoints:
        for model, inputs in _fusions(context, endpoint, own):
            found += leave_centres_out(
                inputs, [str(word) for word in centres[inputs.rows]], endpoint.name, model
            )
    if not found:
        return [Text(lines=("Internal-external validation: no complete case of the fusion's inputs.",))]
    return [left_out_table(found)]


def _instability(context: Context) -> Parts:
    table = context.table
    found: list[Instability] = []
    sizes: dict[str, int] = {}
    for endpoint in table.endpoints:
        rows = table.rows(table.cutoff_cohort)
        fusion = next(iter(_fusions(context, endpoint, rows)), None)
        if fusion is None:
            continue
        measured = measure_instability(fusion[1], endpoint.name, context.settings.seed)
        if measured is not None:
            found.append(measured)
            sizes[endpoint.name] = fusion[1].outcome.n
    if not found:
        return [Text(lines=("Instability of the fusion: not estimable from these patients.",))]
    return [
        Picture(
            name="instability",
            title=f"Instability: risks of the same patients by the fusion refitted on bootstrap samples,"
            f" {table.cutoff_cohort}",
            png=draw_instability(found),
        ),
        Table(
            name="instability_numbers",
            title="Instability of individual predictions",
            header=(
                "Endpoint",
                "Month",
                "Patients",
                "Refits",
                "Mean absolute difference",
                "Width of the central 95% of refits, 95th percentile of patients",
            ),
            rows=tuple(
                Row(
                    cells=(
                        entry.endpoint,
                        f"{entry.month:g}",
                        str(sizes[entry.endpoint]),
                        str(entry.refitted.shape[0]),
                        f"{entry.difference:.3f}",
                        f"{entry.widest:.3f}",
                    )
                )
                for entry in found
            ),
            notes=(
                "The fusion (Cox model with a light ridge on the Ensemble-DL score and the pre-specified variables) is"
                " refitted on each sample; networks and forest are not. Riley & Collins 2023.",
            ),
        ),
    ]


def _fusions(
    context: Context, endpoint: EndpointColumns, rows: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
) -> list[tuple[str, FusionInputs]]:
    """The fusion with the score, and the clinical variables alone, where the table holds them."""
    score = context.find(ENSEMBLE_MODEL) or context.reference
    found = []
    for title, column in (("score and clinical", score), ("clinical alone", None)):
        if title == "score and clinical" and column is None:
            continue
        inputs = gather_inputs(context.table, column, endpoint, rows)
        if inputs is not None:
            words = title if column is None else f"{canonical_model(column)} and clinical"
            found.append((words, inputs))
    return found
