"""The report as one HTML page that needs nothing else: styles and figures are inside."""

from base64 import b64encode
from collections.abc import Mapping
from html import escape

from train.evaluate.document import Document, Picture, RowKind, Section, Table, Text

_STYLE = """
body{font:14px/1.45 system-ui,"DejaVu Sans",Arial,sans-serif;color:#212b38;max-width:1080px;margin:24px auto;padding:0 20px}
h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:34px 0 8px;border-bottom:2px solid #dfe3e8;padding-bottom:4px}
.subtitle{color:#5b6673;margin:0 0 18px}nav{columns:2;font-size:13px;margin:14px 0 6px}nav a{color:#1a5499;text-decoration:none;display:block}
td a{color:#1a5499}figure{margin:18px 0}figure img{max-width:100%;border:1px solid #e3e6ea}
figcaption,caption{font-weight:600;text-align:left;padding:6px 0;caption-side:top}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:12.5px;margin:14px 0 2px;font-variant-numeric:tabular-nums}
th{text-align:left;background:#f1f3f6;border-bottom:1.5px solid #9aa5b1;padding:4px 9px;vertical-align:bottom}
td{padding:3px 9px;border-bottom:1px solid #e6e9ed}tr.published td{color:#77818d;font-style:italic}
tr.heading td{font-weight:600;background:#f8f9fb}.notes{font-size:12px;color:#5b6673;margin:2px 0 14px}
@media print{body{max-width:none}h2{break-after:avoid}figure,tr{break-inside:avoid}}
"""


def write_html(document: Document) -> str:
    """Returns the report as an HTML page."""
    links = "".join(
        f'<a href="#s{place}">{place}. {escape(section.title)}</a>'
        for place, section in enumerate(document.sections, start=1)
    )
    anchors = document.anchors
    body = "".join(
        _section(section, place, anchors) for place, section in enumerate(document.sections, start=1)
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(document.title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>'
        f'<h1>{escape(document.title)}</h1><p class="subtitle">{escape(document.subtitle)}</p><nav>{links}</nav>'
        f"{body}</body></html>\n"
    )


def _section(section: Section, place: int, anchors: Mapping[str, str]) -> str:
    parts = "".join(_part(part, anchors) for part in section.parts)
    return f'<section><h2 id="s{place}">{place}. {escape(section.title)}</h2>{parts}</section>'


def _part(part: Text | Table | Picture, anchors: Mapping[str, str]) -> str:
    if isinstance(part, Table):
        return _table(part, anchors)
    if isinstance(part, Picture):
        data = b64encode(part.png).decode("ascii")
        title = escape(part.title)
        return (
            f'<figure id="{escape(part.name)}"><figcaption>{title}</figcaption>'
            f'<img alt="{title}" src="data:image/png;base64,{data}"></figure>'
        )
    if part.bullets:
        return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in part.lines) + "</ul>"
    return "".join(f"<p>{escape(line)}</p>" for line in part.lines)


def _table(table: Table, anchors: Mapping[str, str]) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.header)
    rows = []
    for row in table.rows:
        if row.kind == RowKind.HEADING:
            rows.append(
                f'<tr class="heading"><td colspan="{len(table.header)}">{escape(row.cells[0])}</td></tr>'
            )
        else:
            texts = [escape(cell) for cell in row.cells]
            if row.target in anchors:
                texts[-1] = f'<a href="#{escape(anchors[row.target])}">{texts[-1]}</a>'
            cells = "".join(f"<td>{text}</td>" for text in texts)
            rows.append(f'<tr class="{row.kind.value}">{cells}</tr>')
    notes = "".join(f"<div>{escape(note)}</div>" for note in table.notes)
    return (
        f'<div class="scroll"><table id="{escape(table.name)}"><caption>{escape(table.title)}</caption><thead><tr>{head}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
        f'<div class="notes">{notes}</div>'
    )
