"""Figures of the evaluation: Kaplan-Meier panels with numbers at risk, calibration, decision curves. Each is a PNG."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import cycle
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from engines.plots import GRID, INK, MUTED
from engines.plots import HIGH as HIGH_COLOUR
from engines.plots import LOW as LOW_COLOUR
from engines.survival.calibration import Calibration
from engines.survival.decision import NetBenefit
from engines.survival.kaplan_meier import count_at_risk, estimate_survival
from engines.survival.outcome import BoolArray, FloatArray, Outcome
from train.evaluate.measures import HIGH, LOW, RiskGroups
from train.evaluate.radiomics import Correlations
from train.evaluate.refits import Instability
from train.evaluate.words import p_text, ratio_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS_A_FIGURE = 12
"""Panels on one page, three in a row."""

_COLUMNS = 3
_WIDTH_INCH = 7.3
_PANEL_INCH = 2.35
_COUNTS_INCH = 0.76
"""Below the lowest panels: ticks and two lines of numbers at risk; enough for a single row, whose panels are the highest."""

_DOTS_PER_INCH = 140
_LINE_COLOURS = ("#1a5499", "#bf3830", "#22855f", "#7a4fa3", "#b8791a", "#4b5563", "#0f8b9e", "#a3306e")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SurvivalPanel:
    """One Kaplan-Meier panel.

    Attributes:
        title: what is shown.
        outcome: of the patients of this panel; None when it is not shown.
        high: (n,) which of them are at high risk.
        groups: low and high with their test; None when it is not shown.
        reason: why it is not shown.
    """

    title: str
    outcome: Outcome | None = None
    high: BoolArray | None = None
    groups: RiskGroups | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenefitLine:
    """Net benefit of one model at one month."""

    model: str
    points: tuple[NetBenefit, ...]


def draw_survival_panels(panels: Sequence[SurvivalPanel], endpoint: str) -> bytes:
    """Returns a PNG of up to ``PANELS_A_FIGURE`` panels, numbers at risk under every curve.

    Args:
        panels: in the order of rows.
        endpoint: for the axis.
    """
    rows = -(-len(panels) // _COLUMNS)
    figure = _figure(rows * _PANEL_INCH)
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(rows, _COLUMNS, place + 1)
        _draw_panel(axes, panel, endpoint)
    figure.subplots_adjust(
        left=0.075,
        right=0.985,
        top=1 - 0.26 / (rows * _PANEL_INCH),
        bottom=_COUNTS_INCH / (rows * _PANEL_INCH),
        wspace=0.30,
        hspace=0.72,
    )
    return _png(figure)


def draw_calibration(calibrations: Sequence[Calibration], title: str) -> bytes:
    """Returns a PNG of observed against predicted risk in groups, one panel a month."""
    figure = _figure(2.5)
    for place, calibration in enumerate(calibrations):
        axes = figure.add_subplot(1, max(len(calibrations), _COLUMNS), place + 1)
        axes.plot((0, 1), (0, 1), color=MUTED, lw=0.8, ls="--")
        for group in calibration.groups:
            axes.plot((group.predicted, group.predicted), (group.low, group.high), color=LOW_COLOUR, lw=1)
            axes.plot(group.predicted, group.observed, "o", color=LOW_COLOUR, ms=4)
        ici = "" if calibration.ici is None else f", ICI {calibration.ici:.3f}"
        slope = "" if calibration.slope is None else f"slope {calibration.slope.value:.2f}{ici}"
        axes.set_title(
            f"{title}, {calibration.time:g} months\nO/E {calibration.ratio:.2f}, {slope}", fontsize=7
        )
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("predicted risk", fontsize=6.5)
        axes.set_ylabel("observed risk", fontsize=6.5)
        _tidy(axes)
    figure.subplots_adjust(left=0.07, right=0.985, top=0.82, bottom=0.17, wspace=0.32)
    return _png(figure)


def draw_decision_curves(months: Sequence[tuple[float, Sequence[BenefitLine]]], title: str) -> bytes:
    """Returns a PNG of net benefit against threshold, one panel a month, with acting on everyone and on nobody."""
    figure = _figure(2.6)
    fullest = sorted(months, key=lambda month: -len(month[1]))
    models = dict.fromkeys(line.model for _, lines in fullest for line in lines)
    colours = dict(zip(models, cycle(_LINE_COLOURS), strict=False))
    for place, (month, lines) in enumerate(months):
        axes = figure.add_subplot(1, max(len(months), _COLUMNS), place + 1)
        everyone = [(point.threshold, point.everyone) for point in lines[0].points]
        axes.plot(*zip(*everyone, strict=True), color=MUTED, lw=0.9, ls="--", label="everyone")
        axes.axhline(0, color=INK, lw=0.8, label="nobody")
        for line in lines:
            known = [(point.threshold, point.model) for point in line.points if point.model is not None]
            axes.plot(*zip(*known, strict=True), color=colours[line.model], lw=1.1, label=_cut(line.model))
        top = max(0.1, *(point.everyone for line in lines for point in line.points))
        axes.set_ylim(-0.1, top * 1.1)
        axes.set_xlim(0, 1)
        axes.set_title(f"{title}, {month:g} months", fontsize=7)
        axes.set_xlabel("threshold probability", fontsize=6.5)
        axes.set_ylabel("net benefit", fontsize=6.5)
        axes.legend(fontsize=5.5, frameon=False, loc="best")
        _tidy(axes)
    figure.subplots_adjust(left=0.07, right=0.985, top=0.88, bottom=0.17, wspace=0.32)
    return _png(figure)


def draw_instability(found: Sequence[Instability]) -> bytes:
    """Returns a PNG of refitted against original risk of every patient, one panel an endpoint, with the central 95 %."""
    figure = _figure(3.0)
    for place, entry in enumerate(found):
        axes = figure.add_subplot(1, max(len(found), 2), place + 1)
        order = np.argsort(entry.original)
        low, high = np.quantile(entry.refitted, (0.025, 0.975), axis=0)
        shown = entry.refitted[:: max(1, entry.refitted.shape[0] // _MOST_REFITS)]
        axes.plot(
            np.tile(entry.original, shown.shape[0]), shown.ravel(), ".", color=MUTED, ms=0.8, alpha=0.25
        )
        for bound in (low, high):
            axes.plot(entry.original[order], _smooth(bound[order]), color=HIGH_COLOUR, lw=1.0)
        axes.plot((0, 1), (0, 1), color=INK, lw=0.8, ls="--")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_title(
            f"{entry.endpoint}, {entry.month:g} months: mean absolute difference {entry.difference:.3f}",
            fontsize=7,
        )
        axes.set_xlabel("risk by the fit", fontsize=6.5)
        axes.set_ylabel(f"risk by {entry.refitted.shape[0]} refits", fontsize=6.5)
        _tidy(axes)
    figure.subplots_adjust(left=0.07, right=0.985, top=0.90, bottom=0.15, wspace=0.22)
    return _png(figure)


def draw_correlations(found: Correlations, title: str) -> bytes:
    """Returns a PNG heat map of signatures (columns) against features (rows); * marks an adjusted P below .05."""
    rows = len(found.features)
    height = 0.62 + 0.19 * rows
    box = (0.28 / height, 1 - 0.56 / height)
    figure = _figure(height)
    axes = figure.add_axes((0.48, box[0], 0.42, box[1]))
    image = axes.imshow(found.rho, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    for row in range(rows):
        for column in range(len(found.signatures)):
            value = found.rho[row, column]
            if np.isnan(value):
                continue
            mark = "*" if found.p_values[row, column] < _SIGNIFICANT else ""
            colour = "white" if abs(value) > _DARK else INK
            axes.text(
                column, row, f"{value:+.2f}{mark}", ha="center", va="center", fontsize=5.5, color=colour
            )
    axes.set_xticks(range(len(found.signatures)), found.signatures, fontsize=6.5)
    axes.set_yticks(range(rows), found.features, fontsize=5.8)
    axes.tick_params(length=0, colors=INK)
    axes.set_title(title, fontsize=7, color=INK)
    bar = figure.colorbar(image, cax=figure.add_axes((0.92, box[0], 0.015, box[1])))
    bar.ax.tick_params(labelsize=5.8, length=2)
    bar.set_label("Spearman's rho", fontsize=6.2)
    return _png(figure)


def _cut(name: str) -> str:
    return name if len(name) <= _LEGEND_LETTERS else name[: _LEGEND_LETTERS - len(_CUT)] + _CUT


def _smooth(values: FloatArray) -> FloatArray:
    """A running median, so that the band of single patients reads as a band."""
    width = max(1, values.size // 20)
    result: FloatArray = np.array(
        [np.median(values[max(0, k - width) : k + width + 1]) for k in range(values.size)]
    )
    return result


_MOST_REFITS = 40
_SIGNIFICANT = 0.05
_DARK = 0.55
"""A correlation beyond it stands on a dark field."""


def _draw_panel(axes: "Axes", panel: SurvivalPanel, endpoint: str) -> None:
    title = fill(panel.title, _TITLE_LETTERS, max_lines=2, placeholder=_CUT)
    axes.set_title(title, fontsize=7, color=INK, pad=3)
    _tidy(axes)
    if panel.groups is None or panel.outcome is None or panel.high is None:
        axes.text(0.5, 0.5, panel.reason, transform=axes.transAxes, ha="center", fontsize=6.5, color=MUTED)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    high = panel.high
    ticks = _time_ticks(float(panel.outcome.time.max()))
    axes.set_xlim(0, max(ticks[-1], float(panel.outcome.time.max())) * 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xticks(ticks)
    for line, (name, mask, colour) in enumerate(((LOW, ~high, LOW_COLOUR), (HIGH, high, HIGH_COLOUR))):
        if not mask.any():
            continue
        _draw_curve(axes, panel.outcome.take(mask), name, colour)
        counts = _count_at(panel.outcome, mask, ticks)
        height = -0.33 - 0.11 * line
        for tick, count in zip(ticks, counts, strict=True):
            axes.text(
                tick,
                height,
                str(count),
                transform=axes.get_xaxis_transform(),
                ha="center",
                fontsize=5.5,
                color=colour,
            )
        axes.text(-0.09, height, name, transform=axes.transAxes, ha="right", fontsize=5.5, color=colour)
    ratio = panel.groups.hazard_ratio
    words = "HR not estimable" if ratio is None else f"HR {ratio_text(ratio)}"
    p_value = panel.groups.logrank_p
    axes.text(
        0.97,
        0.97,
        f"{words}\nlog-rank {'not estimable' if p_value is None else 'P ' + p_text(p_value)}",
        transform=axes.transAxes,
        ha="right",
        va="top",
        fontsize=5.8,
        color=INK,
    )
    axes.set_ylabel(f"{endpoint}", fontsize=6.5, labelpad=1)
    axes.text(1.0, -0.22, "months", transform=axes.transAxes, ha="right", fontsize=5.5, color=MUTED)
    axes.text(0.0, -0.22, "at risk", transform=axes.transAxes, ha="left", fontsize=5.5, color=MUTED)


def _draw_curve(axes: "Axes", outcome: Outcome, name: str, colour: tuple[float, float, float]) -> None:
    curve = estimate_survival(outcome)
    time, survival = np.append(0.0, curve.time), np.append(1.0, curve.survival)
    low = np.append(1.0, np.where(np.isnan(curve.low), curve.survival, curve.low))
    high = np.append(1.0, np.where(np.isnan(curve.high), curve.survival, curve.high))
    axes.fill_between(time, low, high, step="post", color=colour, alpha=0.13, lw=0)
    axes.step(time, survival, where="post", color=colour, lw=1.1, label=name)
    censored = curve.censored > 0
    axes.plot(curve.time[censored], curve.survival[censored], "|", color=colour, ms=3, mew=0.6)


def _count_at(outcome: Outcome, mask: BoolArray, ticks: Sequence[float]) -> tuple[int, ...]:
    return count_at_risk(estimate_survival(outcome.take(mask)), ticks)


def _time_ticks(last: float) -> list[float]:
    step = next(
        (width for width in (1.0, 2.0, 3.0, 6.0, 12.0, 24.0, 48.0) if last / width <= _MOST_TICKS), 60.0
    )
    return [step * k for k in range(int(last // step) + 1)] or [0.0, step]


_MOST_TICKS = 6
_TITLE_LETTERS, _LEGEND_LETTERS = 38, 30
"""What a panel of a third of the page is wide enough for; the tables beside it give the whole name."""
_CUT = " ..."


def _tidy(axes: "Axes") -> None:
    axes.tick_params(labelsize=5.8, length=2, width=0.5, colors=INK)
    axes.grid(color=GRID, lw=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_linewidth(0.5)


def _figure(height_inch: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_INCH, height_inch), dpi=_DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    return figure


def _png(figure: "Figure") -> bytes:
    stream = BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
