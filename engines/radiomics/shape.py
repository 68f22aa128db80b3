"""The 14 shape features: what a region measures without its grey values."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from engines.radiomics.mesh import measure_mesh
from engines.radiomics.region import BoolArray

DEGENERATE = 1e-6
"""Below this ratio of extreme eigenvalues a region is flat or a line: then rounding decides the smallest (OURS)."""


def measure_shape(mask: BoolArray, spacing_mm: tuple[float, float, float]) -> Mapping[str, float]:
    """Returns the shape features under pyradiomics' names.

    Args:
        mask: bool, shape (z, y, x), cropped to the region.
        spacing_mm: (z, y, x), mm.

    Source: pyradiomics 3.0.1, shape.py; IBSI 1 reference manual 3.1.
    """
    mesh = measure_mesh(mask, spacing_mm)
    least, minor, major = _find_principal_variances(mask, spacing_mm)
    z, y, x = spacing_mm
    return {
        "Elongation": _root(minor / major) if minor >= 0 and major >= 0 else float("nan"),
        "Flatness": _root(least / major) if least >= 0 and major >= 0 else float("nan"),
        "LeastAxisLength": 4.0 * _root(least),
        "MajorAxisLength": 4.0 * _root(major),
        "Maximum2DDiameterColumn": mesh.column_mm,
        "Maximum2DDiameterRow": mesh.row_mm,
        "Maximum2DDiameterSlice": mesh.slice_mm,
        "Maximum3DDiameter": mesh.diameter_mm,
        "MeshVolume": mesh.volume_mm3,
        "MinorAxisLength": 4.0 * _root(minor),
        "Sphericity": (36 * np.pi * mesh.volume_mm3**2) ** (1.0 / 3.0) / mesh.area_mm2,
        "SurfaceArea": mesh.area_mm2,
        "SurfaceVolumeRatio": mesh.area_mm2 / mesh.volume_mm3,
        "VoxelVolume": float(np.count_nonzero(mask)) * (z * x * y),
    }


def _root(value: float) -> float:
    return float(np.sqrt(value)) if value >= 0 else float("nan")


def _find_principal_variances(
    mask: BoolArray, spacing_mm: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Returns the eigenvalues of the covariance of the voxel centres, ascending, mm^2."""
    covariance = _sum_covariance(mask, spacing_mm)
    eigenvalues = np.linalg.eigvalsh(covariance)
    if eigenvalues[0] < DEGENERATE * eigenvalues[2]:
        eigenvalues = _find_degenerate_variances(mask, spacing_mm)
    least, minor, major = (float(value) for value in eigenvalues)
    return least, minor, major


def _sum_covariance(mask: BoolArray, spacing_mm: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """Returns the covariance from exact integer sums over the mask's three projections."""
    bits = mask.view(np.uint8)
    number = int(np.count_nonzero(mask))
    position = [np.arange(size, dtype=np.int64) for size in mask.shape]
    projected = {
        (0, 1): bits.sum(2, dtype=np.int64),
        (0, 2): bits.sum(1, dtype=np.int64),
        (1, 2): bits.sum(0, dtype=np.int64),
    }
    single = [projected[0, 1].sum(1), projected[0, 1].sum(0), projected[0, 2].sum(0)]
    first = [int(single[axis] @ position[axis]) for axis in range(3)]
    covariance = np.zeros((3, 3))
    for a in range(3):
        for b in range(a, 3):
            if a == b:
                second = int(single[a] @ position[a] ** 2)
            else:
                second = int(position[a] @ projected[a, b] @ position[b])
            exact = (second * number - first[a] * first[b]) / number**2
            covariance[a, b] = covariance[b, a] = exact * spacing_mm[a] * spacing_mm[b]
    return covariance


def _find_degenerate_variances(
    mask: BoolArray, spacing_mm: tuple[float, float, float]
) -> npt.NDArray[np.float64]:
    """Returns the eigenvalues as pyradiomics rounds them: where the true least one is zero, that is all there is.

    Source: pyradiomics 3.0.1, shape.py _initSegmentBasedCalculation, operation by operation.
    """
    positions = np.array(np.nonzero(np.pad(mask, 1))).T  # the transposed layout decides the order of the sums
    points = positions * np.asarray(spacing_mm)
    points -= np.mean(points, axis=0)
    points /= np.sqrt(len(positions))
    eigenvalues = np.linalg.eigvals(np.dot(points.T.copy(), points)).real
    eigenvalues[(eigenvalues < 0) & (eigenvalues > -1e-10)] = 0.0
    found: npt.NDArray[np.float64] = np.sort(eigenvalues)
    return found
