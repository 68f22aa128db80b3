"""However much a report says, nothing is cut off, nothing overlaps the foot, and every page has its head."""

from dataclasses import replace

import numpy as np
import pypdfium2
import pytest

from engines.phase import Phase
from engines.volume import Volume
from node.report.bundle import write_objects
from node.report.header import Envelope, localise, read_source
from node.report.pdf.document import write_pdf
from node.report.pdf.paper import FOOT_MM, MARGIN_MM, PAGE_HEIGHT_MM, PAGE_WIDTH_MM
from node.report.record import ClinicalEntry, Contribution
from node.report.segments import draw_masks, list_segments
from node.report.sources import ReportSources, SaliencyMap
from tests.report_study import ct_header, make_failure, make_instance, make_report, make_sources

POINT_MM = 25.4 / 72
FOOT_LINE_MM = 12.5


def crowded():
    """A report with more of everything than a page holds."""
    report = make_report()
    phases = tuple(
        replace(
            report.phases[3], series_number=10 + n, series_description=f"MPR coronal {n} " + "long words " * 4
        )
        for n in range(60)
    )
    contributions = tuple(
        Contribution(name=f"Variable number {n}", value="a value of some length", log_hazard=0.3 - 0.04 * n)
        for n in range(15)
    )
    lesions = tuple(
        replace(report.structures[3], name=f"lesion {n}", label=n, volume_ml=5.0 / n) for n in range(2, 25)
    )
    return replace(
        report,
        phases=report.phases + phases,
        structures=report.structures[:3] + lesions,
        risks=tuple(replace(risk, contributions=contributions) for risk in report.risks),
        clinical=tuple(ClinicalEntry(name=f"variable {n}", value="present", unit="ng/mL") for n in range(22)),
        flags=tuple(
            f"contradiction number {n} between the table and the images, told at length" for n in range(25)
        ),
    )


def glyph_boxes(pdf):
    """Of every glyph: page, left, right, top, bottom, mm from the page's top left corner; shape (n, 5)."""
    found = []
    for number, page in enumerate(pypdfium2.PdfDocument(pdf)):
        height, text = page.get_height(), page.get_textpage()
        for index in range(text.count_rects()):
            left, bottom, right, top = text.get_rect(index)
            found.append((number, left, right, height - top, height - bottom))
    return np.asarray(found) * (1, *[POINT_MM] * 4)


def page_words(pdf):
    """The words of each page, lines joined by blanks."""
    return [" ".join(page.get_textpage().get_text_range().split()) for page in pypdfium2.PdfDocument(pdf)]


def draw(report, sources):
    source = read_source(sources.instance)
    segments = list_segments(report)
    masks = {used.phase: draw_masks(segments, sources, used) for used in sources.used} if segments else {}
    envelope = Envelope(
        report=report, source=source, digest="0", concluded=localise(report.concluded_at, source)
    )
    return write_pdf(envelope, sources, masks)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return make_sources(tmp_path_factory.mktemp("study"), ct_header(f"{'W' * 64}={'漢' * 64}={'が' * 64}"))


@pytest.mark.parametrize(
    "report",
    [crowded(), replace(make_failure(), phases=crowded().phases, reason="a reason told at length " * 300)],
    ids=["assessed", "not assessable"],
)
def test_a_crowded_report_stays_inside_its_pages(report, sources):
    pdf = draw(report, sources)
    _, left, right, _, bottom = glyph_boxes(pdf).T
    assert left.min() >= MARGIN_MM - 0.5
    assert right.max() <= PAGE_WIDTH_MM - MARGIN_MM + 0.5
    content = bottom[bottom < PAGE_HEIGHT_MM - FOOT_LINE_MM]
    assert content.max() <= PAGE_HEIGHT_MM - FOOT_MM + 0.8
    pages = page_words(pdf)
    assert len(pages) > 2
    for number, words in enumerate(pages, start=1):
        assert "Research use only" in words
        assert "SYN-0001 (TEST)" in words
        assert f"Page {number} of {len(pages)}" in words


def test_text_does_not_overlap(sources):
    boxes = glyph_boxes(draw(make_report(), sources))
    for page in np.unique(boxes[:, 0]):
        _, left, right, top, bottom = boxes[boxes[:, 0] == page].T
        wide = np.minimum.outer(right, right) - np.maximum.outer(left, left)
        high = np.minimum.outer(bottom, bottom) - np.maximum.outer(top, top)
        overlap = (wide > 0.3) & (high > 0.6)
        np.fill_diagonal(overlap, val=False)
        assert not overlap.any()


def test_saliency_is_drawn_where_it_was_made(sources):
    reference = sources.acquisition(Phase.PORTAL_VENOUS)
    heat = np.zeros(reference.volume.grid.shape, np.float32)
    heat[10, 30:40, 20:40] = 1.0
    entry = SaliencyMap(
        endpoint="OS", network="Network 1", volume=Volume(array=heat, grid=reference.volume.grid)
    )
    words = " ".join(page_words(draw(make_report(), replace(sources, saliency=(entry,)))))
    assert "WHERE THE NETWORKS LOOKED" in words
    assert "Network 1" in words


def test_bytes_that_the_character_set_does_not_know_are_told(tmp_path):
    instance = make_instance(tmp_path, ct_header("Wang^XiaoDong", "ISO_IR 192"))
    spoiled = instance.path.read_bytes().replace(b"Wang^XiaoDong", "王^小东".encode("gb18030").ljust(13))
    instance.path.write_bytes(spoiled)
    with pytest.warns(UserWarning, match="Failed to decode"):
        report = write_objects(
            make_failure(), ReportSources(instance=instance), tmp_path / "out", capture=False
        )
    assert any("Patient's Name holds bytes" in flag for flag in report.flags)
