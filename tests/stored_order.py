"""The same voxels at the same places, stored in another order: mirrored rows, from the head down, sagittal slices."""

from dataclasses import replace

import numpy as np

from engines.volume import Volume


def store(volume, order, backwards):
    """The volume with index k along the old index ``order[k]``, from its end where ``backwards[k]``."""
    grid = volume.grid
    array = np.transpose(volume.array, order)
    axes = [grid.axes[old] for old in order]
    first = np.zeros(3)
    for index, back in enumerate(backwards):
        if back:
            array = np.flip(array, index)
            first[order[index]] = grid.shape[order[index]] - 1
            axes[index] = tuple(-part for part in axes[index])
    x, y, z, _ = grid.affine() @ [*first, 1]
    spacing_mm = tuple(grid.spacing_mm[old] for old in order)
    stored = replace(grid, shape=array.shape, spacing_mm=spacing_mm, origin_mm=(x, y, z), axes=tuple(axes))
    return Volume(array=np.ascontiguousarray(array), grid=stored)
