"""The one page of a study without a risk: why there is none, and what would help."""

from typing import Final

from engines.plots import HIGH
from node.report.pdf.method import draw_technique
from node.report.pdf.paper import CONTENT_MM, MARGIN_MM, PALE, Paper, bytes_of
from node.report.pdf.sections import PatientDetails, draw_notes, draw_patient, draw_phases
from node.report.record import ReasonCode, Report, Status
from node.report.sources import ReportSources
from node.report.wording import POPULATION_SENTENCE, remedy

_MOST_LETTERS: Final = 1800
"""Of a reason on the page: about a third of it (OURS)."""


def draw_refusal(paper: Paper, report: Report, sources: ReportSources, details: PatientDetails) -> None:
    """Draws the page of a study that is not assessable, or whose processing failed.

    Args:
        paper: at the top of a fresh page.
        report: a report with a reason.
        sources: the acquisitions, for their technique.
        details: patient and study.
    """
    draw_patient(paper, details)
    reason = report.reason_code or ReasonCode.PROCESSING_FAILED
    title = "Processing failed" if report.status == Status.FAILED else "No risk estimate can be given"
    pdf = paper.pdf
    room = CONTENT_MM - 9.0
    helps = remedy(reason)
    told = _shorten(_sentence(report.reason))
    height = (
        16.0
        + sum(paper.block_height(words, points=9.0, width_mm=room) for words in (report.reason, helps))
        + 7.0
    )
    y = pdf.get_y()
    pdf.set_fill_color(*bytes_of(PALE))
    pdf.rect(MARGIN_MM, y, CONTENT_MM, height, style="F")
    pdf.set_fill_color(*bytes_of(HIGH))
    pdf.rect(MARGIN_MM, y, 1.6, height, style="F")
    pdf.set_xy(MARGIN_MM + 5.0, y + 2.5)
    paper.write_line(title, points=14, bold=True, width_mm=room, height_mm=7.0)
    pdf.set_xy(MARGIN_MM + 5.0, y + 10.5)
    paper.write_block(told, points=9.0, width_mm=room)
    pdf.set_xy(MARGIN_MM + 5.0, pdf.get_y() + 2.5)
    paper.write_block("What would help", points=7.4, bold=True, width_mm=room)
    paper.write_block(helps, points=9.0, width_mm=room)
    pdf.set_xy(MARGIN_MM, y + height + 5.0)
    notes = (*report.flags, *(f"Missing: {words}" for words in report.missing))
    if notes:
        draw_notes(paper, "Take care", notes, width_mm=CONTENT_MM, empty="")
        pdf.set_xy(MARGIN_MM, pdf.get_y() + 3.0)
    draw_phases(paper, report)
    pdf.set_xy(MARGIN_MM, pdf.get_y() + 3.0)
    draw_technique(paper, report, sources)
    draw_notes(paper, "For whom this is made", (POPULATION_SENTENCE,), width_mm=CONTENT_MM, empty="")


def _shorten(words: str) -> str:
    """The words, cut where they would fill the page; report.json and the SR hold all of them."""
    return (
        words
        if len(words) <= _MOST_LETTERS
        else words[:_MOST_LETTERS].rsplit(" ", 1)[0] + " … (see report.json)"
    )


def _sentence(words: str) -> str:
    """The words with a capital at their head and a stop at their end."""
    text = words.strip()
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
