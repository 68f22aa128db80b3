"""Segmentations made by others lie on our grid as their makers' own files say."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from engines.volume import Grid
from node.dicom.headers import read_folder
from node.dicom.masks import read_segmentation
from node.dicom.volumes import read_volume
from node.errors import InstanceRefused
from node.study import Acquisition


@pytest.fixture
def others(test_data):
    return test_data / "sr-seg"


def witness(path):
    """Grid and labels of a NRRD file written by the same makers."""
    image = sitk.ReadImage(str(path))
    return Grid.of_image(image), sitk.GetArrayFromImage(image)


@pytest.mark.parametrize(
    ("segmentation", "label_map", "labels"),
    [
        ("liver.dcm", "liver_seg.nrrd", {1: 1}),
        ("partial_overlaps.dcm", "partial_overlaps-1.nrrd", {1: 1, 4: 4, 5: 5}),
        ("partial_overlaps.dcm", "partial_overlaps-2.nrrd", {2: 2}),
        ("partial_overlaps.dcm", "partial_overlaps-3.nrrd", {3: 3}),
        ("sparse-labelmap-ppv5.dcm", "sparse_labelmap_ppv5_seg.nrrd", {1: 1}),
        ("sparse-labelmap-noppv.dcm", "sparse_labelmap_noppv_seg.nrrd", {1: 1}),
    ],
)
def test_segments_equal_their_makers_label_maps(others, segmentation, label_map, labels):
    folder = others / "dcmqi/segmentations"
    grid, array = witness(folder / label_map)
    found = {item.number: item for item in read_segmentation(folder / segmentation, grid)}
    for number, label in labels.items():
        assert np.array_equal(found[number].mask.array, array == label), number


def test_codes_and_labels_are_read(others):
    folder = others / "dcmqi/segmentations"
    grid, _ = witness(folder / "liver_seg.nrrd")
    (liver,) = read_segmentation(folder / "liver.dcm", grid)
    assert "iver" in liver.property_type.meaning
    assert liver.algorithm_type in ("MANUAL", "SEMIAUTOMATIC", "AUTOMATIC")


def test_mask_lies_on_the_ct_that_it_was_drawn_on(others):
    instances, _ = read_folder(others / "dcmqi/segmentations/ct-3slice")
    ct = read_volume(Acquisition(series_instance_uid="S", part=0, instances=instances))
    (liver,) = read_segmentation(
        others / "dcmqi/segmentations/liver.dcm", ct.grid, instances[0].frame_of_reference_uid
    )
    inside = ct.array[liver.mask.array]
    assert liver.mask.grid.matches(ct.grid)
    assert inside.size > 100_000
    assert 0 < np.median(inside) < 200


def test_fractional_and_overlapping_segments_are_read(others):
    folder = others / "highdicom"
    for name in (
        "seg_image_ct_true_fractional.dcm",
        "seg_image_ct_binary_overlap.dcm",
        "seg_image_ct_binary_fractional.dcm",
    ):
        dataset = pydicom.dcmread(folder / name)
        grid = Grid(shape=(3, 16, 16), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0))
        assert len(read_segmentation(folder / name, grid)) == len(dataset.SegmentSequence)


def test_other_patient_space_and_other_objects_are_refused(others, test_data):
    grid = Grid(shape=(3, 16, 16), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0))
    with pytest.raises(InstanceRefused, match="Frame of Reference"):
        read_segmentation(others / "dcmqi/segmentations/liver.dcm", grid, "1.2.3")
    with pytest.raises(InstanceRefused, match="not a segmentation"):
        read_segmentation(test_data / "ct-liver-metastases/CRLM-CT-1004/1-01.dcm", grid)


def test_claimed_size_is_refused_before_it_is_allocated(others, tmp_path):
    dataset = pydicom.dcmread(others / "highdicom/seg_image_ct_binary.dcm")
    dataset.Rows = dataset.Columns = 60000
    dataset.save_as(tmp_path / "huge.dcm")
    with pytest.raises(InstanceRefused, match="the limit is"):
        read_segmentation(
            tmp_path / "huge.dcm", Grid(shape=(1, 1, 1), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0))
        )
