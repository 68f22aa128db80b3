"""Writes radiomics_scales.csv: each feature's median absolute value over the test regions, by stock pyradiomics.

Run from the repository's root with the public test data in place:
    python -m tests.golden.radiomics_scales
"""

import csv
import math
from collections import defaultdict

import numpy as np

from engines.radiomics.settings import parse_settings
from engines.radiomics.stock import extract_stock
from tests.conftest import find_test_data
from tests.radiomics_regions import SCALES_FILE, awkward_cases, organ_cases


def main() -> None:
    values = defaultdict(list)
    settings = parse_settings({})
    for _, image, mask in [*organ_cases(find_test_data()), *awkward_cases()]:
        for name, value in extract_stock(image, mask, settings).items():
            if not math.isnan(value):
                values[name].append(abs(value))
    with SCALES_FILE.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["feature", "scale"])
        rows.writerows((name, repr(float(np.median(found)))) for name, found in sorted(values.items()))


if __name__ == "__main__":
    main()
