"""Solids of the synthetic abdomen as signed distances in patient space: continuous, so any grid may be rendered."""

import functools
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Point = tuple[float, float, float]
"""(x, y, z) in LPS, mm."""

EVERYWHERE: tuple[Point, Point] = ((-1e4, -1e4, -1e4), (1e4, 1e4, 1e4))
"""Box of a solid without bounds, mm."""


class Solid(Protocol):
    """A region of space."""

    def box_mm(self) -> tuple[Point, Point]:
        """Returns the lowest and the highest corner of a box that holds the solid, LPS, mm."""
        ...

    def distance_mm(self, x: Array, y: Array, z: Array, /) -> Array:
        """Returns the approximate signed distance to the surface, mm, negative inside.

        Args:
            x: coordinates towards the patient's left, mm; shapes of x, y, z broadcast together.
            y: coordinates towards the patient's back, mm.
            z: coordinates towards the patient's head, mm.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ellipsoid:
    """An ellipsoid with its axes along x, y, z.

    Attributes:
        center_mm: centre, LPS, mm.
        radii_mm: semi-axes along x, y, z, mm, > 0.
    """

    center_mm: Point
    radii_mm: Point

    def box_mm(self) -> tuple[Point, Point]:
        """Returns the bounding box, LPS, mm."""
        return _box(self.center_mm, self.center_mm, self.radii_mm)

    def distance_mm(self, x: Array, y: Array, z: Array, /) -> Array:
        """Returns the signed distance, exact to first order at the surface, mm."""
        squares = [
            ((c - c0) / r) ** 2 for c, c0, r in zip((x, y, z), self.center_mm, self.radii_mm, strict=True)
        ]
        scaled = np.sqrt(squares[0] + squares[1] + squares[2]) + np.float32(1e-6)
        slope = np.sqrt(sum(s / np.float32(r * r) for s, r in zip(squares, self.radii_mm, strict=True)))
        return np.asarray(scaled * (scaled - 1) / (slope + np.float32(1e-6)), dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """An elliptic cylinder along z without ends.

    Attributes:
        center_mm: (x, y) of the axis, mm.
        radii_mm: semi-axes along x and y, mm, > 0.
        inverted: True for the space outside of the cylinder.
    """

    center_mm: tuple[float, float]
    radii_mm: tuple[float, float]
    inverted: bool = False

    def box_mm(self) -> tuple[Point, Point]:
        """Returns the bounding box, LPS, mm."""
        if self.inverted:
            return EVERYWHERE
        (x, y), (a, b) = self.center_mm, self.radii_mm
        return (x - a, y - b, -1e4), (x + a, y + b, 1e4)

    def distance_mm(self, x: Array, y: Array, _z: Array, /) -> Array:
        """Returns the signed distance, exact to first order at the surface, mm; it does not depend on z."""
        (x0, y0), (a, b) = self.center_mm, self.radii_mm
        u, v = ((x - x0) / a) ** 2, ((y - y0) / b) ** 2
        scaled = np.sqrt(u + v) + np.float32(1e-6)
        distance = scaled * (scaled - 1) / (np.sqrt(u / (a * a) + v / (b * b)) + np.float32(1e-6))
        return np.asarray(-distance if self.inverted else distance, dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tube:
    """A vessel or a loop: all points near a polyline.

    Attributes:
        points_mm: two or more points of the centre line, LPS, mm.
        radius_mm: radius, mm, > 0.
    """

    points_mm: tuple[Point, ...]
    radius_mm: float

    def box_mm(self) -> tuple[Point, Point]:
        """Returns the bounding box, LPS, mm."""
        points = np.asarray(self.points_mm)
        return _box(_point(points.min(axis=0)), _point(points.max(axis=0)), (self.radius_mm,) * 3)

    def distance_mm(self, x: Array, y: Array, z: Array, /) -> Array:
        """Returns the exact signed distance, mm."""
        pieces: list[Array] = []
        for start, end in zip(self.points_mm[:-1], self.points_mm[1:], strict=True):
            step = np.asarray(end) - np.asarray(start)
            away = [c - np.float32(c0) for c, c0 in zip((x, y, z), start, strict=True)]
            dot = sum(a * np.float32(s) for a, s in zip(away, step, strict=True))
            along = np.clip(dot / np.float32(step @ step), 0, 1)
            squared = sum((a - along * np.float32(s)) ** 2 for a, s in zip(away, step, strict=True))
            pieces.append(np.asarray(squared, dtype=np.float32))
        nearest = functools.reduce(np.minimum, pieces)
        return np.asarray(np.sqrt(nearest) - np.float32(self.radius_mm), dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfSpace:
    """All points on the side of a plane from which its normal points away.

    Attributes:
        point_mm: a point of the plane, LPS, mm.
        normal: direction out of the half space, need not have length one.
    """

    point_mm: Point
    normal: Point

    def box_mm(self) -> tuple[Point, Point]:
        """Returns all of space."""
        return EVERYWHERE

    def distance_mm(self, x: Array, y: Array, z: Array, /) -> Array:
        """Returns the exact signed distance, mm."""
        normal = np.asarray(self.normal) / np.linalg.norm(self.normal)
        terms = [
            (c - np.float32(p)) * np.float32(n)
            for c, p, n in zip((x, y, z), self.point_mm, normal, strict=True)
            if n != 0
        ]
        return np.asarray(sum(terms), dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Union:
    """The points of any of several solids, joined with a rounded seam.

    Attributes:
        solids: one or more solids.
        seam_mm: width of the rounding, mm, >= 0.
    """

    solids: tuple[Solid, ...]
    seam_mm: float = 0.0

    def box_mm(self) -> tuple[Point, Point]:
        """Returns the bounding box, LPS, mm."""
        boxes = np.asarray([solid.box_mm() for solid in self.solids])
        return _point(boxes[:, 0].min(axis=0) - self.seam_mm), _point(boxes[:, 1].max(axis=0) + self.seam_mm)

    def distance_mm(self, x: Array, y: Array, z: Array, /) -> Array:
        """Returns the smooth minimum of the distances, mm."""
        result = self.solids[0].distance_mm(x, y, z)
        for solid in self.solids[1:]:
            other = solid.distance_mm(x, y, z)
            joined = np.minimum(result, other)
            if self.seam_mm > 0:
                overlap = np.maximum(np.float32(self.seam_mm) - np.abs(result - other), 0)
                joined = joined - overlap * overlap / np.float32(4 * self.seam_mm)
            result = joined
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """The points of all of several solids, less those of others.

    Attributes:
        solids: one or more solids.
        without: solids that are taken out.
    """

    solids: tuple[Solid, ...]
    without: tuple[Solid, ...] = ()

    def box_mm(self) -> tuple[Point, Point]:
        """Returns the bounding box, LPS, mm."""
        boxes = np.asarray([solid.box_mm() for solid in self.solids])
        return _point(boxes[:, 0].max(axis=0)), _point(boxes[:, 1].min(axis=0))

    def distance_mm(self, x: Array, y: Array, z: Array, /) -> Array:
        """Returns the maximum of the distances, mm."""
        result = self.solids[0].distance_mm(x, y, z)
        for solid in self.solids[1:]:
            result = np.maximum(result, solid.distance_mm(x, y, z))
        for solid in self.without:
            result = np.maximum(result, -solid.distance_mm(x, y, z))
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class RibCage:
    """Ribs as slanting rings on the thoracic wall, one every ``pitch_mm``.

    Attributes:
        wall: the elliptic cylinder on which the ribs lie.
        radius_mm: half thickness of a rib, mm.
        pitch_mm: distance of neighbouring ribs along z, mm.
        slope: how much a rib falls towards the front, mm per mm.
        lowest_mm: no rib below this z at the back, mm.
    """

    wall: Column
    radius_mm: float
    pitch_mm: float
    slope: float
    lowest_mm: float

    def box_mm(self) -> tuple[Point, Point]:
        """Returns the bounding box, LPS, mm."""
        (x0, y0, _), (x1, y1, _) = self.wall.box_mm()
        return (x0 - 10, y0 - 10, -1e4), (x1 + 10, y1 + 10, 1e4)

    def distance_mm(self, x: Array, y: Array, z: Array, /) -> Array:
        """Returns the signed distance to the nearest rib, mm."""
        level = z - np.float32(self.slope) * y
        off = np.mod(level, np.float32(self.pitch_mm)) - np.float32(self.pitch_mm / 2)
        ring = np.sqrt((self.wall.distance_mm(x, y, z) * np.float32(1.6)) ** 2 + off * off)
        return np.asarray(
            np.maximum(ring - np.float32(self.radius_mm), np.float32(self.lowest_mm) - level),
            dtype=np.float32,
        )


def _box(low: Point, high: Point, margin: Point) -> tuple[Point, Point]:
    """Returns the box from ``low - margin`` to ``high + margin``."""
    return _point(np.asarray(low) - margin), _point(np.asarray(high) + margin)


def _point(values: npt.NDArray[np.floating]) -> Point:
    """Returns three numbers as a point."""
    x, y, z = (float(v) for v in values)
    return x, y, z
