"""Figures show what they are given: right side, true proportions, legible bounds."""

import io

import numpy as np
import pytest
from PIL import Image

from engines.contours import enclosed_area, trace_outlines
from engines.errors import InvalidInput
from engines.plots import (
    HIGH,
    LOW,
    Horizon,
    Outline,
    SlicePicture,
    SurvivalCurve,
    SurvivalPlot,
    name_direction,
    plot_contributions,
    plot_slice,
    plot_survival,
)

AXIAL = {"row_axis": (0.0, 1.0, 0.0), "column_axis": (1.0, 0.0, 0.0)}


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(float) / 255


def near(picture, colour):
    """Where the picture has this colour."""
    return np.abs(picture - colour).max(axis=-1) < 0.06


def test_outline_of_a_rectangle_runs_between_the_pixels():
    mask = np.zeros((8, 10), bool)
    mask[2:5, 3:8] = True
    (polygon,) = trace_outlines(mask)
    assert polygon.min(axis=0) == pytest.approx([2.5, 1.5])
    assert polygon.max(axis=0) == pytest.approx([7.5, 4.5])
    assert (polygon[0] == polygon[-1]).all()
    assert enclosed_area(polygon) == pytest.approx(15, abs=0.6)  # the corners are cut


def test_outline_is_closed_at_the_edge_of_the_plane():
    (polygon,) = trace_outlines(np.ones((4, 4), bool))
    assert (polygon[0] == polygon[-1]).all()
    assert enclosed_area(polygon) == pytest.approx(16, abs=0.6)


def test_outlines_come_largest_first_and_none_for_nothing():
    mask = np.zeros((20, 20), bool)
    mask[1:4, 1:4] = True
    mask[8:18, 8:18] = True
    areas = [enclosed_area(polygon) for polygon in trace_outlines(mask)]
    assert len(areas) == 2
    assert areas == sorted(areas, reverse=True)
    assert trace_outlines(np.zeros((5, 5), bool)) == ()


def test_a_slice_keeps_its_true_proportions():
    plane = np.full((40, 60), 40.0)
    png, height_mm = plot_slice(SlicePicture(plane=plane, spacing_mm=(2.0, 1.0), **AXIAL), width_mm=60.0)
    assert height_mm == pytest.approx(80.0)
    rows, columns, _ = pixels(png).shape
    assert rows / columns == pytest.approx(80 / 60, rel=0.01)


def test_an_outline_stands_where_its_mask_is():
    plane = np.full((50, 50), 40.0)
    mask = np.zeros((50, 50), bool)
    mask[5:15, 30:45] = True
    picture = SlicePicture(
        plane=plane, spacing_mm=(1.0, 1.0), outlines=(Outline(mask=mask, colour=(1.0, 0.0, 0.0)),), **AXIAL
    )
    drawn = pixels(plot_slice(picture, width_mm=50.0)[0])
    red = np.argwhere((drawn[..., 0] > 0.8) & (drawn[..., 1] < 0.3)) / drawn.shape[0] * 50
    assert red.min(axis=0) == pytest.approx([5, 30], abs=0.6)
    assert red.max(axis=0) == pytest.approx([15, 45], abs=0.6)


@pytest.mark.parametrize(
    ("axis", "letter"),
    [
        ((1, 0, 0), "L"),
        ((-1, 0, 0), "R"),
        ((0, 1, 0), "P"),
        ((0, -1, 0), "A"),
        ((0, 0, 1), "H"),
        ((0, 0, -1), "F"),
    ],
)
def test_directions_are_named_in_lps(axis, letter):
    assert name_direction(axis) == letter


def test_a_raising_input_goes_right_in_red_and_a_lowering_one_left_in_green():
    drawn = pixels(plot_contributions((("up", 0.5), ("down", -0.5)), width_mm=80.0, height_mm=25.0))
    red, green = np.argwhere(near(drawn, HIGH)), np.argwhere(near(drawn, LOW))
    assert red[:, 1].min() > green[:, 1].max() - 3
    assert red[:, 0].max() < green[:, 0].min()


def test_contributions_of_nothing_still_draw():
    assert plot_contributions((("none", 0.0),), width_mm=80.0, height_mm=20.0)


@pytest.mark.parametrize("length", [5, 40, 200])
def test_words_of_any_length_are_not_cut_at_the_edge(length):
    drawn = pixels(plot_contributions((("W" * length, 0.2), ("short", -0.1)), width_mm=80.0, height_mm=25.0))
    assert drawn[:, :3].min() > 0.99
    assert drawn[:, 5 : drawn.shape[1] // 3].min() < 0.5


def test_survival_draws_with_and_without_the_cohort():
    point = Horizon(months=12.0, probability=0.6, low=0.5, high=0.7)
    months = np.array([0.0, 12.0, 24.0])
    curve = SurvivalCurve(months=months, probability=np.array([1.0, 0.6, 0.4]))
    alone = plot_survival(SurvivalPlot(horizons=(point,)), width_mm=80.0, height_mm=50.0)
    both = plot_survival(
        SurvivalPlot(horizons=(point,), cohort_low=curve, cohort_high=curve), width_mm=80.0, height_mm=50.0
    )
    assert not near(pixels(alone), HIGH).any()
    assert near(pixels(both), HIGH).any()


def test_the_same_figure_has_the_same_bytes():
    point = Horizon(months=12.0, probability=0.6, low=0.5, high=0.7)
    plot = SurvivalPlot(horizons=(point,))
    assert plot_survival(plot, width_mm=80.0, height_mm=50.0) == plot_survival(
        plot, width_mm=80.0, height_mm=50.0
    )


def test_a_curve_with_one_bound_is_refused():
    with pytest.raises(InvalidInput):
        SurvivalCurve(months=np.zeros(2), probability=np.zeros(2), low=np.zeros(2))
