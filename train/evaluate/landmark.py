"""All models on the landmark subset of mRECIST: those free of progression at their first follow-up CT, time from there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from engines.endpoint import Endpoint
from engines.errors import SurvivalRefused
from engines.survival.bootstrap import bootstrap_concordance, draw_resamples, percentile_interval
from engines.survival.concordance import harrell_c
from engines.survival.outcome import BoolArray, FloatArray
from train.evaluate.document import Row, Table, Text
from train.evaluate.measures import ModelRecord, Settings
from train.evaluate.score_table import EndpointColumns, ScoreTable
from train.evaluate.tables import heading
from train.evaluate.treatment import FIRST_CT_MONTHS, NON_RESPONDER, PROGRESSIVE
from train.evaluate.words import LANDMARK_TITLE, SEE_LANDMARK, estimate_text
from train.fit_folder import MRECIST, MRECIST_FROM_START
from train.response_model import Responses

TITLE = LANDMARK_TITLE


@dataclass(frozen=True, slots=True, kw_only=True)
class LandmarkRecord:
    """One model among the patients of the subset, time counted from the landmark.

    Attributes:
        n: patients of the subset with follow-up and score.
        events: among them.
        c_index: Harrell's; None where no pair is comparable.
        low: of the percentile bootstrap; None where too few resamples are comparable.
    """

    cohort: str
    endpoint: str
    model: str
    n: int
    events: int
    c_index: float | None
    low: float | None
    high: float | None


def leave_to_landmark(table: ScoreTable) -> ScoreTable:
    """Returns the table of a fit without the score of mRECIST for progression, whose time is not that of the table.

    Args:
        table: of a fit, where mRECIST for PFS was fitted from each patient's first follow-up CT.
    """
    if MRECIST not in table.scores:
        return table
    kept = {
        endpoint: values if endpoint == Endpoint.OS.value else np.full_like(values, np.nan)
        for endpoint, values in table.scores[MRECIST].items()
    }
    return replace(table, scores={**table.scores, MRECIST: kept})


def explain_records(records: Sequence[ModelRecord]) -> tuple[ModelRecord, ...]:
    """Returns the records of a table as ``leave_to_landmark`` gives it, those of mRECIST for progression with their reason."""
    return tuple(
        replace(
            record,
            reason=SEE_LANDMARK,
            auc=tuple(replace(auc, reason=SEE_LANDMARK) for auc in record.auc),
        )
        if record.model == MRECIST and record.endpoint != Endpoint.OS.value
        else record
        for record in records
    )


def start_at_landmark(table: ScoreTable) -> ScoreTable | None:
    """Returns the table with time counted from each first follow-up CT, follow-up unknown outside the subset.

    The subset: patients whose response can be told, observed beyond the CT without progression. A patient whose follow-up
    for one endpoint ends at the CT or before has none for that endpoint. Scores stay as they are.

    Args:
        table: with the numbers ``NON_RESPONDER`` and ``FIRST_CT_MONTHS``.

    Returns:
        None where no patient is in the subset: the CTs have no dates, or the table has no endpoint of progression.

    Source: method, section 7.
    """
    progression = _progression(table)
    if progression is None or not {NON_RESPONDER, FIRST_CT_MONTHS} <= set(table.background):
        return None
    responses = _responses(table)
    free = responses.free_of_progression(progression.time)
    if not free.any():
        return None
    return replace(
        table, endpoints=tuple(_shift(endpoint, free, responses.months) for endpoint in table.endpoints)
    )


def measure_from_landmark(
    shifted: ScoreTable, cohorts: Sequence[str], settings: Settings
) -> tuple[LandmarkRecord, ...]:
    """Returns C of every model with its bootstrap interval, by cohort and endpoint.

    mRECIST without landmark is left out: on the subset it tells the same responders from the same non-responders.

    Args:
        shifted: as ``start_at_landmark`` gives it.
        cohorts: those to measure, in order.
        settings: repeats and seed of the bootstrap.
    """
    models = [model for model in shifted.scores if model != MRECIST_FROM_START]
    found: list[LandmarkRecord] = []
    for cohort in cohorts:
        for endpoint in shifted.endpoints:
            rows = shifted.rows(cohort) & endpoint.known
            scores = {model: shifted.scores[model][endpoint.name] for model in models}
            found += _measure(cohort, endpoint, rows, scores, settings)
    return tuple(found)


def landmark_table(table: ScoreTable, cohorts: Sequence[str], settings: Settings, note: str) -> Text | Table:
    """Returns C of all models on the landmark subset, or a sentence where there is no such subset.

    Args:
        table: checked scores.
        cohorts: those to show, in order.
        settings: repeats and seed of the bootstrap.
        note: on intervals.
    """
    shifted = start_at_landmark(table)
    if shifted is None:
        return Text(
            lines=(
                f"{TITLE}: not shown, no patient is known to have been free of progression at a dated first follow-up CT."
                " The dates come from response.json of the cases by way of `mmf-train fit`.",
            )
        )
    rows: list[Row] = []
    records = measure_from_landmark(shifted, cohorts, settings)
    for cohort in cohorts:
        rows.append(heading(_describe_subset(table, shifted, cohort)))
        rows += [
            Row(
                cells=(
                    record.endpoint,
                    record.model,
                    str(record.n),
                    str(record.events),
                    estimate_text(record.c_index, record.low, record.high, 3),
                )
            )
            for record in records
            if record.cohort == cohort
        ]
    return Table(
        name="landmark_models",
        title=TITLE,
        header=("Endpoint", "Model", "n", "Events", "Harrell's C from the landmark (95% CI)"),
        rows=tuple(rows),
        notes=(
            "Time zero is each patient's first follow-up CT; the patients are those whose response could be told there and"
            " who were observed beyond it without progression. Progression at that CT is response and event at once, so"
            " mRECIST for PFS speaks of these patients only; here the other models are measured on the same ones.",
            "Scores are unchanged: mRECIST for PFS was fitted from the landmark, every other score with time from the"
            f" first dose. {MRECIST_FROM_START} is left out: it tells the same responders from the same others.",
            note,
        ),
    )


def _progression(table: ScoreTable) -> EndpointColumns | None:
    """PFS, or TTP."""
    return next((one for one in table.endpoints if one.name != Endpoint.OS.value), None)


def _responses(table: ScoreTable) -> Responses:
    told = table.background.get(PROGRESSIVE)
    return Responses(
        non_responder=table.background[NON_RESPONDER],
        months=table.background[FIRST_CT_MONTHS],
        progressive=None if told is None else told == 1,
    )


def _shift(endpoint: EndpointColumns, free: BoolArray, months: FloatArray) -> EndpointColumns:
    with np.errstate(invalid="ignore"):
        inside = free & (endpoint.time > months)
    return EndpointColumns(
        name=endpoint.name,
        time=np.where(inside, endpoint.time - months, np.nan),
        event=endpoint.event & inside,
    )


def _measure(
    cohort: str,
    endpoint: EndpointColumns,
    rows: BoolArray,
    scores: Mapping[str, FloatArray],
    settings: Settings,
) -> list[LandmarkRecord]:
    """Models that are scored on the same patients share their resamples."""
    scored = {model: rows & ~np.isnan(score) for model, score in scores.items()}
    found: dict[str, LandmarkRecord] = {}
    for used in {mask.tobytes(): mask for mask in scored.values()}.values():
        members = [model for model, mask in scored.items() if (mask == used).all()]
        n, events = int(used.sum()), int(endpoint.event[used].sum())
        points: list[float | None] = [None] * len(members)
        drawn = np.full((1, len(members)), np.nan)
        if n:
            outcome = endpoint.outcome(used)
            values = np.stack([scores[model][used] for model in members])
            try:
                points = [harrell_c(row, outcome) for row in values]
                resamples = draw_resamples(n, settings.repeats, settings.seed)
                drawn = bootstrap_concordance(values, outcome, resamples)
            except SurvivalRefused:
                pass  # no pair is comparable, whatever the score: the row says so
        for place, model in enumerate(members):
            interval = percentile_interval(drawn[:, place])
            found[model] = LandmarkRecord(
                cohort=cohort,
                endpoint=endpoint.name,
                model=model,
                n=n,
                events=events,
                c_index=points[place],
                low=interval.low if interval else None,
                high=interval.high if interval else None,
            )
    return [found[model] for model in scores]


def _describe_subset(table: ScoreTable, shifted: ScoreTable, cohort: str) -> str:
    """How many of a cohort are in the subset, and why the others are not."""
    before, after = _progression(table), _progression(shifted)
    rows = table.rows(cohort)
    if before is None or after is None:
        return table.title(cohort)
    responses = _responses(table)
    dated = np.isfinite(responses.non_responder) & np.isfinite(responses.months)
    known, inside = rows & before.known, rows & after.known
    return (
        f"{table.title(cohort)}: {int(inside.sum())} of {int(known.sum())} patients;"
        f" {int((known & dated & ~inside).sum())} had progressed, died or left by their first follow-up CT,"
        f" {int((known & ~dated).sum())} have no response with a date"
    )
