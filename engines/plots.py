"""Arrays to figures: survival curves, contributions, outlines over slices. Used by the PDF and by the evaluation.

Every function returns a PNG. Figures are drawn without pyplot, so nothing of a process's state is touched.
"""

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from engines.contours import trace_outlines
from engines.errors import InvalidInput

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]
Colour = tuple[float, float, float]

INK: Final = (0.13, 0.17, 0.22)
MUTED: Final = (0.45, 0.50, 0.56)
GRID: Final = (0.88, 0.90, 0.92)
PATIENT: Final = (0.10, 0.33, 0.62)
HIGH: Final = (0.75, 0.22, 0.17)
LOW: Final = (0.13, 0.52, 0.38)
"""Colours of the figures and the report; red and green differ in lightness too (OURS)."""

WINDOW_HU: Final = (-110.0, 240.0)
"""Displayed range of soft tissue in contrast-enhanced abdomen, HU (centre 65, width 350; OURS)."""

_DOTS_PER_INCH: Final = 220
_SMALLEST_POINTS: Final = 4.8
"""Smallest letters of a figure on paper (OURS)."""

_INCH_MM: Final = 25.4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SurvivalCurve:
    """Survival over time.

    Attributes:
        months: shape (n,), ascending, >= 0.
        probability: shape (n,), 0 to 1.
        low: lower bound, shape (n,), or None.
        high: upper bound, shape (n,), or None.

    Raises:
        InvalidInput: the arrays differ in length, or only one bound is given.
    """

    months: FloatArray
    probability: FloatArray
    low: FloatArray | None = None
    high: FloatArray | None = None

    def __post_init__(self) -> None:
        sizes = {
            array.shape for array in (self.months, self.probability, self.low, self.high) if array is not None
        }
        if len(sizes) != 1 or (self.low is None) != (self.high is None):
            raise InvalidInput(
                f"survival curve of arrays {sizes}, bounds {self.low is None}, {self.high is None}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """A predicted probability at one time: months > 0; probability, low, high 0 to 1."""

    months: float
    probability: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SurvivalPlot:
    """What a survival figure shows.

    Attributes:
        patient: this patient's curve; None = the horizons alone are drawn.
        horizons: predicted probabilities with intervals.
        cohort_low: Kaplan-Meier of the training cohort's low-risk group, or None.
        cohort_high: of its high-risk group, or None.
    """

    horizons: tuple[Horizon, ...]
    patient: SurvivalCurve | None = None
    cohort_low: SurvivalCurve | None = None
    cohort_high: SurvivalCurve | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outline:
    """A mask on a plane, bool (rows, columns), and the colour of its outline."""

    mask: BoolArray
    colour: Colour


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlicePicture:
    """One plane of a volume as it is shown.

    Attributes:
        plane: Hounsfield units (rows, columns).
        spacing_mm: distance of rows and of columns, mm.
        row_axis: LPS unit vector along which rows grow.
        column_axis: LPS unit vector along which columns grow.
        box: part that is shown, (first row, last row, first column, last column), last excluded; None = whole.
        heat: 0 to 1 on the same plane, shown in warm colours over the image; None = none.
    """

    plane: npt.NDArray[Any]
    spacing_mm: tuple[float, float]
    row_axis: tuple[float, float, float]
    column_axis: tuple[float, float, float]
    box: tuple[int, int, int, int] | None = None
    outlines: tuple[Outline, ...] = ()
    heat: FloatArray | None = None


def plot_survival(plot: SurvivalPlot, *, width_mm: float, height_mm: float) -> bytes:
    """Returns a PNG of predicted survival with its interval beside the training cohort's groups.

    Args:
        plot: curves and horizons.
        width_mm: width on paper, mm.
        height_mm: height on paper, mm.
    """
    with _style():
        figure = _figure(width_mm, height_mm)
        axes = figure.add_axes((0.10, 0.14, 0.885, 0.765))
        for curve, colour, words in (
            (plot.cohort_low, LOW, "cohort, low risk"),
            (plot.cohort_high, HIGH, "cohort, high risk"),
        ):
            if curve is not None:
                axes.step(
                    curve.months,
                    100 * curve.probability,
                    where="post",
                    color=colour,
                    lw=1.0,
                    ls=(0, (4, 2)),
                    label=words,
                )
        if plot.patient is not None:
            curve = plot.patient
            axes.plot(
                curve.months, 100 * curve.probability, color=PATIENT, lw=1.8, label="this patient's inputs"
            )
            if curve.low is not None and curve.high is not None:
                axes.fill_between(
                    curve.months, 100 * curve.low, 100 * curve.high, color=PATIENT, alpha=0.15, lw=0
                )
        _draw_horizons(axes, plot)
        last = max(
            [point.months for point in plot.horizons]
            + [
                float(c.months[-1])
                for c in (plot.patient, plot.cohort_low, plot.cohort_high)
                if c is not None
            ],
            default=12.0,
        )
        axes.set_xlim(0, last)
        axes.set_ylim(0, 103)
        step = 12.0 if last > 30 else 6.0 if last > 14 else 3.0
        axes.set_xticks(np.arange(0, last + 0.1, step))
        axes.set_yticks([0, 25, 50, 75, 100])
        axes.set_xlabel("months", labelpad=1.5)
        axes.set_yticklabels(["0", "25", "50", "75", "100 %"])
        axes.grid(color=GRID, lw=0.5)
        figure.legend(
            loc="upper center",
            ncols=3,
            frameon=False,
            fontsize=6.0,
            handlelength=1.8,
            columnspacing=1.1,
            borderaxespad=0.1,
        )
        return _png(figure)


def plot_contributions(
    parts: tuple[tuple[str, float], ...], *, width_mm: float, height_mm: float, label_share: float = 0.46
) -> bytes:
    """Returns a PNG of bars: what each input adds to the log hazard; right and red raises the risk.

    Args:
        parts: words and log hazard of each input, in the order to be drawn from the top.
        width_mm: width on paper, mm.
        height_mm: height on paper, mm.
        label_share: part of the width that the words may take, 0 to 1.
    """
    with _style():
        figure = _figure(width_mm, height_mm)
        bottom = 7.5 / height_mm
        axes = figure.add_axes((label_share, bottom, 0.97 - label_share, 0.99 - bottom))
        values = np.asarray([value for _, value in parts], dtype=np.float64)
        places = np.arange(len(parts))[::-1]
        axes.barh(places, values, height=0.62, color=[HIGH if value > 0 else LOW for value in values])
        reach = max(float(np.abs(values).max(initial=0.0)), 0.05) * 1.5
        for place, value in zip(places, values, strict=True):
            side = "left" if value >= 0 else "right"
            offset = reach * (0.015 if value >= 0 else -0.015)
            axes.text(value + offset, place, _signed(value), va="center", ha=side, fontsize=6, color=INK)
        axes.axvline(0, color=INK, lw=0.7)
        axes.set_xlim(-reach, reach)
        axes.set_ylim(-0.6, len(parts) - 0.4)
        axes.set_yticks([])
        _write_labels(
            axes,
            [(float(place), words) for place, (words, _) in zip(places, parts, strict=True)],
            room=label_share * width_mm / _INCH_MM * _DOTS_PER_INCH,
        )
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel("log hazard", labelpad=1.5)
        axes.set_axisbelow(True)
        axes.grid(axis="x", color=GRID, lw=0.5)
        axes.spines["left"].set_visible(False)
        return _png(figure)


def plot_slice(picture: SlicePicture, *, width_mm: float) -> tuple[bytes, float]:
    """Returns a PNG of one plane with outlines, orientation letters and a 5 cm bar, and its height on paper in mm.

    Args:
        picture: plane, outlines and part shown.
        width_mm: width on paper, mm; the height follows from the part's true proportions.
    """
    rows, columns = picture.plane.shape
    top, bottom, left, right = picture.box or (0, rows, 0, columns)
    size_mm = ((bottom - top) * picture.spacing_mm[0], (right - left) * picture.spacing_mm[1])
    height_mm = width_mm * size_mm[0] / size_mm[1]
    with _style():
        figure = _figure(width_mm, height_mm)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        row_mm, column_mm = picture.spacing_mm
        extent = (-0.5 * column_mm, (columns - 0.5) * column_mm, (rows - 0.5) * row_mm, -0.5 * row_mm)
        axes.imshow(
            np.asarray(picture.plane, dtype=np.float32),
            cmap="gray",
            vmin=WINDOW_HU[0],
            vmax=WINDOW_HU[1],
            extent=extent,
            interpolation="bicubic",
            aspect="auto",
        )
        if picture.heat is not None:
            heat = np.asarray(picture.heat, dtype=np.float64)
            axes.imshow(
                heat,
                cmap="inferno",
                vmin=0,
                vmax=1,
                alpha=np.clip(heat, 0, 1) * 0.6,
                extent=extent,
                aspect="auto",
            )
        for outline in picture.outlines:
            for polygon in trace_outlines(outline.mask):
                axes.plot(
                    polygon[:, 0] * column_mm,
                    polygon[:, 1] * row_mm,
                    color=outline.colour,
                    lw=0.9,
                    solid_joinstyle="round",
                )
        axes.set_xlim((left - 0.5) * column_mm, (right - 0.5) * column_mm)
        axes.set_ylim((bottom - 0.5) * row_mm, (top - 0.5) * row_mm)
        _letter(axes, picture)
        _scale(axes, size_mm[1])
        return _png(figure), height_mm


def name_direction(axis: tuple[float, float, float]) -> str:
    """Returns the letter of the patient's side towards which ``axis`` (LPS) points: L R P A H F.

    Source: PS3.3 C.7.6.1.1.1 (Patient Orientation).
    """
    strongest = int(np.argmax(np.abs(axis)))
    return (("L", "R"), ("P", "A"), ("H", "F"))[strongest][0 if axis[strongest] > 0 else 1]


def _style() -> "AbstractContextManager[None]":
    """The look of all figures, for the time of one drawing."""
    import matplotlib as mpl

    return mpl.rc_context(
        {
            "font.family": "DejaVu Sans",
            "font.size": 6.2,
            "axes.edgecolor": MUTED,
            "axes.labelcolor": MUTED,
            "axes.linewidth": 0.6,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "xtick.major.size": 2.0,
            "ytick.major.size": 2.0,
            "xtick.major.width": 0.5,
            "ytick.major.width": 0.5,
            "text.color": INK,
        }
    )


def _figure(width_mm: float, height_mm: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_mm / _INCH_MM, height_mm / _INCH_MM), dpi=_DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    return figure


def _png(figure: "Figure") -> bytes:
    stream = BytesIO()
    figure.savefig(
        stream,
        format="png",
        dpi=_DOTS_PER_INCH,
        metadata={"Software": None},
        pil_kwargs={"compress_level": 2},
    )
    return stream.getvalue()


def _signed(value: float) -> str:
    """A log hazard with its sign; what rounds to nothing has none."""
    words = f"{value:+.2f}"
    return words if float(words) else "0.00"


def _write_labels(axes: "Axes", labels: list[tuple[float, str]], *, room: float) -> None:
    """Writes words left of the axes, all smaller, and at the last single ones shorter, until they fit in ``room`` dots."""
    written = [
        axes.text(
            -0.02,
            place,
            words,
            transform=axes.get_yaxis_transform(),
            ha="right",
            va="center",
            fontsize=6.4,
            color=INK,
        )
        for place, words in labels
    ]
    widest = max((label.get_window_extent().width for label in written), default=0.0)
    if widest > 0.92 * room:
        for label in written:
            label.set_fontsize(max(_SMALLEST_POINTS, 6.4 * 0.92 * room / widest))
    for label in written:
        words = label.get_text()
        while len(words) > 2 and label.get_window_extent().width > 0.93 * room:
            words = words.removesuffix("…")[:-1] + "…"
            label.set_text(words)


def _draw_horizons(axes: "Axes", plot: SurvivalPlot) -> None:
    for point in plot.horizons:
        axes.plot([point.months] * 2, [100 * point.low, 100 * point.high], color=PATIENT, lw=1.0)
        axes.plot(
            [point.months],
            [100 * point.probability],
            marker="o",
            ms=3.4,
            color=PATIENT,
            mec="white",
            mew=0.5,
            zorder=4,
            label="this patient's inputs" if plot.patient is None and point is plot.horizons[0] else None,
        )


def _letter(axes: "Axes", picture: SlicePicture) -> None:
    column, row = np.asarray(picture.column_axis), np.asarray(picture.row_axis)
    for axis, x, y in ((-column, 0.025, 0.5), (column, 0.975, 0.5), (-row, 0.5, 0.965), (row, 0.5, 0.035)):
        axes.text(
            x,
            y,
            name_direction((float(axis[0]), float(axis[1]), float(axis[2]))),
            transform=axes.transAxes,
            ha="center",
            va="center",
            fontsize=5.5,
            color="white",
            alpha=0.85,
        )


def _scale(axes: "Axes", width_mm: float) -> None:
    """A bar of 5 cm, and where the part shown is narrow, of 2 cm."""
    length_mm = 50.0 if width_mm > 150.0 else 20.0
    share = length_mm / width_mm
    axes.plot([0.96 - share, 0.96], [0.05, 0.05], transform=axes.transAxes, color="white", lw=1.0)
    axes.text(
        0.96 - share / 2,
        0.065,
        f"{length_mm / 10:.0f} cm",
        transform=axes.transAxes,
        ha="center",
        va="bottom",
        fontsize=4.8,
        color="white",
    )
