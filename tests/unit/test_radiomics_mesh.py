"""The mesh measured by patterns is pyradiomics' mesh: areas, volumes, and the diameters to the last bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from radiomics import cShape

from engines.radiomics.mesh import measure_mesh, measure_patterns
from engines.radiomics.shape import measure_shape
from tests.radiomics_regions import blob

SPACINGS = [(1.0, 1.0, 1.0), (5.0, 0.7, 0.73), (2.5, 0.9765625, 0.9765625), (0.1, 0.3, 7.7)]


def assert_is_pyradiomics_mesh(mask, spacing_mm):
    area, volume, (in_slice, in_column, in_row, largest) = cShape.calculate_coefficients(
        np.pad(mask, 1), np.asarray(spacing_mm)
    )
    found = measure_mesh(mask, spacing_mm)
    assert found.area_mm2 == pytest.approx(area, rel=1e-11)
    assert found.volume_mm3 == pytest.approx(volume, rel=1e-11)
    assert (found.slice_mm, found.column_mm, found.row_mm, found.diameter_mm) == (
        in_slice,
        in_column,
        in_row,
        largest,
    )


@pytest.mark.parametrize("spacing_mm", SPACINGS)
@pytest.mark.parametrize("shape", [(20, 24, 28), (3, 40, 41), (30, 1, 30)])
def test_organs_large_enough_for_the_convex_hull(shape, spacing_mm):
    assert_is_pyradiomics_mesh(blob(shape), spacing_mm)


@pytest.mark.parametrize("spacing_mm", SPACINGS)
def test_a_cube_has_its_own_diagonal_many_times(spacing_mm):
    assert_is_pyradiomics_mesh(np.ones((12, 13, 14), np.bool_), spacing_mm)


@pytest.mark.parametrize("seed", range(4))
def test_scattered_voxels_with_vertices_everywhere(seed):
    mask = np.random.default_rng(seed).random((12, 13, 14)) < 0.3
    assert_is_pyradiomics_mesh(mask, SPACINGS[seed])


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.05, 0.3, 0.7, 1.0]), st.sampled_from(SPACINGS))
def test_random_masks(seed, density, spacing_mm):
    rng = np.random.default_rng(seed)
    mask = rng.random(tuple(rng.integers(1, 7, 3))) < density
    mask.flat[0] = True
    assert_is_pyradiomics_mesh(mask, spacing_mm)


def test_the_patterns_close_every_surface():
    """Around a voxel the normals of the eight patterns cancel: the mesh has no hole."""
    table = measure_patterns()
    corners = [1 << bit for bit in range(8)]
    assert np.abs(table.normal[corners].sum(axis=0)).max() == 0
    assert table.volume[0] == table.volume[255] == 0


def test_a_ball_has_the_measures_of_a_ball():
    z, y, x = np.indices((61, 61, 61)) - 30.0
    found = measure_shape(z**2 + y**2 + x**2 <= 28.5**2, (1.0, 1.0, 1.0))
    assert found["MeshVolume"] == pytest.approx(4 / 3 * np.pi * 28.5**3, rel=0.01)
    assert found["Maximum3DDiameter"] == pytest.approx(57, abs=1.5)
    assert found["MajorAxisLength"] == pytest.approx(4 * 28.5 / np.sqrt(5), rel=0.01)
    assert found["Flatness"] == pytest.approx(1.0, abs=1e-6)
