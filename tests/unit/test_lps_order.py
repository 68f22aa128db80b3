"""Voxels brought into the order of the patient: every point keeps its voxel, whatever the order before."""

from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk

from engines.volume import Grid, Volume
from tests.stored_order import store

AXES = ((0.0, -0.6, 0.8), (0.0, 0.8, 0.6), (1.0, 0.0, 0.0))  # oblique: the gantry of a biopsy table
GRID = Grid(shape=(2, 3, 4), spacing_mm=(5.0, 0.5, 0.75), origin_mm=(-10.0, 20.0, 30.0), axes=AXES)
VOLUME = Volume(array=np.arange(24, dtype=np.int16).reshape(2, 3, 4), grid=GRID)


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
@pytest.mark.parametrize("backwards", list(product([False, True], repeat=3)), ids=str)
def test_every_stored_order_comes_back_to_the_order_of_the_patient(order, backwards):
    stored = store(VOLUME, order, backwards)
    turned = stored.in_lps_order()
    assert np.array_equal(turned.array, VOLUME.array)
    assert turned.grid.matches(GRID, tolerance_mm=1e-9)
    witness = Volume.of_image(sitk.DICOMOrient(stored.to_image(), "LPS"))
    assert np.array_equal(turned.array, witness.array)
    assert turned.grid.matches(witness.grid, tolerance_mm=1e-9)


def test_a_volume_in_the_order_of_the_patient_stays_exactly_as_it_is():
    turned = VOLUME.in_lps_order()
    assert turned.grid == GRID
    assert turned.array.tobytes() == VOLUME.array.tobytes()
