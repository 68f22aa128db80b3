"""Area, volume and diameters of pyradiomics' surface mesh, from counts of its cube patterns instead of its triangles."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from engines.radiomics.region import BoolArray

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

CORNERS = ((0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0), (1, 0, 0), (1, 0, 1), (1, 1, 1), (1, 1, 0))
"""The corners (z, y, x) of a cube of eight voxels in the order of a pattern's bits (pyradiomics 3.0.1, cshape.c)."""

FEW_VERTICES = 400
"""Up to so many vertices all pairs are compared at once; beyond, only those of the convex hull (OURS)."""

WIDTH_DIRECTIONS = 32
"""Directions in which the width of a plane figure is taken to bound its diameter (OURS; bound within 0.5 %)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshMeasures:
    """What pyradiomics' mesh of a region measures.

    Attributes:
        area_mm2: surface area, mm^2.
        volume_mm3: enclosed volume, mm^3.
        slice_mm: largest distance between vertices of one z (pyradiomics' ``Maximum2DDiameterSlice``), mm.
        column_mm: the same of one y (``Maximum2DDiameterColumn``), mm.
        row_mm: the same of one x (``Maximum2DDiameterRow``), mm.
        diameter_mm: largest distance between any two vertices (``Maximum3DDiameter``), mm.
    """

    area_mm2: float
    volume_mm3: float
    slice_mm: float
    column_mm: float
    row_mm: float
    diameter_mm: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatternTable:
    """What each of the 256 cube patterns adds to the mesh at unit spacing, measured by pyradiomics' own C.

    Attributes:
        volume: signed volume against the cube's own origin, shape (256,).
        normal: sum of the triangles' normals, each of twice its area, (z, y, x), shape (256, 3).
    """

    volume: FloatArray
    normal: FloatArray


def measure_mesh(mask: BoolArray, spacing_mm: tuple[float, float, float]) -> MeshMeasures:
    """Returns the measures of the mesh that pyradiomics lays around a region.

    All mesh vertices lie halfway between voxels, so that what a cube adds to the area depends on its pattern alone, and
    what it adds to the volume is linear in its position. The diameters are pyradiomics' to the last bit: the farthest
    vertices are corners of the convex hull, and their distance is computed from the same numbers in the same order.

    Args:
        mask: bool, shape (z, y, x), cropped to the region.
        spacing_mm: (z, y, x), mm.

    Source: pyradiomics 3.0.1, cshape.c calculate_coefficients and calculate_meshDiameter.
    """
    padded = np.pad(mask, 1)
    area_mm2, volume_mm3 = _measure_surface(padded, spacing_mm)
    vertices = find_vertices(padded)
    planar = [_measure_planar_diameter(vertices, axis, spacing_mm) for axis in range(3)]
    return MeshMeasures(
        area_mm2=area_mm2,
        volume_mm3=volume_mm3,
        slice_mm=planar[0],
        column_mm=planar[1],
        row_mm=planar[2],
        diameter_mm=_measure_diameter(vertices, spacing_mm),
    )


@cache
def measure_patterns() -> PatternTable:
    """Returns the table of the 256 patterns, read off pyradiomics' C cube by cube; volumes are exact multiples of 1/48.

    Source: pyradiomics 3.0.1, cshape.c (triTable is not copied but measured).
    """
    volume = np.array([_call_mesh(_cube(pattern), np.ones(3))[1] for pattern in range(256)])
    volume = np.round(volume * 48.0) / 48.0
    normal = np.zeros((256, 3))
    for pattern in range(256):
        for axis in range(3):
            # One empty layer before the cube moves it by one along the axis; the cube with that layer is known.
            shifted = np.pad(_cube(pattern), [(1, 0) if other == axis else (0, 0) for other in range(3)])
            first = shifted.take([0, 1], axis=axis)
            alone = volume[_read_pattern(first)] + volume[pattern]
            normal[pattern, axis] = 6.0 * (_call_mesh(shifted, np.ones(3))[1] - alone)
    return PatternTable(volume=volume, normal=np.round(normal * 8.0) / 8.0)


def find_vertices(padded: BoolArray) -> IntArray:
    """Returns the mesh vertices, shape (vertices, 3), as (z, y, x) in half voxels of the padded box.

    Source: pyradiomics 3.0.1, cshape.c: a vertex halfway between two neighbours of which one is inside.
    """
    found = []
    for axis in range(3):
        lower = tuple(slice(None, -1) if other == axis else slice(None) for other in range(3))
        upper = tuple(slice(1, None) if other == axis else slice(None) for other in range(3))
        border = padded[lower] != padded[upper]
        position = np.stack(np.unravel_index(np.flatnonzero(border), border.shape), axis=1) * 2
        position[:, axis] += 1
        found.append(position)
    return np.concatenate(found).astype(np.int64)


def _measure_surface(padded: BoolArray, spacing_mm: tuple[float, float, float]) -> tuple[float, float]:
    bits = padded.view(np.uint8)
    depth, height, width = (size - 1 for size in padded.shape)
    pattern = np.zeros((depth, height, width), dtype=np.uint8)
    for bit, (z, y, x) in enumerate(CORNERS):
        pattern |= bits[z : z + depth, y : y + height, x : x + width] << np.uint8(bit)
    where = np.flatnonzero((pattern != 0) & (pattern != 255))
    patterns = pattern.ravel()[where]
    counts = np.bincount(patterns, minlength=256)
    spacing = np.asarray(spacing_mm)
    area_mm2 = sum(
        count * _call_mesh(_cube(index), spacing)[0] for index, count in enumerate(counts) if count
    )
    table = measure_patterns()
    six_volumes = 6.0 * float(counts @ table.volume)
    for axis, position in enumerate(np.unravel_index(where, pattern.shape)):
        six_volumes += float(np.bincount(patterns, weights=position, minlength=256) @ table.normal[:, axis])
    return float(area_mm2), six_volumes / 6.0 * float(np.prod(spacing))


def _measure_diameter(vertices: IntArray, spacing_mm: tuple[float, float, float]) -> float:
    from scipy.spatial import ConvexHull

    if len(vertices) > FEW_VERTICES:
        vertices = _keep_row_ends(vertices)
        # On half-voxel integers the hull is exact enough to keep every corner; spacing does not change which they are.
        vertices = vertices[ConvexHull(vertices).vertices]
    return float(np.sqrt(_square_largest_distance(vertices, spacing_mm)))


def _keep_row_ends(vertices: IntArray) -> IntArray:
    """Returns the first and last vertex of every row along x: no other can be a corner of the hull."""
    order = np.lexsort((vertices[:, 2], vertices[:, 1], vertices[:, 0]))
    ordered = vertices[order]
    changes = (np.diff(ordered[:, :2], axis=0) != 0).any(axis=1)
    first = np.concatenate([[True], changes])
    last = np.concatenate([changes, [True]])
    ends: IntArray = ordered[first | last]
    return ends


def _measure_planar_diameter(vertices: IntArray, axis: int, spacing_mm: tuple[float, float, float]) -> float:
    """Returns the largest distance between two vertices that share the coordinate of one axis."""
    ordered = vertices[np.argsort(vertices[:, axis], kind="stable")]
    starts = np.flatnonzero(np.diff(ordered[:, axis], prepend=-1))
    stops = np.append(starts[1:], len(ordered))
    bounds = _bound_diameters(ordered, axis, starts, spacing_mm)
    largest = 0.0
    for plane in np.argsort(-bounds):
        if bounds[plane] ** 2 < largest:
            break
        largest = max(
            largest,
            _square_largest_distance(ordered[starts[plane] : stops[plane]], spacing_mm, bounds[plane]),
        )
    return float(np.sqrt(largest))


def _bound_diameters(
    ordered: IntArray, axis: int, starts: npt.NDArray[np.intp], spacing_mm: tuple[float, float, float]
) -> FloatArray:
    """Returns for each plane a length, mm, that its diameter cannot exceed.

    The direction of the diameter lies within half a step of one of the directions, along which the width is then at
    least the diameter times the cosine of that half step.
    """
    first, second = (other for other in range(3) if other != axis)
    a = ordered[:, first] * (0.5 * spacing_mm[first])
    b = ordered[:, second] * (0.5 * spacing_mm[second])
    bounds = np.zeros(starts.size)
    for angle in np.arange(WIDTH_DIRECTIONS) * (np.pi / WIDTH_DIRECTIONS):
        along = a * np.cos(angle) + b * np.sin(angle)
        np.maximum(
            bounds, np.maximum.reduceat(along, starts) - np.minimum.reduceat(along, starts), out=bounds
        )
    rounding = 1.0 + 1e-9
    widest: FloatArray = bounds / np.cos(np.pi / (2 * WIDTH_DIRECTIONS)) * rounding
    return widest


def _square_largest_distance(
    vertices: IntArray, spacing_mm: tuple[float, float, float], bound_mm: float | None = None
) -> float:
    """Returns the largest squared distance of two vertices, mm^2, in pyradiomics' order of operations."""
    points = (vertices * 0.5) * np.asarray(spacing_mm)
    if bound_mm is not None and len(points) > FEW_VERTICES:
        points = points[_keep_far_points(points, bound_mm)]
    largest = 0.0
    for index in range(0, len(points), 256):
        block = points[index : index + 256]
        apart = block[:, None, :] - points[None, index:, :]
        apart *= apart
        largest = max(largest, float((apart[..., 0] + apart[..., 1] + apart[..., 2]).max()))
    return largest


def _keep_far_points(points: FloatArray, bound_mm: float) -> BoolArray:
    """Returns which points can belong to the farthest pair: the pair's middle is no nearer than their distances say."""
    centre = (points.max(0) + points.min(0)) / 2
    radius = np.sqrt(((points - centre) ** 2).sum(1))
    far = points[int(radius.argmax())]
    reached = float(np.sqrt(((points - far) ** 2).sum(1).max()))
    rounding = 1e-9 * bound_mm
    kept: BoolArray = radius + radius.max() >= reached - rounding
    return kept


def _cube(pattern: int) -> BoolArray:
    cube = np.zeros((2, 2, 2), dtype=np.bool_)
    for bit, corner in enumerate(CORNERS):
        cube[corner] = bool(pattern >> bit & 1)
    return cube


def _read_pattern(cube: BoolArray) -> int:
    return sum(int(cube[corner]) << bit for bit, corner in enumerate(CORNERS))


def _call_mesh(mask: BoolArray, spacing_mm: FloatArray) -> tuple[float, float]:
    from radiomics import cShape

    area, volume, _ = cShape.calculate_coefficients(np.ascontiguousarray(mask), spacing_mm)
    return float(area), float(volume)
