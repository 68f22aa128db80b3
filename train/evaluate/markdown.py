"""A section of the report as Markdown: the model card beside the report."""

from train.evaluate.document import Picture, RowKind, Section, Table, Text


def write_markdown(section: Section, heading: str) -> str:
    """Returns a section as Markdown; figures are named, not drawn.

    Args:
        section: of a document.
        heading: first line.
    """
    parts = "\n".join(_part(part) for part in section.parts)
    return f"# {heading}\n\n{parts}"


def _part(part: Text | Table | Picture) -> str:
    if isinstance(part, Picture):
        return f"See figures/{part.name}.png: {part.title}\n"
    if isinstance(part, Text):
        lines = [f"- {line}" if part.bullets else line for line in part.lines]
        return ("\n" if part.bullets else "\n\n").join(lines) + "\n"
    rows = [_row(part.header), "|" + " --- |" * len(part.header)]
    for row in part.rows:
        if row.kind == RowKind.HEADING:
            rows.append(_row((f"**{row.cells[0]}**", *[""] * (len(part.header) - 1))))
        else:
            rows.append(_row(row.cells))
    notes = "".join(f"\n{note}\n" for note in part.notes)
    return f"**{part.title}**\n\n" + "\n".join(rows) + f"\n{notes}"


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
