"""The IBSI 1 digital phantom: within the consensus tolerances, with the reason where pyradiomics defines otherwise."""

import csv
import math
from pathlib import Path

import pytest
import SimpleITK as sitk

from engines.radiomics.measurement import measure_region
from engines.radiomics.names import FEATURE_NAMES
from engines.radiomics.settings import parse_settings
from engines.volume import Volume

GOLDEN = Path(__file__).resolve().parent.parent / "golden"

WITHOUT_COUNTERPART = {
    "shape_Maximum2DDiameterSlice": "IBSI defines no diameter in a plane",
    "shape_Maximum2DDiameterColumn": "IBSI defines no diameter in a plane",
    "shape_Maximum2DDiameterRow": "IBSI defines no diameter in a plane",
    "firstorder_TotalEnergy": "IBSI has the energy of the grey values without the voxel's volume",
    "glcm_MCC": "IBSI 1 has no maximal correlation coefficient",
}
VOXELS = 74
AXIS = "pyradiomics divides the covariance of the voxel centres by n, the consensus by n - 1"
DEFINED_DIFFERENTLY = {
    "firstorder_Kurtosis": ("IBSI subtracts the 3 of a normal distribution", lambda value: value - 3.0),
    "shape_MajorAxisLength": (AXIS, lambda value: value * math.sqrt(VOXELS / (VOXELS - 1))),
    "shape_MinorAxisLength": (AXIS, lambda value: value * math.sqrt(VOXELS / (VOXELS - 1))),
    "shape_LeastAxisLength": (AXIS, lambda value: value * math.sqrt(VOXELS / (VOXELS - 1))),
}


@pytest.fixture(scope="module")
def phantom(test_data):
    folder = test_data / "ibsi" / "digital-phantom"
    image = Volume.of_image(sitk.ReadImage(str(folder / "image" / "phantom.nii.gz")))
    mask = Volume.of_image(sitk.ReadImage(str(folder / "mask" / "mask.nii.gz")))
    # The phantom's grey values are its levels; bins of one from 1 upwards leave them as they are.
    return measure_region(image, mask, parse_settings({"setting": {"binWidth": 1}}))


@pytest.fixture(scope="module")
def consensus(test_data):
    path = test_data / "ibsi" / "ibsi_1_reference_values_digital_phantom.csv"
    with path.open(encoding="utf-8-sig") as rows:
        return {
            row["tag"]: (float(row["reference value"]), float(row["tolerance"]))
            for row in csv.DictReader(rows)
            if row["reference value"]
        }


def counterparts():
    with (GOLDEN / "ibsi_features.csv").open() as rows:
        return [(row["pyradiomics"], row["ibsi_tag"]) for row in csv.DictReader(rows)]


def printed_precision(value: float) -> float:
    """Half a unit of the third digit: the consensus values are printed with three."""
    return 0.5 * 10 ** (math.floor(math.log10(abs(value))) - 2)


def test_every_feature_has_an_ibsi_counterpart_or_a_reason_for_none():
    ours = {f"{group}_{name}" for group, names in FEATURE_NAMES.items() for name in names}
    assert {name for name, _ in counterparts()} | set(WITHOUT_COUNTERPART) == ours


@pytest.mark.data
def test_features_lie_within_the_consensus_tolerances(phantom, consensus):
    apart = {}
    for name, tag in counterparts():
        reference, tolerance = consensus[tag]
        found = phantom[f"original_{name}"]
        if name in DEFINED_DIFFERENTLY:
            found = DEFINED_DIFFERENTLY[name][1](found)
        if abs(found - reference) > tolerance + printed_precision(reference):
            apart[name] = (found, reference, tolerance)
    assert not apart
