"""The outline of a mask on one plane as closed polygons."""

from typing import Any

import numpy as np
import numpy.typing as npt

Polygon = npt.NDArray[np.floating[Any]]


def trace_outlines(plane: npt.NDArray[np.bool_]) -> tuple[Polygon, ...]:
    """Returns the closed outlines of a plane's mask, the one around the largest area first.

    Args:
        plane: bool (rows, columns).

    Returns:
        Arrays of shape (n, 2), (column, row), where (0, 0) is the centre of the first pixel; first point = last point.
    """
    from contourpy import contour_generator

    padded = np.pad(plane.astype(np.float64), 1)
    lines = contour_generator(z=padded).lines(0.5)
    closed: list[Polygon] = [np.asarray(line) - 1.0 for line in lines if len(line) > 3]
    return tuple(sorted(closed, key=enclosed_area, reverse=True))


def enclosed_area(polygon: Polygon) -> float:
    """Returns the area inside a closed polygon, in squared units of its coordinates (shoelace formula)."""
    column, row = polygon[:, 0], polygon[:, 1]
    return float(abs(np.dot(column[:-1], row[1:]) - np.dot(column[1:], row[:-1])) / 2.0)
