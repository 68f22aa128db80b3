"""Which cases train, validate, test: from a file, or drawn by patient with the event rate kept."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from train.data import Split
from train.errors import CohortRefused

FILE_NAME = "splits.csv"
VALIDATION_SHARE = 0.2
"""The paper's 130 of 650 (supplement: random 520 training and 130 validation)."""


def read_splits(path: Path, case_ids: Sequence[str]) -> dict[str, Split]:
    """Returns the split of each case that ``splits.csv`` (columns case_id, split) states.

    Raises:
        CohortRefused: it is no table in UTF-8, or a case that the cohort lacks, twice, without split, or with a word that
            is no split.
    """
    known, found = set(case_ids), dict[str, Split]()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CohortRefused(f"{path.name} is not UTF-8: {error}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), restval="")
    if reader.fieldnames is None or not {"case_id", "split"} <= set(reader.fieldnames):
        raise CohortRefused(f"{path.name} has columns {reader.fieldnames}; expected case_id, split")
    for row in reader:
        case_id, word = row["case_id"].strip(), row["split"].strip().lower()
        if case_id not in known:
            raise CohortRefused(f"{path.name} names case {case_id}, which the cohort does not hold")
        if case_id in found:
            raise CohortRefused(f"{path.name} names case {case_id} twice")
        if word not in {split.value for split in Split}:
            words = ", ".join(split.value for split in Split)
            raise CohortRefused(f"{path.name}: case {case_id} has split '{word}'; expected one of {words}")
        found[case_id] = Split(word)
    absent = [case_id for case_id in case_ids if case_id not in found]
    if absent:
        raise CohortRefused(f"{path.name} gives no split for {len(absent)} cases: {', '.join(absent[:10])}")
    return found


def draw_splits(
    patients: Mapping[str, str], events: Mapping[str, bool | None], seed: int, share: float = VALIDATION_SHARE
) -> dict[str, Split]:
    """Returns a random split of the cases into training and validation, whole patients, events spread evenly.

    A patient without any known outcome is UNLABELLED.

    Args:
        patients: case id -> patient key.
        events: case id -> whether death was seen, or progression where only that is known; None when neither is.
        seed: of the draw; the same seed and cohort give the same split.
        share: of patients who validate.
    """
    by_patient: dict[str, bool | None] = {}
    for case_id in sorted(patients):
        key, event = patients[case_id], events[case_id]
        by_patient[key] = event if by_patient.get(key) is None else by_patient[key] or bool(event)
    random = np.random.default_rng(seed)
    words: dict[str, Split] = {key: Split.UNLABELLED for key, event in by_patient.items() if event is None}
    for wanted in (True, False):
        keys = [key for key, event in by_patient.items() if event is wanted]
        shuffled = [keys[index] for index in random.permutation(len(keys))]
        validating = round(share * len(keys))
        words |= dict.fromkeys(shuffled[:validating], Split.VALIDATION)
        words |= dict.fromkeys(shuffled[validating:], Split.TRAINING)
    return {case_id: words[key] for case_id, key in patients.items()}
