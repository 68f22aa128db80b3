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
ENSEMBLES = "ensembles.csv"

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
        complete: every run of the plan is finished, and every ensemble has its forest.
        missing: runs and ensembles that are not there, in words.
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
class Measure:
    """C of one score in one part of the cohort.

    Attributes:
        n: patients with follow-up.
        events: among them.
        c_index: None where not estimable.
        low: of the 95 % percentile bootstrap.
        high: of the same.
    """

    n: int
    events: int
    c_index: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationCell(Measure):
    """C of one network in one part of the cohort.

    Attributes:
        network: which.
        phases: input channels as letters, e.g. ``A+V``.
        seed: of the run.
        cohort: training (apparent), validation (selected on), testing, or training or validation (out-of-fold).
    """

    network: NetworkName
    phases: str
    seed: int
    endpoint: str
    cohort: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleCell(Measure):
    """C of one combination of the three networks in one part of the cohort.

    Attributes:
        ensemble: ``Network 1``, ``Network 1+2`` ...
        seed: of its networks.
        cohort: as a fit names them.
    """

    ensemble: str
    seed: int
    endpoint: str
    cohort: str


def write_ablation(
    folder: Path, record: AblationRecord, cells: Sequence[AblationCell], ensembles: Sequence[EnsembleCell]
) -> None:
    """Writes ablation.csv, ensembles.csv and then ablation.json, each atomically."""
    _write_cells(folder / CELLS, AblationCell, cells)
    _write_cells(folder / ENSEMBLES, EnsembleCell, ensembles)
    content = TypeAdapter(AblationRecord).dump_python(record, mode="json")
    write_json({"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **content}, folder / RECORD)


def read_ablation(folder: Path) -> "Ablation":
    """Returns what an ablation left in its folder.

    Raises:
        AblationRefused: it is no such folder, of another version, or damaged.
    """
    try:
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        rows = _read_rows(folder / CELLS)
        ensembles = _read_rows(folder / ENSEMBLES) if (folder / ENSEMBLES).is_file() else []
    except (OSError, ValueError) as error:
        raise AblationRefused(f"{folder} holds no ablation that can be read: {error}") from error
    if (content.get("schema"), content.get("schema_version")) != (SCHEMA, SCHEMA_VERSION):
        raise AblationRefused(f"{folder / RECORD} is not {SCHEMA} version {SCHEMA_VERSION}")
    body = {key: value for key, value in content.items() if key not in ("schema", "schema_version")}
    try:
        return Ablation(
            record=TypeAdapter(AblationRecord).validate_python(body),
            cells=TypeAdapter(tuple[AblationCell, ...]).validate_python(rows),
            ensembles=TypeAdapter(tuple[EnsembleCell, ...]).validate_python(ensembles),
        )
    except ValidationError as error:
        raise AblationRefused(f"{folder} is damaged: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """An ablation on disk.

    Attributes:
        record: ablation.json.
        cells: ablation.csv, supplementary Tables 2 and 3.
        ensembles: ensembles.csv, supplementary Table 4; empty where it was not asked for.
    """

    record: AblationRecord
    cells: tuple[AblationCell, ...]
    ensembles: tuple[EnsembleCell, ...]


def _write_cells(
    path: Path, kind: type[AblationCell] | type[EnsembleCell], cells: Sequence[AblationCell | EnsembleCell]
) -> None:
    own = {item.name for item in fields(Measure)}
    names = sorted(
        (item.name for item in fields(kind)), key=lambda name: name in own
    )  # what it is of comes first
    lines = [
        ["" if value is None else str(value) for value in (getattr(cell, name) for name in names)]
        for cell in cells
    ]
    with replaced(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([names, *lines])


def _read_rows(path: Path) -> list[dict[str, str | None]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {key: None if value == "" else value for key, value in row.items()}
            for row in csv.DictReader(file)
        ]
