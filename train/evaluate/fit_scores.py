"""The scores of a fit as a table to evaluate: out-of-fold first, the same patients apparent beside it, then the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from engines.survival.outcome import BoolArray, FloatArray
from train.data import Split
from train.errors import CohortRefused
from train.evaluate.score_file import read_score_table
from train.evaluate.score_table import (
    DISCOVERY_PARTS,
    FIT_COPIES,
    EndpointColumns,
    ScoreTable,
    describe_data,
    order_cohorts,
)
from train.fit_folder import Fit

FIT_NOTES = (
    "Training and validation rows are out-of-fold: networks, forest, checkpoint choice, selection and Cox models that"
    " scored a patient have not seen the patient. Beside them, marked, the same patients scored by the released parts:"
    " training apparent; validation selected on for the networks, whose checkpoints were chosen there, and apparent for the"
    " fused models (forests, Radiomic, Benchmark, Ensemble-DL, MMF), which are fitted on training and validation together."
    " Neither supports a claim.",
    "One thing is not strictly out-of-fold: MMF of fold k is fitted on the other folds' out-of-fold Ensemble-DL scores,"
    " whose networks have seen fold k. On cohorts without any signal the C of out-of-fold MMF was about .004 to .007 too"
    " high for it.",
    "Testing and external rows are scored by the released parts, which were fitted without them.",
    "Cut-offs come from the out-of-fold discovery scores and belong to the fit.",
)


def read_fit_scores(fit: Fit, external: Sequence[ScoreTable] = ()) -> ScoreTable:
    """Returns the scores of a fit, and of further cohorts that its released parts have scored, as one table.

    Args:
        fit: a finished fit.
        external: further cohorts, each under its own name.

    Raises:
        InvalidInput: a table of the fit is damaged.
        CohortRefused: cohorts of one name, or a patient in two of them.
    """
    own, copied = _read_pair(fit.paths.out_of_fold, fit.paths.apparent)
    parts = [*own, *external]
    _refuse_repeats(parts)
    cutoffs: dict[str, dict[str, float]] = {}
    for record in fit.record.cutoffs:
        cutoffs.setdefault(record.endpoint.value, {})[record.model] = record.value
    notes = (*FIT_NOTES, *fit.record.limits, *(note for part in external for note in part.notes))
    first = stack_tables(parts)
    return replace(
        stack_tables([*parts, copied]),
        name=fit.record.cohort.name + "".join(f", {Path(part.name).stem}" for part in external),
        sha256=fit.record.plan,
        notes=(*notes, *describe_data(first.endpoints, first.clinical)),
        released_cutoffs=cutoffs,
    )


def read_ensemble_scores(fit: Fit) -> ScoreTable | None:
    """Returns the scores of every network, pair and all three; None where the fit has none.

    Raises:
        InvalidInput: a table of the fit is damaged.
    """
    paths = (fit.paths.ensembles_out_of_fold, fit.paths.ensembles_apparent)
    if not all(path.is_file() for path in paths):
        return None
    own, copied = _read_pair(*paths)
    return stack_tables([*own, copied])


def _read_pair(first: Path, second: Path) -> tuple[list[ScoreTable], ScoreTable]:
    """The discovery rows out-of-fold and the rows of no fit; and the discovery rows by the released parts, as copies."""
    out_of_fold, apparent = read_score_table(first), read_score_table(second)
    apparent = take_rows(apparent, apparent.cohort != Split.UNLABELLED.value)
    discovery = np.isin(apparent.cohort, DISCOVERY_PARTS)
    copies = np.array([FIT_COPIES.get(str(word), str(word)) for word in apparent.cohort], dtype=np.str_)
    own = [
        take_rows(out_of_fold, np.isin(out_of_fold.cohort, DISCOVERY_PARTS)),
        take_rows(apparent, ~discovery),
    ]
    return own, take_rows(replace(apparent, cohort=copies), discovery)


def take_rows(table: ScoreTable, rows: BoolArray) -> ScoreTable:
    """Returns some rows of a table, everything else unchanged.

    Args:
        table: of n patients.
        rows: (n,) which.
    """
    index = np.flatnonzero(rows)
    cohort = table.cohort[rows]
    cohorts, cutoff_cohort = order_cohorts(cohort) if index.size else ((), "")
    return replace(
        table,
        patient_ids=tuple(table.patient_ids[row] for row in index),
        cohort=cohort,
        cohorts=cohorts,
        cutoff_cohort=cutoff_cohort,
        endpoints=tuple(
            EndpointColumns(name=endpoint.name, time=endpoint.time[rows], event=endpoint.event[rows])
            for endpoint in table.endpoints
        ),
        scores={
            model: {endpoint: score[rows] for endpoint, score in by_endpoint.items()}
            for model, by_endpoint in table.scores.items()
        },
        clinical={
            variable: tuple(values[row] for row in index) for variable, values in table.clinical.items()
        },
        groups={name: tuple(words[row] for row in index) for name, words in table.groups.items()},
        background={name: values[rows] for name, values in table.background.items()},
    )


def stack_tables(parts: Sequence[ScoreTable]) -> ScoreTable:
    """Returns the rows of several tables one below the other; what a part lacks is missing there.

    Args:
        parts: at least one, of the same endpoints; name, hash, notes and cut-offs are those of the first.

    Raises:
        CohortRefused: the endpoints differ.
    """
    filled = [part for part in parts if part.patient_ids] or list(parts[:1])
    names = {tuple(endpoint.name for endpoint in part.endpoints) for part in filled}
    if len(names) != 1:
        raise CohortRefused(
            f"cohorts of different endpoints: {', '.join('/'.join(n) for n in sorted(names))}"
        )
    cohort = np.concatenate([part.cohort for part in filled])
    cohorts, cutoff_cohort = order_cohorts(cohort)
    models = list(dict.fromkeys(model for part in filled for model in part.scores))
    variables = dict.fromkeys(variable for part in filled for variable in part.clinical)
    groups = dict.fromkeys(name for part in filled for name in part.groups)
    background = dict.fromkeys(name for part in filled for name in part.background)
    return replace(
        parts[0],
        patient_ids=tuple(patient for part in filled for patient in part.patient_ids),
        cohort=cohort,
        cohorts=cohorts,
        cutoff_cohort=cutoff_cohort,
        endpoints=tuple(
            EndpointColumns(
                name=endpoint.name,
                time=np.concatenate([part.endpoints[place].time for part in filled]),
                event=np.concatenate([part.endpoints[place].event for part in filled]),
            )
            for place, endpoint in enumerate(filled[0].endpoints)
        ),
        scores={
            model: {
                endpoint.name: np.concatenate(
                    [_numbers(part, part.scores.get(model, {}).get(endpoint.name)) for part in filled]
                )
                for endpoint in filled[0].endpoints
            }
            for model in models
        },
        clinical={
            variable: tuple(
                value
                for part in filled
                for value in part.clinical.get(variable, (None,) * len(part.patient_ids))
            )
            for variable in variables
        },
        groups={
            name: tuple(
                word for part in filled for word in part.groups.get(name, ("",) * len(part.patient_ids))
            )
            for name in groups
        },
        background={
            name: np.concatenate([_numbers(part, part.background.get(name)) for part in filled])
            for name in background
        },
    )


def with_facts(
    table: ScoreTable, groups: Mapping[str, Mapping[str, str]], background: Mapping[str, Mapping[str, float]]
) -> ScoreTable:
    """Returns the table with groups and numbers of the examination added by patient; what it has already stays.

    Args:
        table: a checked table.
        groups: group column -> patient -> word.
        background: column -> patient -> number.
    """
    added = {
        name: tuple(words.get(patient, "") for patient in table.patient_ids)
        for name, words in groups.items()
        if name not in table.groups and any(patient in words for patient in table.patient_ids)
    }
    numbers = {
        name: np.array([values.get(patient, np.nan) for patient in table.patient_ids])
        for name, values in background.items()
        if name not in table.background and any(patient in values for patient in table.patient_ids)
    }
    return replace(table, groups={**table.groups, **added}, background={**table.background, **numbers})


def _numbers(part: ScoreTable, values: FloatArray | None) -> FloatArray:
    return np.full(len(part.patient_ids), np.nan) if values is None else values


def _refuse_repeats(parts: Sequence[ScoreTable]) -> None:
    seen: dict[str, str] = {}
    named: list[str] = []
    for part in parts:
        named += dict.fromkeys(str(word) for word in part.cohort)
        for patient, cohort in zip(part.patient_ids, part.cohort, strict=True):
            if patient in seen:
                raise CohortRefused(
                    f"patient {patient} is in {seen[patient]} and in {cohort}; one index scan a patient"
                )
            seen[patient] = str(cohort)
    repeated = {name for name in named if named.count(name) > 1}
    if repeated:
        raise CohortRefused(f"cohorts of one name: {', '.join(sorted(repeated))}; rename a folder")
