"""Scores of finished cases: cohorts of case folders, scored by one released model, as a table to evaluate."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from engines.case import Case, CaseIdentity, check_case, list_cases
from engines.clinical.variables import ClinicalVariables, Variable, decode_variables
from engines.endpoint import Endpoint
from engines.models.model import EndpointScores, Scores
from engines.survival.outcome import FloatArray
from train.errors import CohortRefused
from train.evaluate.score_table import EndpointColumns, ScoreTable, describe_data, order_cohorts
from train.splits import FILE_NAME, read_splits

RELEASED_NOTE = (
    "Scores are those of the released model {name} {version}{demonstration}. In cases that it was trained on they are"
    " apparent, not out-of-fold: only cohorts it has not seen support a claim."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    patient: str
    cohort: str
    follow: Mapping[Endpoint, tuple[float, bool] | None]
    clinical: ClinicalVariables
    scores: Scores


def read_case_scores(cohort: Path, external: Sequence[Path] = ()) -> ScoreTable:
    """Returns the scored cases of a cohort and of external cohorts as one table.

    A case takes part with its scores.json (``model.score``), outcomes.json (``{"os": {"months": 12.3, "event": true},
    "pfs": ...}``) and clinical.json; a case without scores is left out, which is said. The cohort's splits.csv names
    training, validation and testing; without it, and for external cohorts, the folder's name is the cohort.

    Args:
        cohort: folder of case folders.
        external: further folders, whose names must differ.

    Raises:
        CohortRefused: cohorts of one name, a patient twice, no scored case, or scores of different models.
        CaseRefused: a case folder is damaged.
    """
    folders = (cohort, *external)
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) != len(names):
        raise CohortRefused(f"cohorts of one name: {', '.join(names)}; rename a folder")
    rows: list[_Row] = []
    unscored = 0
    for folder, name in zip(folders, names, strict=True):
        found, left_out = _read_folder(folder, name)
        rows += found
        unscored += left_out
    _check_rows(rows, names)
    model = rows[0].scores
    labels = np.array([row.cohort for row in rows], dtype=np.str_)
    cohorts, cutoff_cohort = order_cohorts(labels)
    endpoints = tuple(_columns(endpoint, rows) for endpoint in Endpoint)
    clinical = {
        variable: tuple(row.clinical.get(variable) for row in rows)
        for variable in Variable
        if any(row.clinical.get(variable) is not None for row in rows)
    }
    note = RELEASED_NOTE.format(
        name=model.name,
        version=model.version,
        demonstration=" (a demonstration, without meaning)" if model.demonstration else "",
    )
    notes = (note, *([f"{unscored} cases have no scores and are left out."] if unscored else []))
    return ScoreTable(
        name=", ".join(names),
        sha256=model.sha256,
        patient_ids=tuple(row.patient for row in rows),
        cohort=labels,
        cohorts=cohorts,
        cutoff_cohort=cutoff_cohort,
        endpoints=endpoints,
        scores=_scores(rows),
        clinical=clinical,
        groups={},
        notes=(*notes, *describe_data(endpoints, clinical)),
        released_cutoffs=_cutoffs(rows),
    )


def _read_folder(folder: Path, name: str) -> tuple[list[_Row], int]:
    checked = [check_case(path) for path in list_cases(folder)]
    ids = [identity.case_id for _, identity in checked]
    path = folder / FILE_NAME
    splits = {key: split.value for key, split in read_splits(path, ids).items()} if path.is_file() else {}
    rows = [
        _read_row(case, identity, splits.get(identity.case_id, name))
        for case, identity in checked
        if case.has("scores")
    ]
    return rows, len(checked) - len(rows)


def _read_row(case: Case, identity: CaseIdentity, cohort: str) -> _Row:
    try:
        scores = TypeAdapter(Scores).validate_python(case.read_json("scores"))
    except ValidationError as error:
        raise CohortRefused(
            f"case {identity.case_id}: scores.json is not what a model writes: {error}"
        ) from error
    outcomes = case.read_json("outcomes") if case.has("outcomes") else {}
    return _Row(
        patient=identity.patient_key,
        cohort=cohort,
        follow={endpoint: _follow(outcomes, endpoint, identity.case_id) for endpoint in Endpoint},
        clinical=decode_variables(case.read_json("clinical") if case.has("clinical") else {}),
        scores=scores,
    )


def _follow(outcomes: object, endpoint: Endpoint, case_id: str) -> tuple[float, bool] | None:
    entry = outcomes.get(endpoint.value.lower()) if isinstance(outcomes, dict) else None
    if entry is None:
        return None
    months, event = (entry.get("months"), entry.get("event")) if isinstance(entry, dict) else (None, None)
    if isinstance(months, int | float) and isinstance(event, bool) and 0 <= months < math.inf:
        return float(months), event
    raise CohortRefused(
        f"case {case_id}: outcomes.json says {endpoint.value} = {entry!r}; expected months (>= 0) and event (true or"
        " false)"
    )


def _check_rows(rows: Sequence[_Row], names: Sequence[str]) -> None:
    if not rows:
        raise CohortRefused(
            f"no case of {', '.join(names)} has scores.json; score the cases with a model first"
        )
    models = {(row.scores.name, row.scores.version, row.scores.sha256) for row in rows}
    if len(models) > 1:
        words = ", ".join(sorted(f"{name} {version}" for name, version, _ in models))
        raise CohortRefused(
            f"cases are scored by different models ({words}): their scales cannot be compared"
        )
    for patient, count in Counter(row.patient for row in rows).items():
        if count > 1:
            raise CohortRefused(f"patient {patient} has {count} cases; one index scan a patient")


def _columns(endpoint: Endpoint, rows: Sequence[_Row]) -> EndpointColumns:
    known = [row.follow[endpoint] for row in rows]
    return EndpointColumns(
        name=endpoint.value,
        time=np.array([math.nan if entry is None else entry[0] for entry in known]),
        event=np.array([entry is not None and entry[1] for entry in known], dtype=np.bool_),
    )


def _scores(rows: Sequence[_Row]) -> dict[str, dict[str, FloatArray]]:
    """Network log-risks, then the Cox models; a model that a case lacks (no clinical variables) is missing there."""
    scores: dict[str, dict[str, FloatArray]] = {}
    for endpoint in Endpoint:
        by_case = [_values(row.scores.of(endpoint)) for row in rows]
        for model in dict.fromkeys(name for values in by_case for name in values):
            column = np.array([values.get(model, math.nan) for values in by_case])
            scores.setdefault(model, {})[endpoint.value] = column
    # MMF last, as in supplementary Table 1.
    return {model: scores[model] for model in sorted(scores, key=lambda name: name == "MMF")}


def _values(scores: EndpointScores) -> dict[str, float]:
    risks = (*scores.others, scores.risk)
    return dict(scores.log_risks) | {risk.model.value: risk.log_hazard for risk in risks}


def _cutoffs(rows: Sequence[_Row]) -> dict[str, dict[str, float]]:
    return {
        endpoint.value: {
            risk.model.value: risk.cutoff
            for row in rows
            for risk in (*row.scores.of(endpoint).others, row.scores.of(endpoint).risk)
        }
        for endpoint in Endpoint
    }
