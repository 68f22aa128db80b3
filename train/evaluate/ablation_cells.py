"""The results of an ablation as cells: what was trained on which phases, and its C in each part of the cohort."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from engines.case import replaced, write_json
from engines.networks.settings import NetworkName
from train.errors import AblationRefused

SCHEMA = "mmf-ablation"
SCHEMA_VERSION = 1
RECORD = "ablation.json"
CELLS = "ablation.csv"

ALL_PHASES = "A+V+D"
PHASE_SETS = ("A", "V", "D", "A+V", "A+D", "V+D", ALL_PHASES)
"""Rows of supplementary Table 3, in its order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationRecord:
    """ablation.json.

    Attributes:
        cohort: name of its folder.
        cases: number of cases.
        synthetic: every case is made of phantoms.
        recipe: name.
        seeds: of the networks.
        device: where the runs were made.
        fit: folder name of the fit whose runs were taken over; "" = none.
        complete: every run of the plan is finished.
        missing: runs that are not, in words.
        digest: of the cohort, as fit.json has it; "" = an older ablation, which does not tell.
    """

    cohort: str
    cases: int
    synthetic: bool
    recipe: str
    seeds: tuple[int, ...]
    device: str
    fit: str
    complete: bool
    missing: tuple[str, ...]
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationCell:
    """C of one network in one part of the cohort.

    Attributes:
        network: which.
        phases: input channels as letters, e.g. ``A+V``.
        seed: of the run.
        cohort: training (apparent), validation (selected on), testing, or training or validation (out-of-fold).
        n: patients with follow-up.
        c_index: None where not estimable.
        low: of the 95 % percentile bootstrap.
    """

    network: NetworkName
    phases: str
    seed: int
    endpoint: str
    cohort: str
    n: int
    events: int
    c_index: float | None
    low: float | None
    high: float | None


def write_ablation(folder: Path, record: AblationRecord, cells: Sequence[AblationCell]) -> None:
    """Writes ablation.csv and then ablation.json, each atomically."""
    names = [item.name for item in fields(AblationCell)]
    lines = [
        ["" if value is None else str(value) for value in (getattr(cell, name) for name in names)]
        for cell in cells
    ]
    with replaced(folder / CELLS) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([names, *lines])
    content = TypeAdapter(AblationRecord).dump_python(record, mode="json")
    write_json({"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **content}, folder / RECORD)


def read_ablation(folder: Path) -> tuple[AblationRecord, tuple[AblationCell, ...]]:
    """Returns what an ablation left in its folder.

    Raises:
        AblationRefused: it is no such folder, of another version, or damaged.
    """
    try:
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        with (folder / CELLS).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError) as error:
        raise AblationRefused(f"{folder} holds no ablation that can be read: {error}") from error
    if (content.get("schema"), content.get("schema_version")) != (SCHEMA, SCHEMA_VERSION):
        raise AblationRefused(f"{folder / RECORD} is not {SCHEMA} version {SCHEMA_VERSION}")
    body = {key: value for key, value in content.items() if key not in ("schema", "schema_version")}
    try:
        record = TypeAdapter(AblationRecord).validate_python(body)
        cells = TypeAdapter(tuple[AblationCell, ...]).validate_python(
            [{key: None if value == "" else value for key, value in row.items()} for row in rows]
        )
    except ValidationError as error:
        raise AblationRefused(f"{folder} is damaged: {error}") from error
    return record, cells
