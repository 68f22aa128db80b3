"""The first page: the estimates of both endpoints, what they rest on, and what to be careful about."""

from typing import Final

from engines.plots import INK, MUTED, Horizon, SurvivalPlot, plot_survival
from node.report.pdf.paper import CONTENT_MM, MARGIN_MM, RULE, Paper, bytes_of, group_colour
from node.report.pdf.sections import PatientDetails, draw_notes, draw_patient, draw_phases, notes_height
from node.report.record import Report, Risk
from node.report.sources import ReportSources
from node.report.wording import ENDPOINT_TITLES, LIMITS, risk_of

_GAP_MM: Final = 6.0
_CARD_MM: Final = (CONTENT_MM - _GAP_MM) / 2
_PLOT_MM: Final = 58.0
_MOST_NOTES_MM: Final = 60.0
"""Higher lists of warnings take the whole width (OURS)."""

_CARE: Final = "Take care"


def draw_summary(paper: Paper, report: Report, sources: ReportSources, details: PatientDetails) -> None:
    """Draws the first page of an assessed study.

    Args:
        paper: at the top of a fresh page.
        report: an assessed report.
        sources: curves of patient and cohort.
        details: patient and study.
    """
    draw_patient(paper, details)
    top = paper.pdf.get_y()
    bottoms = [
        _draw_card(paper, report, sources, endpoint, x=MARGIN_MM + column * (_CARD_MM + _GAP_MM), y=top)
        for column, endpoint in enumerate(ENDPOINT_TITLES)
    ]
    top = max(bottoms) + 3.0
    paper.pdf.set_xy(MARGIN_MM, top)
    _draw_structures(paper, report)
    bottom = paper.pdf.get_y()
    notes = (*report.flags, *(f"Missing: {words}" for words in report.missing))
    beside = notes_height(paper, notes, width_mm=_CARD_MM) < _MOST_NOTES_MM
    if beside:
        paper.pdf.set_xy(MARGIN_MM + _CARD_MM + _GAP_MM, top)
        draw_notes(
            paper,
            _CARE,
            notes,
            width_mm=_CARD_MM,
            empty="No contradiction was found and no input is missing.",
        )
        bottom = max(bottom, paper.pdf.get_y())
    paper.pdf.set_xy(MARGIN_MM, bottom + 3.0)
    if not beside:
        draw_notes(paper, _CARE, notes, width_mm=CONTENT_MM, empty="")
        paper.pdf.set_xy(MARGIN_MM, paper.pdf.get_y() + 3.0)
    draw_phases(paper, report)
    paper.pdf.set_xy(MARGIN_MM, paper.pdf.get_y() + 3.0)
    draw_notes(paper, "How to read the figures", LIMITS[:3], width_mm=CONTENT_MM, empty="")


def _draw_card(
    paper: Paper, report: Report, sources: ReportSources, endpoint: str, *, x: float, y: float
) -> float:
    """Draws one endpoint and returns where it ends."""
    pdf = paper.pdf
    pdf.set_xy(x, y)
    paper.write_heading(ENDPOINT_TITLES[endpoint], width_mm=_CARD_MM)
    risk = risk_of(report, endpoint)
    if risk is None:
        paper.write_block("No estimate for this endpoint.", colour=MUTED, width_mm=_CARD_MM)
        return float(pdf.get_y())
    _draw_verdict(paper, risk, x=x, y=pdf.get_y())
    _draw_horizons(paper, risk, x=x, y=pdf.get_y())
    image = plot_survival(_survival_plot(sources, risk), width_mm=_CARD_MM, height_mm=_PLOT_MM)
    pdf.image(image, x=x, y=pdf.get_y() + 1.5, w=_CARD_MM, h=_PLOT_MM)
    return float(pdf.get_y() + 1.5 + _PLOT_MM)


def _draw_verdict(paper: Paper, risk: Risk, *, x: float, y: float) -> None:
    pdf = paper.pdf
    pdf.set_fill_color(*bytes_of(group_colour(risk.group)))
    pdf.rect(x, y + 0.5, 33.0, 10.0, style="F", round_corners=True, corner_radius=1.2)
    pdf.set_xy(x, y + 0.5)
    paper.write_line(
        f"{risk.group.upper()} RISK",
        points=12,
        bold=True,
        colour=(1, 1, 1),
        width_mm=33.0,
        height_mm=10.0,
        align="C",
    )
    room = _CARD_MM - 35.0
    lines = [f"log hazard {risk.log_hazard:+.2f} (95 % interval {risk.low:+.2f} to {risk.high:+.2f})"]
    lines.append(f"{risk.model}; {risk.group} = {_side(risk)} the cut-off {risk.cutoff:+.2f}")
    if risk.percentile is not None:
        lines.append(f"higher than {risk.percentile:.0f} % of the training cohort")
    for number, words in enumerate(lines):
        pdf.set_xy(x + 35.0, y + 0.2 + 3.6 * number)
        paper.write_line(words, points=7.0, colour=INK, width_mm=room, height_mm=3.6)
    pdf.set_xy(x, y + 12.5)


def _side(risk: Risk) -> str:
    return "above" if risk.group == "high" else "at or below"


def _draw_horizons(paper: Paper, risk: Risk, *, x: float, y: float) -> None:
    """Survival at each time: the time, the probability, the interval."""
    pdf = paper.pdf
    width = _CARD_MM / max(1, len(risk.survival))
    pdf.set_draw_color(*bytes_of(RULE))
    for number, point in enumerate(risk.survival):
        place = x + number * width
        rows = (
            (f"{point.months:g} months", 6.4, False, MUTED, 3.6),
            (f"{100 * point.probability:.0f} %", 11.0, True, INK, 5.2),
            (f"{100 * point.low:.0f} – {100 * point.high:.0f} %", 6.4, False, MUTED, 3.6),
        )
        row_y = y
        for words, points, bold, colour, height in rows:
            pdf.set_xy(place, row_y)
            paper.write_line(
                words, points=points, bold=bold, colour=colour, width_mm=width, height_mm=height, align="C"
            )
            row_y += height
        if number:
            pdf.line(place, y + 1.0, place, y + 11.5)
    pdf.set_xy(x, y + 12.6)


def _survival_plot(sources: ReportSources, risk: Risk) -> SurvivalPlot:
    cohort = {entry.group: entry.curve for entry in sources.cohort_curves if entry.endpoint == risk.endpoint}
    own = next((entry.curve for entry in sources.patient_curves if entry.endpoint == risk.endpoint), None)
    return SurvivalPlot(
        horizons=tuple(
            Horizon(months=point.months, probability=point.probability, low=point.low, high=point.high)
            for point in risk.survival
        ),
        patient=own,
        cohort_low=cohort.get("low"),
        cohort_high=cohort.get("high"),
    )


def _draw_structures(paper: Paper, report: Report) -> None:
    paper.write_heading("Liver and tumours", width_mm=_CARD_MM)
    rows = [
        (
            structure.name.capitalize(),
            f"{structure.volume_ml:.1f} mL",
            "" if structure.longest_diameter_mm is None else f"{structure.longest_diameter_mm:.1f} mm",
            structure.provider,
        )
        for structure in report.structures[:_MOST_ROWS]
    ]
    if not rows:
        paper.write_block("Nothing was outlined.", colour=MUTED, width_mm=_CARD_MM)
        return
    paper.write_table(
        rows,
        (20.0, 20.0, 24.0, _CARD_MM - 64.0),
        head=("", "Volume", "Longest diameter", "Outlined by"),
        bold_first=True,
    )
    hidden = len(report.structures) - _MOST_ROWS
    if hidden > 0:
        paper.write_block(
            f"and {hidden} smaller lesions (see report.json)", points=6.4, colour=MUTED, width_mm=_CARD_MM
        )


_MOST_ROWS: Final = 7
"""Structures listed on the first page (OURS)."""
