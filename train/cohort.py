"""Reads a cohort, a folder of case folders, as training data."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engines.case import Case, CaseIdentity, check_case, list_cases
from engines.clinical.variables import ClinicalVariables, Variable, decode_variables
from engines.errors import InvalidInput
from engines.networks.heads import LABELS
from engines.phase import Phase
from train.cache import open_cache
from train.data import Follow, Split, TrainingData
from train.errors import CohortRefused
from train.splits import FILE_NAME, draw_splits, read_splits

ENDPOINTS = ("os", "pfs")


def read_cohort(
    cohort: Path, phases: Sequence[Phase], side: int, *, seed: int = 0, cache: Path | None = None
) -> TrainingData:
    """Returns the cohort as training data, its inputs memory-mapped.

    Each case gives network_input.npy; clinical.json (the 16 variables) and outcomes.json
    (``{"os": {"months": 12.3, "event": true}, "pfs": {...}}``) where they are known. Splits come from splits.csv in
    the cohort, or are drawn by patient from the seed. A case without any outcome is unlabelled. Testing cases are read so
    that duplicates are found and scores can be written; nothing is learned or chosen from them.

    Args:
        cohort: folder of case folders.
        phases: input channels.
        side: voxels of the inputs.
        seed: of the drawn splits.
        cache: where the float16 cache is kept; ``.cache`` in the cohort when None.

    Raises:
        CohortRefused: a fault of the cohort, named with its case.
        CaseRefused: a case folder is damaged.
    """
    if not cohort.is_dir():
        raise CohortRefused(
            f"{cohort} is no folder; expected a cohort: a folder of case folders (NAME/case.json)"
        )
    checked = [check_case(folder) for folder in list_cases(cohort)]
    ids = [identity.case_id for _, identity in checked]
    follow = {word: _read_follow(word, checked) for word in ENDPOINTS}
    splits = assign_splits(cohort, checked, seed)
    clinical = [_read_clinical(case, identity.case_id) for case, identity in checked]
    return TrainingData(
        inputs=open_cache(
            cache or cohort / ".cache", [(i.case_id, case) for case, i in checked], phases, side
        ),
        case_ids=ids,
        patient_keys=[identity.patient_key for _, identity in checked],
        splits=[splits[identity.case_id] for _, identity in checked],
        os=follow["os"],
        pfs=follow["pfs"],
        age_years=np.array([_age(variables) for variables in clinical]),
        labels=np.array([[_indicator(variables, label) for label in LABELS] for variables in clinical]),
    )


def assign_splits(cohort: Path, checked: Sequence[tuple[Case, CaseIdentity]], seed: int) -> dict[str, Split]:
    """Returns the split of each case by its id: from splits.csv, else drawn; labelled where either outcome is known.

    Args:
        cohort: folder of case folders.
        checked: its cases.
        seed: of the drawn splits.

    Raises:
        CohortRefused: a case id twice, or a fault of splits.csv or of outcomes.json.
    """
    ids = [identity.case_id for _, identity in checked]
    twice = {case_id for case_id in ids if ids.count(case_id) > 1}
    if twice:
        raise CohortRefused(f"case id {min(twice)} occurs in {ids.count(min(twice))} folders")
    if (cohort / FILE_NAME).is_file():
        return read_splits(cohort / FILE_NAME, ids)
    deaths, progressions = (_read_follow(word, checked).event for word in ENDPOINTS)
    seen = np.where(np.isnan(deaths), progressions, deaths)
    events = [None if math.isnan(event) else bool(event) for event in seen]
    patients = {identity.case_id: identity.patient_key for _, identity in checked}
    return draw_splits(patients, dict(zip(ids, events, strict=True)), seed)


def _read_follow(endpoint: str, checked: Sequence[tuple[Case, CaseIdentity]]) -> Follow:
    months, events = [], []
    for case, identity in checked:
        content = case.read_json("outcomes") if case.has("outcomes") else {}
        words = list(content) if isinstance(content, dict) else [str(content)]
        named = {word for word in words if word.casefold() in ENDPOINTS}
        if not isinstance(content, dict) or not named <= set(ENDPOINTS) or (words and not named):
            raise CohortRefused(
                f"case {identity.case_id}: outcomes.json holds {words}; expected {' and '.join(ENDPOINTS)}"
            )
        entry = content.get(endpoint)
        if entry is None:
            months.append(math.nan)
            events.append(math.nan)
            continue
        time, event = (entry.get("months"), entry.get("event")) if isinstance(entry, dict) else (None, None)
        if isinstance(time, bool) or not isinstance(time, int | float) or not isinstance(event, bool):
            raise CohortRefused(
                f"case {identity.case_id}: outcomes.json says {endpoint} = {entry!r}; expected months (a number) and "
                "event (true or false)"
            )
        months.append(float(time))
        events.append(float(event))
    return Follow(months=np.array(months), event=np.array(events))


def _read_clinical(case: Case, case_id: str) -> ClinicalVariables:
    try:
        return decode_variables(case.read_json("clinical") if case.has("clinical") else {})
    except InvalidInput as error:
        raise CohortRefused(f"case {case_id}: clinical.json: {error}") from error


def _age(variables: ClinicalVariables) -> float:
    value = variables.get(Variable.AGE)
    return math.nan if value is None or value.number is None else value.number


def _indicator(variables: ClinicalVariables, label: str) -> float:
    found = variables.indicator(Variable(label))
    return math.nan if found is None else found
