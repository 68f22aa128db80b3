"""The file features.csv of a case: one line a value, with all that says whether two values may be compared."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engines.errors import CaseRefused
from engines.phase import Phase
from engines.radiomics.features import FeatureTable, FeatureValue
from engines.radiomics.origin import FeatureOrigin
from engines.volume import Grid

COLUMNS = (
    "region",
    "phase",
    "feature",
    "value",
    "settings_sha256",
    "grid",
    "extractor",
    "mask_provider",
    "mask_version",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureLine:
    """One line of the file.

    Attributes:
        region: e.g. ``liver``.
        phase: None for shape.
        feature: pyradiomics' name.
        value: unrounded; NaN where pyradiomics gives NaN.
        settings_sha256: hash of the settings document.
        grid: the grid measured on, as ``describe_grid`` writes it.
        extractor: ``fast`` or ``pyradiomics``.
        mask_provider: who drew the mask.
        mask_version: version of the provider.
    """

    region: str
    phase: Phase | None
    feature: str
    value: float
    settings_sha256: str
    grid: str
    extractor: str
    mask_provider: str
    mask_version: str

    @property
    def measured(self) -> FeatureOrigin:
        """How the value was measured."""
        return FeatureOrigin(
            extractor=self.extractor,
            settings_sha256=self.settings_sha256,
            mask_provider=self.mask_provider,
            mask_version=self.mask_version,
        )


def describe_line(value: FeatureValue) -> FeatureLine:
    """Returns a value as a line of the file."""
    origin = value.origin
    return FeatureLine(
        region=value.region,
        phase=value.phase,
        feature=value.name,
        value=value.value,
        settings_sha256=origin.settings_sha256,
        grid=describe_grid(origin.grid),
        extractor=origin.extractor.value,
        mask_provider=origin.source.provider,
        mask_version=origin.source.version,
    )


def describe_grid(grid: Grid) -> str:
    """Returns a grid in words: spacing, size, first voxel, and the axes where they are not the patient's.

    All triples are (x, y, z), LPS, mm. Numbers are unrounded, so that equal words mean equal grids.
    """
    words = (
        f"spacing {_triple(grid.spacing_mm[::-1])} mm, size {_triple(grid.shape[::-1])},"
        f" first voxel {_triple(grid.origin_mm)} mm"
    )
    if grid.axes == Grid(shape=grid.shape, spacing_mm=grid.spacing_mm, origin_mm=grid.origin_mm).axes:
        return words
    return words + ", axes " + " ".join(_triple(axis) for axis in grid.axes[::-1])


def write_features(table: FeatureTable, path: Path) -> None:
    """Writes features.csv: UTF-8, one line a value; a value that is not a number stands as ``nan``."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for value in table.values:
            line = describe_line(value)
            rows.writerow(
                [
                    line.region,
                    line.phase.value if line.phase is not None else "",
                    line.feature,
                    repr(line.value),
                    line.settings_sha256,
                    line.grid,
                    line.extractor,
                    line.mask_provider,
                    line.mask_version,
                ]
            )


def read_features(path: Path) -> tuple[FeatureLine, ...]:
    """Returns the lines of features.csv in their order.

    Raises:
        CaseRefused: the file is absent or not such a file.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if tuple(rows.fieldnames or ()) != COLUMNS:
                raise CaseRefused(f"{path} has columns {rows.fieldnames}, expected {list(COLUMNS)}")
            return tuple(_read_lines(rows))
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise CaseRefused(f"{path} cannot be read as features: {error}") from error


def _read_lines(rows: "csv.DictReader[str]") -> Iterator[FeatureLine]:
    for row in rows:
        yield FeatureLine(
            region=row["region"],
            phase=Phase(row["phase"]) if row["phase"] else None,
            feature=row["feature"],
            value=float(row["value"]),
            settings_sha256=row["settings_sha256"],
            grid=row["grid"],
            extractor=row["extractor"],
            mask_provider=row["mask_provider"],
            mask_version=row["mask_version"],
        )


def _triple(numbers: tuple[float, ...] | tuple[int, ...]) -> str:
    return "(" + ", ".join(repr(number) for number in numbers) + ")"
