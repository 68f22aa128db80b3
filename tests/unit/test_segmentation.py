"""Lesions as a list and the gate behind every segmenter, on shapes worked out by hand."""

import numpy as np
import pytest

from engines.errors import GeometryMismatch, SegmentationRefused
from engines.segmentation.lesions import label_lesions, measure_lesions
from engines.segmentation.quality import check_segmentation
from engines.segmentation.segmenter import Segmentation
from engines.volume import Grid, Volume

GRID = Grid(shape=(20, 60, 80), spacing_mm=(10.0, 5.0, 5.0), origin_mm=(-197.5, -150.0, -100.0))


def of_boxes(*boxes, grid=GRID):
    """A mask of index boxes ((z0, z1), (y0, y1), (x0, x1))."""
    array = np.zeros(grid.shape, dtype=bool)
    for (z0, z1), (y0, y1), (x0, x1) in boxes:
        array[z0:z1, y0:y1, x0:x1] = True
    return Volume(array=array, grid=grid)


def body(hu=100):
    """A body of soft tissue in air."""
    array = np.full(GRID.shape, -1000, dtype=np.int16)
    array[:, 5:55, 5:75] = hu
    return Volume(array=array, grid=GRID)


def segmented(liver, lesions=None):
    """A segmentation with these masks."""
    empty = Volume(array=np.zeros(GRID.shape, dtype=np.uint8), grid=GRID)
    return Segmentation(
        liver=liver,
        lesions=empty if lesions is None else label_lesions(lesions),
        provider="hand",
        version="0",
    )


LIVER = ((5, 15), (15, 45), (10, 36))  # 10 x 30 x 26 voxels of 0.25 mL: 1950 mL, patient's right is low x


def test_pieces_are_labelled_by_size_and_small_ones_dropped():
    mask = of_boxes(((1, 2), (1, 3), (1, 3)), ((5, 9), (10, 20), (10, 20)), ((15, 16), (50, 51), (70, 71)))
    labels = label_lesions(mask, least_ml=0.5)
    assert labels.array.dtype == np.uint8
    assert labels.array[6, 12, 12] == 1
    assert labels.array[1, 1, 1] == 2
    assert labels.array[15, 50, 70] == 0  # 0.25 mL


def test_volume_and_longest_axial_diameter_of_a_bar_and_a_disc():
    bar = of_boxes(((3, 4), (10, 11), (20, 30)))
    (lesion,) = measure_lesions(label_lesions(bar))
    assert lesion.volume_ml == pytest.approx(2.5)
    assert lesion.longest_diameter_mm == pytest.approx(50.0)
    assert lesion.slice_index == 3
    fine = Grid(shape=(3, 101, 101), spacing_mm=(5.0, 0.5, 0.5), origin_mm=(0.0, 0.0, 0.0))
    y, x = np.mgrid[-50:51, -50:51] * 0.5
    plane = y * y + x * x <= 20.0**2
    disc = Volume(array=np.stack([plane & (y < -10), plane, plane & (y > 15)]), grid=fine)
    (lesion,) = measure_lesions(label_lesions(disc))
    assert lesion.longest_diameter_mm == pytest.approx(40.0, abs=0.6)
    assert lesion.slice_index == 1


def test_an_oblique_lesion_is_measured_along_its_diagonal_and_only_within_slices():
    array = np.zeros(GRID.shape, dtype=bool)
    for step in range(10):
        array[2 + step // 2, 10 + step, 10 + step] = True  # climbs through five slices
        array[8, 30 + step, 30 + step] = True  # the same in one slice
    found = measure_lesions(label_lesions(Volume(array=array, grid=GRID)))
    longest = sorted(lesion.longest_diameter_mm for lesion in found)
    assert longest[1] == pytest.approx(np.hypot(10, 9) * 5.0, abs=1.0)
    assert longest[0] < 15


def test_a_plausible_liver_passes_with_its_figures():
    quality = check_segmentation(segmented(of_boxes(LIVER), of_boxes(((8, 10), (20, 30), (15, 25)))), body())
    assert quality.liver_volume_ml == pytest.approx(1950)
    assert quality.lesion_share == pytest.approx(200 / 7800)
    assert quality.right_share == 1.0
    assert quality.median_hu == 100


@pytest.mark.parametrize(
    ("box", "hu", "reason"),
    [
        (((5, 7), (15, 45), (10, 36)), 100, "volume 390 mL, expected 500 to 4000"),
        (((2, 18), (6, 54), (6, 45)), 100, "volume 7488 mL"),
        (((5, 15), (15, 45), (46, 72)), 100, "0% on the patient's right"),
        (LIVER, -90, "median -90 HU"),
        (LIVER, 400, "median 400 HU"),
        (((10, 20), (15, 45), (10, 36)), 100, "cut off by the scan"),
        (((5, 15), (0, 20), (0, 36)), 100, "on the border of the image"),
    ],
)
def test_what_cannot_be_a_liver_is_refused_with_its_figure(box, hu, reason):
    with pytest.raises(SegmentationRefused, match=reason):
        check_segmentation(segmented(of_boxes(box)), body(hu))


def test_no_liver_pieces_apart_and_all_lesion_are_refused():
    with pytest.raises(SegmentationRefused, match="found no liver"):
        check_segmentation(segmented(of_boxes()), body())
    with pytest.raises(SegmentationRefused, match="in one piece"):
        check_segmentation(segmented(of_boxes(LIVER, ((5, 15), (15, 45), (37, 45)))), body())
    with pytest.raises(SegmentationRefused, match="of it lesion"):
        check_segmentation(segmented(of_boxes(LIVER), of_boxes(LIVER)), body())


def test_masks_on_another_grid_are_refused():
    other = Grid(shape=GRID.shape, spacing_mm=GRID.spacing_mm, origin_mm=(0.0, 0.0, 0.0))
    shifted = Volume(array=np.zeros(GRID.shape, dtype=np.uint8), grid=other)
    with pytest.raises(GeometryMismatch):
        Segmentation(liver=of_boxes(LIVER), lesions=shifted, provider="hand", version="0")
    with pytest.raises(SegmentationRefused, match="lies on a grid"):
        check_segmentation(segmented(of_boxes(LIVER)), Volume(array=body().array, grid=other))
