"""The report of one night as JSON, as one HTML page and as Markdown: what was trained, what the gate saw and said."""

from collections.abc import Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path

from engines.case import replaced, write_json
from train.evaluate.document import Document, Row, RowKind, Section, Table, Text
from train.evaluate.html import write_html
from train.gate import Finding
from train.nightly import REPORT_NAME, NightReport, NightStatus

SCHEMA = "mmf-night"
SCHEMA_VERSION = 1

_ADVICE = (
    "The candidate lies in the store and is not in service. A person decides: mmf-node models show VERSION, then mmf-node"
    " models promote VERSION.",
    "An old score is never compared with a new one: cut-offs, baseline hazards and reference curves belong to their version.",
    "Release also needs prospective results: this comparison is on past patients of this site.",
)


def write_night_report(report: NightReport, folder: Path) -> dict[str, Path]:
    """Writes report.json, report.html and report.md into ``folder`` and returns their paths by kind.

    Args:
        report: of the night.
        folder: of the run, or of the runs when nothing was trained.
    """
    paths = {kind: folder / f"{REPORT_NAME}.{kind}" for kind in ("html", "md", "json")}
    document = describe_night(report)
    for kind, text in (("html", write_html(document)), ("md", write_markdown(document))):
        with replaced(paths[kind]) as draft:
            draft.write_text(text, encoding="utf-8")
    write_json(describe_json(report), paths["json"])  # last: its presence says that the night has ended
    return paths


def describe_json(report: NightReport) -> dict[str, object]:
    """Returns the report as it goes out in JSON, numbers unrounded."""
    judgement = report.judgement
    verdict = judgement.verdict if judgement else None
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "status": report.status.value,
        "started": report.started.isoformat(),
        "candidate": report.version or None,
        "running": report.running or None,
        "decision": judgement.decision.value if judgement else None,
        "reasons": list(judgement.reasons) if judgement else [],
        "flow": dict(report.flow),
        "planned_power": judgement.planned_power if judgement else None,
        "power": verdict.power if verdict else None,
        "looks": report.looks[0],
        "most_looks": report.looks[1],
        "compared": judgement.compared if judgement else "",
        "locked_patients": verdict.patients if verdict else 0,
        "locked_events": {key.value: count for key, count in verdict.events.items()} if verdict else {},
        "findings": [_plain(asdict(finding)) for finding in (verdict.findings if verdict else ())],
        "out_of_fold": [_plain(asdict(entry)) for entry in report.own],
        "notes": [*report.notes, *(judgement.notes if judgement else ())],
        "folder": str(report.folder) if report.folder else None,
        "promoted": report.promoted,
    }


def describe_night(report: NightReport) -> Document:
    """Returns the report as a document."""
    judgement = report.judgement
    sections = [_describe_decision(report)]
    if judgement is not None and judgement.verdict is not None:
        sections.append(_describe_findings(judgement.verdict.findings, judgement.compared))
    sections.append(_describe_cohort(report))
    if report.own:
        sections.append(_describe_own(report))
    notes = (*report.notes, *(judgement.notes if judgement else ()))
    if notes:
        sections.append(Section(title="Notes", parts=(Text(lines=notes, bullets=True),)))
    if report.status is NightStatus.JUDGED:
        sections.append(Section(title="What to do", parts=(Text(lines=_ADVICE, bullets=True),)))
    return Document(
        title="Nightly training",
        subtitle=f"{report.started:%Y-%m-%d %H:%M} UTC; research use only",
        sections=tuple(sections),
    )


def write_markdown(document: Document) -> str:
    """Returns a document without figures as Markdown."""
    lines = [f"# {document.title}", "", document.subtitle, ""]
    for section in document.sections:
        lines += [f"## {section.title}", ""]
        for part in section.parts:
            if isinstance(part, Text):
                lines += [f"- {line}" if part.bullets else f"{line}\n" for line in part.lines] + [""]
            elif isinstance(part, Table):
                lines += [part.title, "", _line(part.header), _line(["---"] * len(part.header))]
                lines += [_line(row.cells) for row in part.rows if row.kind is not RowKind.HEADING]
                lines += ["", *part.notes, ""]
    return "\n".join(lines).rstrip() + "\n"


def _describe_decision(report: NightReport) -> Section:
    judgement = report.judgement
    if judgement is None:
        return Section(
            title=f"Decision: {report.status.value}, nothing was trained",
            parts=(Text(lines=report.notes or ("no reason is recorded",), bullets=True),),
        )
    against = f"against {report.running}, which is in service" if report.running else "no model is in service"
    power = f"Before looking, an equal model would be released in {judgement.planned_power:.0%} of tries."
    if judgement.verdict is not None and judgement.verdict.power is not None:
        power += f" With these scores: {judgement.verdict.power:.0%}."
    looks = f"Looks at the present locked set: {report.looks[0]} of {report.looks[1]}."
    promoted = ("The candidate went into service by itself (learning.automatic).",) if report.promoted else ()
    return Section(
        title=f"Decision: {judgement.decision.value}",
        parts=(
            Text(lines=(f"Candidate {report.version}, {against}.", *promoted, power, looks)),
            Text(lines=judgement.reasons, bullets=True),
        ),
    )


def _describe_findings(findings: Sequence[Finding], compared: str) -> Section:
    rows = tuple(
        Row(
            cells=(
                finding.endpoint.value,
                f"{finding.check.value}{f' {finding.group}' if finding.group else ''}",
                *(_number(value) for value in (finding.value, finding.low, finding.high)),
                finding.decision.value,
            )
        )
        for finding in findings
    )
    table = Table(
        name="gate",
        title=f"The gate on the locked cases ({compared} of both models)",
        header=("Endpoint", "Check", "Value", "Low", "High", "Says"),
        rows=rows,
        notes=(
            "Bounds are one-sided at 5 %; those of centres share it. One refusal refuses; release asks for every check.",
        ),
    )
    return Section(title="Gate", parts=(table,))


def _describe_cohort(report: NightReport) -> Section:
    rows = tuple(Row(cells=(word, str(count))) for word, count in report.flow)
    table = Table(name="flow", title="Cases of tonight", header=("Cases", "Number"), rows=rows)
    return Section(title="Cohort", parts=(table,))


def _describe_own(report: NightReport) -> Section:
    rows = tuple(
        Row(
            cells=(
                entry.endpoint.value,
                entry.model,
                _number(entry.value),
                _number(entry.low),
                _number(entry.high),
                str(entry.patients),
                str(entry.events),
            )
        )
        for entry in report.own
    )
    table = Table(
        name="out_of_fold",
        title="C of the candidate on its own training patients, out-of-fold",
        header=("Endpoint", "Model", "C", "Low", "High", "Patients", "Events"),
        rows=rows,
        notes=(
            "95 % bootstrap intervals. The choice of epochs, forests and Cox models excluded each patient's fold.",
        ),
    )
    return Section(title="Out-of-fold", parts=(table,))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _plain(content: dict[str, object]) -> dict[str, object]:
    return {key: value.value if isinstance(value, Enum) else value for key, value in content.items()}
