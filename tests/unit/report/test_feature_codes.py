"""Radiomic features in the SR: IBSI's codes as an outside table has them, units, and the phase and region of each."""

import csv

import pytest

from engines.radiomics.names import FEATURE_NAMES, full_name
from node.report.ibsi import OTHER_FEATURE, feature_concept, feature_unit

WITHOUT_IBSI = {
    "shape_MajorAxisLength",
    "shape_MinorAxisLength",
    "shape_LeastAxisLength",
    "shape_Maximum2DDiameterColumn",
    "shape_Maximum2DDiameterRow",
    "shape_Maximum2DDiameterSlice",
    "firstorder_Kurtosis",
    "firstorder_TotalEnergy",
    "glcm_MCC",
}
"""Those that tests/golden/ibsi_differences.md names as different or without counterpart."""

TYPED_OTHERWISE = {
    "SmallAreaLowGrayLevelEmphasis",
    "SmallAreaHighGrayLevelEmphasis",
    "LargeAreaLowGrayLevelEmphasis",
    "LargeAreaHighGrayLevelEmphasis",
}
"""The outside table has these under glcm; its IBSI meaning says that they are of the size zone matrix."""


def test_every_feature_has_a_concept_and_those_without_ibsi_are_the_known_ones():
    names = {
        f"{feature_class}_{name}": full_name(feature_class, name)
        for feature_class, features in FEATURE_NAMES.items()
        for name in features
    }
    other = {short for short, name in names.items() if feature_concept(name) == OTHER_FEATURE}
    assert other == WITHOUT_IBSI
    coded = [feature_concept(name).value for short, name in names.items() if short not in other]
    assert len(set(coded)) == len(coded) == 98
    assert feature_concept("wavelet-LLH_glcm_Contrast") == OTHER_FEATURE


def test_the_codes_are_those_of_an_outside_table(test_data):
    table = test_data / "sr-seg" / "pyradiomics-to-ibsi-codes.tsv"
    seen = 0
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            feature_class, name = row["pyradiomics_feature_class"], row["pyradiomics_feature_name"]
            feature_class = "glszm" if name in TYPED_OTHERWISE else feature_class
            if name not in FEATURE_NAMES.get(feature_class, ()):
                continue
            concept = feature_concept(full_name(feature_class, name))
            if concept != OTHER_FEATURE:
                assert (concept.value, concept.meaning) == (row["IBSI_code"], row["IBSI_meaning"])
                seen += 1
    assert seen >= 91


@pytest.mark.parametrize(
    ("feature", "unit"),
    [
        ("original_shape_MeshVolume", "mm3"),
        ("original_shape_SurfaceVolumeRatio", "mm-1"),
        ("original_firstorder_Mean", "[hnsf'U]"),
        ("original_firstorder_Variance", "[hnsf'U]2"),
        ("original_glcm_Imc1", "1"),
        ("original_firstorder_Skewness", "1"),
    ],
)
def test_units_are_those_of_the_quantity(feature, unit):
    assert feature_unit(feature).value == unit
