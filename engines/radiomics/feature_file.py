"""features.csv of a case: one line a value, with where it comes from; NaN is written as ``nan``, never left out."""

import csv
import io
from pathlib import Path

from engines.case import replaced
from engines.radiomics.features import FeatureTable

COLUMNS = (
    "region",
    "phase",
    "feature",
    "value",
    "extractor",
    "settings_sha256",
    "provider",
    "provider_version",
)
"""``phase`` is empty for shape features, which have none."""


def write_features(table: FeatureTable, path: Path) -> None:
    """Writes the features of a study as CSV (UTF-8, floats unrounded), atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for value in table.values:
        origin = value.origin
        writer.writerow(
            [
                value.region,
                "" if value.phase is None else value.phase.value,
                value.name,
                repr(float(value.value)),
                origin.extractor.value,
                origin.settings_sha256,
                origin.source.provider,
                origin.source.version,
            ]
        )
    with replaced(path) as draft:
        draft.write_text(text.getvalue(), encoding="utf-8")
