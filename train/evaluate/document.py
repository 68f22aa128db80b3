"""A report as data: sections of text, tables and figures, to be written as HTML, PDF and CSV."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class RowKind(StrEnum):
    """How a row is set: a value of this cohort, a published value of another cohort, or a heading across the table."""

    VALUE = "value"
    PUBLISHED = "published"
    HEADING = "heading"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row; a heading has one cell.

    Attributes:
        target: name of a table, or title of a section, that the last cell links to; "" = no link.
    """

    cells: tuple[str, ...]
    kind: RowKind = RowKind.VALUE
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table.

    Attributes:
        name: file name of its CSV, without the ending.
        title: caption.
        header: column names.
        rows: in order.
        notes: under the table.
    """

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One figure: file name without the ending, caption, PNG."""

    name: str
    title: str
    png: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Paragraphs; ``bullets`` sets them as a list."""

    lines: tuple[str, ...]
    bullets: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A titled part of the report."""

    title: str
    parts: tuple[Text | Table | Picture, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The whole report.

    Attributes:
        title: of the first page.
        subtitle: under it.
        sections: in order.
    """

    title: str
    subtitle: str
    sections: tuple[Section, ...]

    @property
    def anchors(self) -> Mapping[str, str]:
        """Anchor of each section's title and of each table's and figure's name."""
        found = {section.title: f"s{place}" for place, section in enumerate(self.sections, start=1)}
        found |= {table.name: table.name for table in self.tables}
        return found | {picture.name: picture.name for picture in self.pictures}

    @property
    def tables(self) -> tuple[Table, ...]:
        """All tables in order."""
        return tuple(part for section in self.sections for part in section.parts if isinstance(part, Table))

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All figures in order."""
        return tuple(part for section in self.sections for part in section.parts if isinstance(part, Picture))
