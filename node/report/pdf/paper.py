"""The paper that all pages are drawn on: fonts, colours, head, warnings and foot, and text that always fits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from fpdf import FPDF
from fpdf.enums import XPos, YPos

from engines.plots import HIGH, INK, LOW, MUTED, Colour

_FONTS: Final = Path(__file__).parent / "fonts"
_SANS: Final = "sans"
_CJK: Final = "cjk"

MARGIN_MM: Final = 14.0
PAGE_WIDTH_MM: Final = 210.0
PAGE_HEIGHT_MM: Final = 297.0
"""A4. Source: ISO 216."""

CONTENT_MM: Final = PAGE_WIDTH_MM - 2 * MARGIN_MM
FOOT_MM: Final = 17.0
"""Height kept free for the foot of the page."""

PALE: Final = (0.955, 0.965, 0.975)
RULE: Final = (0.83, 0.86, 0.89)
WARNING_FILL: Final = (1.0, 0.945, 0.80)
WARNING_INK: Final = (0.45, 0.28, 0.0)
DEEP: Final = (0.09, 0.20, 0.33)

_HEADED_MM: Final = 16.0
"""Room that a heading and the first line under it need (OURS)."""

_SMALLEST_POINTS: Final = 5.0
_POINT_MM: Final = 25.4 / 72


@dataclass(frozen=True, slots=True, kw_only=True)
class PageHead:
    """What stands at the head and foot of every page.

    Attributes:
        title: name of the document.
        patient_line: who it is about, in one line.
        warnings: sentences of the banner.
        foot: line at the foot, left of the page number.
    """

    title: str
    patient_line: str
    warnings: tuple[str, ...]
    foot: str


class Paper:
    """An A4 document with the head, banner and foot of this product on every page."""

    def __init__(self, head: PageHead, *, created: datetime) -> None:
        self._head = head
        pdf = FPDF(unit="mm", format="A4")
        pdf.set_creation_date(created)
        pdf.set_title(head.title)
        pdf.set_creator("mmf-node")
        pdf.set_lang("en")
        pdf.set_margins(MARGIN_MM, MARGIN_MM, MARGIN_MM)
        pdf.set_auto_page_break(auto=False)
        pdf.alias_nb_pages("{pages}")
        pdf.add_font(_SANS, "", _FONTS / "DejaVuSansCondensed.ttf")
        pdf.add_font(_SANS, "B", _FONTS / "DejaVuSansCondensed-Bold.ttf")
        pdf.add_font(_CJK, "", _FONTS / "DroidSansFallback.ttf")
        pdf.set_fallback_fonts([_CJK], exact_match=False)
        pdf.set_text_shaping(True)
        pdf.c_margin = 0.0
        self.pdf = pdf
        self.start_page()

    @property
    def bottom_mm(self) -> float:
        """The lowest place that content may reach, mm from the top."""
        return PAGE_HEIGHT_MM - FOOT_MM

    def output(self) -> bytes:
        """Returns the encoded document."""
        return bytes(self.pdf.output())

    def start_page(self) -> None:
        """Begins a page with head, banner and foot; the next content goes below the banner."""
        self.pdf.add_page()
        self._write_foot()
        self._write_head()

    def ensure(self, height_mm: float) -> None:
        """Begins a page, at the same left edge, where fewer than ``height_mm`` are left on this one."""
        if self.pdf.get_y() + height_mm > self.bottom_mm:
            x = self.pdf.get_x()
            self.start_page()
            self.pdf.set_x(x)

    def _write_head(self) -> None:
        self.pdf.set_fill_color(*bytes_of(DEEP))
        self.pdf.rect(0, 0, PAGE_WIDTH_MM, 13.5, style="F")
        self.pdf.set_xy(MARGIN_MM, 3.2)
        self.write_line(
            self._head.title, points=12, bold=True, colour=(1, 1, 1), width_mm=84.0, height_mm=7.0
        )
        self.pdf.set_xy(MARGIN_MM + 84.0, 3.2)
        self.write_line(
            self._head.patient_line,
            points=8,
            colour=(0.87, 0.91, 0.95),
            width_mm=CONTENT_MM - 84.0,
            height_mm=7.0,
            align="R",
        )
        self.pdf.set_fill_color(*bytes_of(WARNING_FILL))
        height = 3.6 * len(self._head.warnings) + 2.4
        self.pdf.rect(0, 13.5, PAGE_WIDTH_MM, height, style="F")
        self.pdf.set_xy(MARGIN_MM, 14.7)
        for sentence in self._head.warnings:
            self.pdf.set_x(MARGIN_MM)
            self.write_line(sentence, points=7.4, bold=True, colour=WARNING_INK, height_mm=3.6)
            self.pdf.ln(3.6)
        self.pdf.set_xy(MARGIN_MM, 13.5 + height + 4.0)

    def _write_foot(self) -> None:
        self.pdf.set_draw_color(*bytes_of(RULE))
        self.pdf.set_line_width(0.2)
        y = PAGE_HEIGHT_MM - 12.5
        self.pdf.line(MARGIN_MM, y, PAGE_WIDTH_MM - MARGIN_MM, y)
        self.pdf.set_xy(MARGIN_MM, y + 1.2)
        self.write_line(self._head.foot, points=6.2, colour=MUTED, width_mm=CONTENT_MM - 20.0, height_mm=4.0)
        self.pdf.set_xy(
            PAGE_WIDTH_MM - MARGIN_MM - 16.0, y + 1.2
        )  # the count replaces a longer word: no right alignment
        self.pdf.set_font(_SANS, "", 6.2)
        self.pdf.set_text_color(*bytes_of(MUTED))
        self.pdf.cell(12.5, 4.0, f"Page {self.pdf.page_no()} of {{pages}}")

    def write_line(
        self,
        words: str,
        *,
        points: float,
        bold: bool = False,
        colour: Colour = INK,
        width_mm: float = CONTENT_MM,
        height_mm: float = 4.0,
        align: str = "L",
    ) -> None:
        """Writes one line at the current place, made smaller, and at the last shortened, until it fits.

        Args:
            words: text; runs of white space become one blank.
            points: size wished for.
            bold: heavy face.
            colour: red, green, blue, 0 to 1.
            width_mm: room.
            height_mm: height of the line.
            align: L, C or R.
        """
        words = " ".join(words.split())
        self.pdf.set_text_color(*bytes_of(colour))
        size = points
        self.pdf.set_font(_SANS, "B" if bold else "", size)
        while size > _SMALLEST_POINTS and self.pdf.get_string_width(words) > width_mm:
            size = max(_SMALLEST_POINTS, size - 0.25)
            self.pdf.set_font(_SANS, "B" if bold else "", size)
        while len(words) > 1 and self.pdf.get_string_width(words) > width_mm:
            words = words.removesuffix("…")[:-1] + "…"
        self.pdf.cell(width_mm, height_mm, words, align=align, new_x=XPos.RIGHT, new_y=YPos.TOP)

    def line_width(self, words: str, *, points: float, bold: bool = False) -> float:
        """Returns the width of a line as wished for, mm."""
        self.pdf.set_font(_SANS, "B" if bold else "", points)
        return float(self.pdf.get_string_width(words))

    def write_block(
        self,
        words: str,
        *,
        points: float = 7.4,
        bold: bool = False,
        colour: Colour = INK,
        width_mm: float = CONTENT_MM,
    ) -> None:
        """Writes a paragraph at the current place, broken into lines, and moves below it; the left edge stays."""
        self.pdf.set_text_color(*bytes_of(colour))
        self.pdf.set_font(_SANS, "B" if bold else "", points)
        x = self.pdf.get_x()
        self.pdf.multi_cell(
            width_mm, points * _POINT_MM * 1.32, words, align="L", new_x=XPos.LEFT, new_y=YPos.NEXT, padding=0
        )
        self.pdf.set_x(x)

    def block_height(
        self, words: str, *, points: float = 7.4, bold: bool = False, width_mm: float = CONTENT_MM
    ) -> float:
        """Returns the height that ``write_block`` would take, mm."""
        self.pdf.set_font(_SANS, "B" if bold else "", points)
        line_mm = points * _POINT_MM * 1.32
        height = self.pdf.multi_cell(
            width_mm, line_mm, words, align="L", dry_run=True, output="HEIGHT", padding=0
        )
        return float(height)

    def write_heading(self, words: str, *, width_mm: float = CONTENT_MM) -> None:
        """Writes the heading of a section with a rule under it and moves below."""
        self.ensure(_HEADED_MM)
        x, y = self.pdf.get_x(), self.pdf.get_y()
        self.write_line(words.upper(), points=7.6, bold=True, colour=DEEP, width_mm=width_mm, height_mm=4.2)
        self.pdf.set_draw_color(*bytes_of(RULE))
        self.pdf.set_line_width(0.25)
        self.pdf.line(x, y + 4.7, x + width_mm, y + 4.7)
        self.pdf.set_xy(x, y + 6.0)

    def write_table(
        self,
        rows: Sequence[tuple[str, ...]],
        widths_mm: tuple[float, ...],
        *,
        head: tuple[str, ...] | None = None,
        points: float = 7.0,
        bold_first: bool = False,
    ) -> None:
        """Writes rows of cells whose words are broken into lines; a row never breaks over two pages.

        Args:
            rows: cells of each row.
            widths_mm: width of each column.
            head: words over the columns, or None.
            points: size of the letters.
            bold_first: heavy face in the first column.
        """
        if head is not None:
            self._write_row(head, widths_mm, points=points - 0.6, bold=(True,) * len(head), colour=MUTED)
        for row in rows:
            bold = (bold_first, *(False,) * (len(row) - 1))
            self._write_row(row, widths_mm, points=points, bold=bold, colour=INK)

    def _write_row(
        self,
        row: tuple[str, ...],
        widths_mm: tuple[float, ...],
        *,
        points: float,
        bold: tuple[bool, ...],
        colour: Colour,
    ) -> None:
        x = self.pdf.get_x()
        height = max(
            self.block_height(words or " ", points=points, bold=heavy, width_mm=width - 1.5)
            for words, width, heavy in zip(row, widths_mm, bold, strict=True)
        )
        self.ensure(height + 1.2)
        y = self.pdf.get_y()
        place = x
        for words, width, heavy in zip(row, widths_mm, bold, strict=True):
            self.pdf.set_xy(place, y)
            self.write_block(words or " ", points=points, bold=heavy, colour=colour, width_mm=width - 1.5)
            place += width
        self.pdf.set_draw_color(*bytes_of(RULE))
        self.pdf.set_line_width(0.12)
        self.pdf.line(x, y + height + 0.55, x + sum(widths_mm), y + height + 0.55)
        self.pdf.set_xy(x, y + height + 1.1)


def group_colour(group: str) -> Colour:
    """Returns the colour of a risk group, ``low`` or ``high``."""
    return HIGH if group == "high" else LOW


def bytes_of(colour: Colour) -> tuple[int, int, int]:
    """Returns a colour of 0 to 1 as 0 to 255."""
    red, green, blue = (round(255 * part) for part in colour)
    return red, green, blue
