"""Tracks, pieces and the working grid in which organs are sought."""

import numpy as np

from engines.anatomy import to_working_grid
from engines.anatomy.organs import dominant_hu
from engines.anatomy.shapes import disc, largest_part, track
from engines.volume import Grid, Volume


def test_a_track_follows_the_best_sum_and_not_the_best_slice():
    score = np.zeros((5, 9, 9), dtype=np.float32)
    path = [(2, 2), (3, 3), (4, 4), (4, 5), (5, 6)]
    for k, (y, x) in enumerate(path):
        score[k, y, x] = 1.0
    score[2, 8, 0] = 1.9  # brighter, but out of reach of the rest
    assert track(score, step=1).tolist() == [list(place) for place in path]


def test_discs_pieces_and_the_dominant_brightness():
    assert disc(2.0, 1.0).sum() == 13  # Gauss circle problem, radius 2
    mask = np.zeros((6, 6), dtype=bool)
    mask[0, :2] = mask[3:6, 3:6] = True
    assert largest_part(mask).sum() == 9
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(110, 4, 3000), rng.uniform(20, 200, 800)]).astype(np.float32)
    mode, width = dominant_hu(values)
    assert abs(mode - 110) < 3
    assert 12 <= width <= 20


def test_the_working_grid_runs_to_head_back_and_left_whatever_comes_in():
    array = np.zeros((10, 12, 14), dtype=np.int16)
    array[1, 2, 3] = 500
    flipped = Grid(
        shape=array.shape,
        spacing_mm=(5.0, 3.0, 3.0),
        origin_mm=(100.0, 50.0, -20.0),
        axes=((0.0, 0.0, -1.0), (0.0, -1.0, 0.0), (-1.0, 0.0, 0.0)),
    )
    working = to_working_grid(Volume(array=array, grid=flipped))
    assert np.allclose(working.grid.axes, ((0, 0, 1), (0, 1, 0), (1, 0, 0)))
    (place,) = np.argwhere(working.array == 500)
    marker = flipped.affine() @ [1, 2, 3, 1]  # by hand: x 100 - 9, y 50 - 6, z -20 - 5
    assert np.allclose(marker[:3], (91, 44, -25))
    assert np.allclose((working.grid.affine() @ [*place, 1])[:3], marker[:3])
