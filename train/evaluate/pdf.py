"""The report as PDF on A4, set with the DejaVu fonts that matplotlib ships."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from train.evaluate.document import Document, Picture, Row, RowKind, Table, Text

if TYPE_CHECKING:
    from fpdf import FPDF

_FAMILY = "DejaVu"
_MARGIN_MM = 14.0
_INK = (33, 43, 56)
_GREY = (119, 129, 141)
_LINK = (26, 84, 153)
_RULE = (214, 219, 225)
_SHADE = (241, 243, 246)
_LINE = 1.42
"""Height of a line as a multiple of the font size."""

_POINT_MM = 25.4 / 72
_BROAD = 10
"""Columns from which a table has pages of its own across."""

_WIDEST_COLUMN_SHARE = 0.45
_WIDEST_WORD_SHARE = 0.25
_WIDEST_LETTER_MM = 2.5
_PADDING_MM = 1.6
_NOTE_SIZE = 6.2
_MOST_NOTES_MM = 60.0
"""Longer notes may run on to the next page."""
_TITLE_MM = 12.0
_TEXT_START_MM = 18.0
_TABLE_START_MM = 26.0
"""Of a table, its title, header and first rows."""


def write_pdf(document: Document) -> bytes:
    """Returns the report as PDF.

    Columns are as wide as their longest word asks for; text wraps inside a cell; a header is repeated on each page.
    """
    pdf = _open(document.title)
    pdf.add_page()
    _write(pdf, document.title, 15, "B")
    _write(pdf, document.subtitle, 8, colour=_GREY)
    pdf.ln(2)
    links = {name: pdf.add_link() for name in document.anchors}
    for place, section in enumerate(document.sections, start=1):
        _turn_page(pdf, section.parts[0])
        _section_title(
            pdf, f"{place}. {section.title}", links[section.title], _least_height(pdf, section.parts[0])
        )
        for part in section.parts:
            _turn_page(pdf, part)
            if isinstance(part, Table):
                pdf.set_link(links[part.name], y=pdf.get_y())
                for piece in _split_columns(pdf, part):
                    _table(pdf, piece, links)
            elif isinstance(part, Picture):
                _picture(pdf, part, links[part.name])
            else:
                _text(pdf, part)
    return bytes(pdf.output())


def _open(title: str) -> "FPDF":
    import matplotlib as mpl
    from fpdf import FPDF

    pdf = FPDF(format="A4", unit="mm")
    pdf.c_margin = 0
    pdf.footer = partial(_footer, pdf, title)
    fonts = Path(mpl.get_data_path()) / "fonts" / "ttf"
    for style, file in (
        ("", "DejaVuSans.ttf"),
        ("B", "DejaVuSans-Bold.ttf"),
        ("I", "DejaVuSans-Oblique.ttf"),
    ):
        pdf.add_font(_FAMILY, style, str(fonts / file))
    pdf.set_margins(_MARGIN_MM, _MARGIN_MM)
    pdf.set_auto_page_break(True, 14)
    pdf.set_title(title)
    return pdf


def _footer(pdf: "FPDF", title: str) -> None:
    pdf.set_y(-10)
    pdf.set_font(_FAMILY, "", 6.5)
    pdf.set_text_color(*_GREY)
    pdf.cell(0, 4, f"{title} - research use only - page {pdf.page_no()} of {{nb}}", align="C")


def _write(pdf: "FPDF", text: str, size: float, style: str = "", colour: tuple[int, int, int] = _INK) -> None:
    pdf.set_font(_FAMILY, style, size)
    pdf.set_text_color(*colour)
    pdf.multi_cell(0, size * _POINT_MM * _LINE, text, align="L", new_x="LMARGIN", new_y="NEXT")


def _turn_page(pdf: "FPDF", part: Text | Table | Picture) -> None:
    """Begins a page across for a broad table, and an upright one for whatever follows it."""
    across = isinstance(part, Table) and len(part.header) >= _BROAD
    if across != (pdf.w > pdf.h):
        pdf.add_page(orientation="L" if across else "P")


def _section_title(pdf: "FPDF", title: str, link: int, following_mm: float) -> None:
    _keep_together(pdf, _TITLE_MM + following_mm)
    pdf.ln(3)
    pdf.set_link(link, y=pdf.get_y())
    pdf.start_section(title)
    _write(pdf, title, 11.5, "B")
    pdf.set_draw_color(*_RULE)
    pdf.line(_MARGIN_MM, pdf.get_y(), pdf.w - _MARGIN_MM, pdf.get_y())
    pdf.ln(1.5)


def _least_height(pdf: "FPDF", part: Text | Table | Picture) -> float:
    """Height in mm that the first of a part needs on one page, so that no title stands alone at the foot of the one before."""
    if isinstance(part, Picture):
        return _picture_height(pdf, part)
    return _TABLE_START_MM if isinstance(part, Table) else _TEXT_START_MM


def _picture_height(pdf: "FPDF", part: Picture) -> float:
    from PIL import Image

    with Image.open(BytesIO(part.png)) as image:
        width, height = image.size
    return float(pdf.epw * height / width) + 8


def _text(pdf: "FPDF", part: Text) -> None:
    for line in part.lines:
        _write(pdf, f"\N{BULLET} {line}" if part.bullets else line, 7.8)
        pdf.ln(0.6)
    pdf.ln(1)


def _picture(pdf: "FPDF", part: Picture, link: int) -> None:
    _keep_together(pdf, _picture_height(pdf, part))
    pdf.set_link(link, y=pdf.get_y())
    _write(pdf, part.title, 7.8, "B")
    pdf.image(BytesIO(part.png), w=pdf.epw)
    pdf.ln(2)


def _table(pdf: "FPDF", table: Table, links: Mapping[str, int]) -> None:
    size = _table_size(table)
    widths = _column_widths(pdf, table, size)
    _keep_together(pdf, _TABLE_START_MM)
    _write(pdf, table.title, 7.8, "B")
    pdf.ln(0.5)
    head = Row(cells=table.header, kind=RowKind.HEADING)
    _table_row(pdf, head, widths, size, "B", _SHADE)
    for place, row in enumerate(table.rows, start=1):
        # A heading stays with the row it heads, a row with what was published of it, and the last row with the notes.
        end = place + 1 if row.kind == RowKind.HEADING else place
        end += any(each.kind == RowKind.PUBLISHED for each in table.rows[end : end + 1])
        together = table.rows[place - 1 : end]
        needed = sum(_row_height(pdf, each, widths, size) for each in together)
        if end >= len(table.rows):
            needed += min(_notes_height(pdf, table), _MOST_NOTES_MM)
        if needed > pdf.h - pdf.b_margin - pdf.get_y():
            pdf.add_page(same=True)
            _table_row(pdf, head, widths, size, "B", _SHADE)
        if row.kind == RowKind.HEADING:
            _table_row(pdf, row, [sum(widths)], size, "B", None)
        else:
            style = "I" if row.kind == RowKind.PUBLISHED else ""
            _table_row(pdf, row, widths, size, style, None, links.get(row.target))
    pdf.ln(0.8)
    for note in table.notes:
        _write(pdf, note, _NOTE_SIZE, colour=_GREY)
    pdf.ln(2.5)


def _notes_height(pdf: "FPDF", table: Table) -> float:
    pdf.set_font(_FAMILY, "", _NOTE_SIZE)
    lines = sum(_count_lines(pdf, note, pdf.epw) for note in table.notes)
    return lines * _NOTE_SIZE * _POINT_MM * _LINE + 0.8


def _table_size(table: Table) -> float:
    return 6.6 if len(table.header) <= 7 else 5.9


def _split_columns(pdf: "FPDF", table: Table) -> list[Table]:
    """The table, or the parts of one that is broader than a page, each with the first column again."""
    least, _ = _measure_columns(pdf, table, _table_size(table))
    if sum(least) <= pdf.epw:
        return [table]
    groups: list[list[int]] = [[]]
    used = least[0]
    for place, width in enumerate(least[1:], start=1):
        if groups[-1] and used + width > pdf.epw:
            groups.append([])
            used = least[0]
        groups[-1].append(place)
        used += width
    return [
        replace(
            table,
            title=f"{table.title} ({number} of {len(groups)})",
            header=tuple(table.header[place] for place in (0, *group)),
            rows=tuple(
                row
                if row.kind == RowKind.HEADING
                else replace(row, cells=tuple(row.cells[k] for k in (0, *group)))
                for row in table.rows
            ),
            notes=table.notes if number == len(groups) else (),
        )
        for number, group in enumerate(groups, start=1)
    ]


def _table_row(
    pdf: "FPDF",
    row: Row,
    widths: list[float],
    size: float,
    style: str,
    fill: tuple[int, int, int] | None,
    link: int | None = None,
) -> None:
    pdf.set_font(_FAMILY, style, size)
    pdf.set_text_color(*(_GREY if row.kind == RowKind.PUBLISHED else _INK))
    height, line = _row_height(pdf, row, widths, size), size * _POINT_MM * _LINE
    left, top = pdf.l_margin, pdf.get_y()
    if fill is not None:
        pdf.set_fill_color(*fill)
        pdf.rect(left, top, sum(widths), height, style="F")
    for place, (width, cell) in enumerate(zip(widths, row.cells, strict=True), start=1):
        inner = width - _PADDING_MM
        target = (link or "") if place == len(row.cells) else ""
        pdf.set_xy(left + _PADDING_MM / 2, top + 0.3)
        if target:
            pdf.set_text_color(*_LINK)
        if pdf.get_string_width(cell) <= inner:
            pdf.cell(inner, line, cell, link=target)
        else:
            pdf.multi_cell(inner, line, cell, align="L", new_x="RIGHT", new_y="TOP", link=target)
        left += width
    pdf.set_draw_color(*_RULE)
    pdf.line(pdf.l_margin, top + height, pdf.l_margin + sum(widths), top + height)
    pdf.set_xy(pdf.l_margin, top + height)


def _row_height(pdf: "FPDF", row: Row, widths: list[float], size: float) -> float:
    cells = zip(widths, row.cells, strict=False)
    lines = max(_count_lines(pdf, cell, width - _PADDING_MM) for width, cell in cells)
    return lines * size * _POINT_MM * _LINE + 0.6


def _count_lines(pdf: "FPDF", cell: str, width: float) -> int:
    """Lines that a cell takes when its words are set one after the other, a word that is too long broken."""
    if pdf.get_string_width(cell) <= width:
        return 1
    lines, used = 1, 0.0
    space = pdf.get_string_width(" ")
    for word in cell.split(" "):
        needed = pdf.get_string_width(word)
        if used and used + space + needed > width:
            lines, used = lines + 1, 0.0
        if needed > width:
            broken = ceil(needed / (width - _WIDEST_LETTER_MM))
            lines, used = lines + broken - 1, width
        else:
            used += needed + (space if used else 0.0)
    return lines


def _column_widths(pdf: "FPDF", table: Table, size: float) -> list[float]:
    """Widths between the longest word and the longest cell of each column, filling no more than the page."""
    least, wanted = _measure_columns(pdf, table, size)
    spare, extra = pdf.epw - sum(least), sum(wanted) - sum(least)
    share = min(1.0, spare / extra) if extra > 0 else 0.0
    return [small + (large - small) * share for small, large in zip(least, wanted, strict=True)]


def _measure_columns(pdf: "FPDF", table: Table, size: float) -> tuple[list[float], list[float]]:
    """Least and wanted width of each column in mm; a single word may ask for a quarter of the page, then it is broken."""
    pdf.set_font(_FAMILY, "B", size)
    bodies = [row.cells for row in table.rows if row.kind != RowKind.HEADING]
    least, wanted = [], []
    for place, title in enumerate(table.header):
        cells = [title, *(cells[place] for cells in bodies)]
        words = {word for cell in cells for word in cell.split(" ")}
        longest_word = max(pdf.get_string_width(word) for word in words) + _PADDING_MM + 0.6
        longest = max(pdf.get_string_width(cell) for cell in set(cells)) + _PADDING_MM + 0.6
        least.append(min(longest_word, pdf.epw * _WIDEST_WORD_SHARE))
        wanted.append(max(least[-1], min(longest, pdf.epw * _WIDEST_COLUMN_SHARE)))
    return least, wanted


def _keep_together(pdf: "FPDF", height_mm: float) -> None:
    if pdf.get_y() + height_mm > pdf.h - pdf.b_margin:
        pdf.add_page(same=True)
