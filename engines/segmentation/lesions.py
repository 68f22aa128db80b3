"""Lesions as a list: pieces of a mask, the largest first, with volume and longest axial diameter."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from engines.volume import Volume

MOST_LESIONS = 255
"""Labels are uint8."""
PRIMARY_TUMOUR = 1
"""Label of the largest lesion: the primary tumour of the method, section 7 (OURS: the paper does not define it)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion:
    """One lesion.

    Attributes:
        label: value in the label volume, 1 = largest.
        volume_ml: volume, mL.
        longest_diameter_mm: greatest distance between two points of its outline in one slice, mm.
        slice_index: slice of that diameter, index along z of the grid.
    """

    label: int
    volume_ml: float
    longest_diameter_mm: float
    slice_index: int


def label_lesions(mask: Volume, *, least_ml: float = 0.0) -> Volume:
    """Returns the connected pieces (26 neighbours) of a mask as uint8 labels, 1 = largest.

    Args:
        mask: bool.
        least_ml: smaller pieces are dropped, mL; at most 255 pieces are kept.
    """
    labels, count = ndimage.label(mask.array, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    ranked = [
        n for n in np.argsort(-sizes, kind="stable") if sizes[n] * mask.grid.voxel_volume_ml >= least_ml
    ]
    names = np.zeros(count + 1, dtype=np.uint8)
    for label, n in enumerate(ranked[:MOST_LESIONS], start=1):
        names[n + 1] = label
    return Volume(array=names[labels], grid=mask.grid)


def measure_lesions(lesions: Volume) -> tuple[Lesion, ...]:
    """Returns volume and longest axial diameter of every label, in the order of the labels.

    Args:
        lesions: integer labels, 0 none.
    """
    found = []
    for label, box in enumerate(ndimage.find_objects(lesions.array), start=1):
        if box is None:
            continue
        piece = lesions.array[box] == label
        diameters = [_longest_diameter_mm(plane, lesions.grid.spacing_mm[1:]) for plane in piece]
        place = int(np.argmax(diameters))
        found.append(
            Lesion(
                label=label,
                volume_ml=float(np.count_nonzero(piece)) * lesions.grid.voxel_volume_ml,
                longest_diameter_mm=diameters[place],
                slice_index=box[0].start + place,
            )
        )
    return tuple(found)


def _longest_diameter_mm(plane: npt.NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> float:
    """Returns the greatest distance between the middles of outer pixel edges, mm; 0 for an empty plane."""
    rows, columns = np.nonzero(plane)
    if rows.size == 0:
        return 0.0
    edges = np.concatenate(
        [
            np.stack([rows + dy, columns + dx], axis=1)
            for dy, dx in ((-0.5, 0.0), (0.5, 0.0), (0.0, -0.5), (0.0, 0.5))
        ]
    ) * np.asarray(spacing_mm)
    try:
        outline = edges[ConvexHull(edges).vertices]
    except QhullError:
        outline = edges
    return float(pdist(outline).max())
