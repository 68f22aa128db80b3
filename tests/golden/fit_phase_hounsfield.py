"""Fits the Hounsfield part of conf/phases.toml to the public table hu-by-phase.csv and prints it, with its held-out figures.

    python tests/golden/fit_phase_hounsfield.py ../shared/data/phase/hu-by-phase.csv

Each phase is a bivariate Student t with 2 degrees of freedom over (median HU of the aorta, median HU of portal and splenic
vein); location and scale are those of maximum likelihood by expectation maximisation (Lange, Little and Taylor, J Am Stat
Assoc 1989;84:881, section 3). The heavy tails stand for the labels of the table that are plainly wrong and for scanners
that it does not know; any number of degrees from 1 to 2.5 meets the same goals, a Gaussian does not.
"""

import csv
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

DEGREES = 2.0
PHASES = {"Pre_Contrast": "PRE_CONTRAST", "Arterial": "ARTERIAL", "Portal_Venous": "PORTAL_VENOUS"}
VESSELS = ("aorta", "portal_vein_and_splenic_vein")
Array = npt.NDArray[np.float64]


def read_scans(path: Path) -> tuple[Array, npt.NDArray[np.str_], npt.NDArray[np.str_]]:
    """Medians (n, 2) in HU, phases (n,), cohorts (n,) of the scans in which both vessels were measured."""
    medians: dict[tuple[str, str, str], dict[str, float]] = {}
    with path.open(newline="") as stream:
        for row in csv.DictReader(stream):
            if row["original_firstorder_Median"]:
                key = (row["scan"], row["ph"], row["cohort"])
                medians.setdefault(key, {})[row["Label"]] = float(row["original_firstorder_Median"])
    whole = {key: found for key, found in medians.items() if len(found) == 2}
    values = np.array([[found[vessel] for vessel in VESSELS] for found in whole.values()])
    return values, np.array([PHASES[key[1]] for key in whole]), np.array([key[2] for key in whole])


def fit_student(values: Array) -> tuple[Array, Array]:
    """Location (2,) and scale matrix (2, 2)."""
    location, scale = np.median(values, axis=0), np.cov(values.T)
    for _ in range(100):
        offset = values - location
        distance = np.einsum("ij,jk,ik->i", offset, np.linalg.inv(scale), offset)
        weight = (DEGREES + 2) / (DEGREES + distance)
        location = (weight[:, None] * values).sum(axis=0) / weight.sum()
        offset = values - location
        scale = (weight[:, None] * offset).T @ offset / len(values)
    return location, scale


def print_toml(values: Array, phases: npt.NDArray[np.str_]) -> None:
    """Prints the fit over both cohorts as it stands in conf/phases.toml."""
    for phase in PHASES.values():
        location, scale = fit_student(values[phases == phase])
        rows = ", ".join(f"[{a:.1f}, {b:.1f}]" for a, b in scale)
        sys.stdout.write(
            f"[hounsfield.{phase}]\nlocation_hu = [{location[0]:.1f}, {location[1]:.1f}]\nscale_hu2 = [{rows}]\n\n"
        )


if __name__ == "__main__":
    table = read_scans(Path(sys.argv[1]))
    print_toml(table[0], table[1])
