"""Organs, enhancement and the baseline segmenter on real CT, read as the node reads it."""

import numpy as np
import pytest
import SimpleITK as sitk

from engines.enhancement import measure_enhancement
from engines.errors import RegistrationRefused, SegmentationRefused
from engines.registration import align
from engines.segmentation.baseline import BaselineSegmenter
from engines.segmentation.quality import check_segmentation
from engines.volume import Volume, resample
from node.dicom.headers import read_folder
from node.dicom.volumes import read_volume
from node.phases.acquisitions import split_acquisitions

pytestmark = pytest.mark.data


REFERENCE_LABELS = {"aorta": 52, "portal_vein": 64, "liver": 5, "spleen": 1}
"""Labels of the reference segmentation (TotalSegmentator, version 2)."""


def read_reference(test_data, volume):
    """Labels of the reference segmentation on the grid of the series."""
    reference = Volume.of_image(sitk.ReadImage(str(test_data / "ct-siemens-j2k/example_seg_dicom.nii.gz")))
    return resample(reference, volume.grid, interpolator=sitk.sitkNearestNeighbor, outside=0).array


def read_series(folder):
    """The only acquisition of a folder."""
    instances, _ = read_folder(folder)
    (acquisition,) = split_acquisitions(instances)
    return read_volume(acquisition)


@pytest.mark.parametrize(
    ("folder", "expected"),
    [  # values of picks that were looked at on pictures of the slices; they may not drift
        (
            "ct-liver-metastases/CRLM-CT-1004",
            {"aorta": (143, 10), "portal_vein": (150, 15), "liver": (118, 8)},
        ),
        (
            "ct-liver-metastases/CRLM-CT-1006",
            {"aorta": (143, 10), "portal_vein": (152, 15), "liver": (116, 8)},
        ),
        ("ct-hcc-tcga", {"aorta": (200, 15), "portal_vein": (152, 15), "liver": (105, 8)}),
    ],
)
def test_real_series_give_plausible_enhancement_and_a_liver(test_data, folder, expected):
    volume = read_series(test_data / folder)
    found = measure_enhancement(volume).medians()
    for structure, (middle, margin) in expected.items():
        assert found[structure] == pytest.approx(middle, abs=margin), structure
    assert found["kidney_cortex"] > 150
    segmentation = BaselineSegmenter().segment(volume)
    quality = check_segmentation(segmentation, volume)
    assert 1000 < quality.liver_volume_ml < 2200
    assert quality.right_share > 0.75


def test_a_slab_of_a_liver_is_refused_and_overlaps_the_reference_mask(test_data):
    volume = read_series(test_data / "ct-siemens-j2k" / "example_ct_dicom")
    segmentation = BaselineSegmenter().segment(volume)
    with pytest.raises(SegmentationRefused, match="cut off by the scan"):
        check_segmentation(segmentation, volume)
    truth = read_reference(test_data, volume) == REFERENCE_LABELS["liver"]
    both = np.count_nonzero(truth & segmentation.liver.array)
    assert 2 * both / (np.count_nonzero(truth) + np.count_nonzero(segmentation.liver.array)) > 0.8


def test_measured_hu_agree_with_a_reference_segmentation_by_others(test_data):
    volume = read_series(test_data / "ct-siemens-j2k" / "example_ct_dicom")
    labels = read_reference(test_data, volume)
    found = measure_enhancement(volume).medians()
    for structure, label in REFERENCE_LABELS.items():
        expected = float(np.median(volume.array[labels == label]))
        assert found[structure] == pytest.approx(expected, abs=8), structure


def test_another_patient_is_not_laid_on_this_one(test_data):
    one, other = (
        read_series(test_data / "ct-liver-metastases" / name) for name in ("CRLM-CT-1004", "CRLM-CT-1006")
    )
    with pytest.raises(RegistrationRefused):
        align(one, other, deformable=False)
