"""The report as a PDF: pages in their order, and pictures of the pages."""

from io import BytesIO
from typing import Final

from engines.phase import Phase
from node.report.header import Envelope
from node.report.pdf.method import draw_method
from node.report.pdf.paper import PageHead, Paper
from node.report.pdf.pictures import draw_pictures
from node.report.pdf.refusal import draw_refusal
from node.report.pdf.sections import patient_line, read_details
from node.report.pdf.summary import draw_summary
from node.report.record import Status
from node.report.segments import PhaseMasks
from node.report.sources import ReportSources
from node.report.wording import warnings_of

TITLE: Final = "Survival estimate from liver CT"

_PAGE_SCALE: Final = 125.0 / 72.0
"""Pictures of pages at 125 dots an inch: the smallest print stays legible, 1034 pixels wide (OURS)."""


def write_pdf(
    envelope: Envelope,
    sources: ReportSources,
    masks: dict[Phase, PhaseMasks],
) -> bytes:
    """Returns the report as PDF; the same report gives the same bytes.

    Args:
        envelope: what the result's objects share.
        sources: volumes and curves.
        masks: the structures that were outlined, by phase; may be empty.
    """
    report = envelope.report
    details = read_details(envelope.source)
    offset = envelope.concluded.strftime("%z")
    when = envelope.concluded.strftime("%Y-%m-%d %H:%M UTC") + ("" if offset == "+0000" else offset)
    head = PageHead(
        title=TITLE,
        patient_line=patient_line(details),
        warnings=warnings_of(report),
        foot=f"mmf-node {report.software_version}   ·   {when}   ·   study {report.study_instance_uid}",
    )
    paper = Paper(head, created=envelope.concluded)
    if report.status == Status.ASSESSED:
        draw_summary(paper, report, sources, details)
        if masks:
            paper.start_page()
            draw_pictures(paper, sources, masks)
        paper.start_page()
        draw_method(paper, report, sources)
    else:
        draw_refusal(paper, report, sources, details)
    return paper.output()


def picture_pages(pdf: bytes) -> tuple[bytes, ...]:
    """Returns a PNG of each page.

    Args:
        pdf: a PDF document.
    """
    import pypdfium2

    pictures: list[bytes] = []
    document = pypdfium2.PdfDocument(pdf)
    try:
        for page in document:
            stream = BytesIO()
            page.render(scale=_PAGE_SCALE).to_pil().save(stream, format="PNG", compress_level=4)
            pictures.append(stream.getvalue())
    finally:
        document.close()
    return tuple(pictures)
