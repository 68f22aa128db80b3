"""The sections that every report has: who, which acquisitions, what to be careful about."""

from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset

from engines.plots import MUTED
from node.report.pdf.names import name_groups
from node.report.pdf.paper import CONTENT_MM, MARGIN_MM, PALE, Paper, bytes_of
from node.report.record import PhaseEntry, ReasonCode, Report

_NOTE_POINTS: Final = 7.2
_BULLET_MM: Final = 3.0
_HEAD_NAME_LETTERS: Final = 36
"""Of the name in the head of each page (OURS)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientDetails:
    """Patient and study as they stand on the page; unknown values are empty."""

    names: tuple[str, ...]
    identifier: str
    birth_date: str
    sex: str
    study_date: str
    accession: str
    study_description: str
    referring: str


def read_details(source: Dataset) -> PatientDetails:
    """Returns patient and study of a header in words.

    Args:
        source: header of an instance of the study; a module without values gives empty words.
    """
    identifier, issuer = _text(source, "PatientID"), _text(source, "IssuerOfPatientID")
    return PatientDetails(
        names=name_groups(_text(source, "PatientName")),
        identifier=f"{identifier} ({issuer})" if identifier and issuer else identifier,
        birth_date=_date(_text(source, "PatientBirthDate")),
        sex={"M": "male", "F": "female", "O": "other"}.get(
            _text(source, "PatientSex"), _text(source, "PatientSex")
        ),
        study_date=_date(_text(source, "StudyDate")),
        accession=_text(source, "AccessionNumber"),
        study_description=_text(source, "StudyDescription"),
        referring="  ".join(name_groups(_text(source, "ReferringPhysicianName"))),
    )


def patient_line(details: PatientDetails) -> str:
    """Returns the patient in one line for the head of every page."""
    name = "  ".join(details.names) or "name not given"
    if (
        len(name) > _HEAD_NAME_LETTERS
    ):  # the whole name stands on the first page; identifier and date stay on each
        name = name[: _HEAD_NAME_LETTERS - 1] + "…"
    parts = [name, details.identifier or "no ID", details.birth_date]
    return "   ·   ".join(part for part in parts if part)


def draw_patient(paper: Paper, details: PatientDetails) -> None:
    """Draws the box with patient and study and moves below it."""
    pdf = paper.pdf
    y = pdf.get_y()
    height = 19.5 + 6.0 * max(0, len(details.names) - 2)
    pdf.set_fill_color(*bytes_of(PALE))
    pdf.rect(MARGIN_MM, y, CONTENT_MM, height, style="F", round_corners=True, corner_radius=1.5)
    pdf.set_xy(MARGIN_MM + 2.5, y + 1.6)
    names = details.names or ("Name not given",)
    room = CONTENT_MM - 5.0
    first = (
        room
        if len(names) == 1
        else min(0.64 * room, paper.line_width(names[0], points=12.5, bold=True) + 4.0)
    )
    paper.write_line(names[0], points=12.5, bold=True, width_mm=first, height_mm=6.5)
    if len(names) > 1:
        paper.write_line(names[1], points=12.5, width_mm=room - first, height_mm=6.5)
    pdf.set_xy(MARGIN_MM + 2.5, y + 8.4)
    for extra in names[2:]:
        paper.write_line(extra, points=11, width_mm=CONTENT_MM - 5, height_mm=6.0)
        pdf.set_xy(MARGIN_MM + 2.5, pdf.get_y() + 6.0)
    fields = (
        ("Patient ID", details.identifier),
        ("Born", details.birth_date),
        ("Sex", details.sex),
        ("Examination", details.study_date),
        ("Accession", details.accession),
        ("Study", details.study_description),
    )
    widths = (50.0, 20.0, 14.0, 21.0, 24.0, CONTENT_MM - 132.5)
    top = pdf.get_y() + 0.4
    place = MARGIN_MM + 2.5
    for (label, value), width in zip(fields, widths, strict=True):
        pdf.set_xy(place, top)
        paper.write_line(label, points=6.2, colour=MUTED, width_mm=width - 2.0, height_mm=3.4)
        pdf.set_xy(place, top + 3.6)
        paper.write_line(value or "not given", points=8.4, width_mm=width - 2.0, height_mm=4.6)
        place += width
    pdf.set_xy(MARGIN_MM, y + height + 4.5)


def draw_phases(paper: Paper, report: Report) -> None:
    """Draws the table of acquisitions, the used ones first, with the reasons; moves below it."""
    paper.write_heading("CT acquisitions: phase, and why")
    if not report.phases:
        none = report.reason_code == ReasonCode.NO_CT
        paper.write_block("The study holds no CT acquisition." if none else "They were not looked at.")
        return
    order = sorted(report.phases, key=lambda entry: (not entry.used, entry.series_number or 0, entry.part))
    paper.write_table(
        [_phase_row(entry) for entry in order],
        (32.0, 11.0, 40.0, 10.0, 14.0, CONTENT_MM - 107.0),
        head=("Phase", "Series", "Description", "Slices", "After inj.", "Why"),
        points=6.7,
        bold_first=True,
    )


def draw_notes(paper: Paper, title: str, notes: tuple[str, ...], *, width_mm: float, empty: str) -> None:
    """Draws a heading and a list of sentences, or ``empty`` where there are none; moves below."""
    paper.write_heading(title, width_mm=width_mm)
    if not notes:
        paper.write_block(empty, points=_NOTE_POINTS, width_mm=width_mm)
    for note in notes:
        paper.ensure(paper.block_height(note, points=_NOTE_POINTS, width_mm=width_mm - _BULLET_MM) + 0.5)
        x, y = paper.pdf.get_x(), paper.pdf.get_y()
        paper.write_block("•", points=_NOTE_POINTS, width_mm=_BULLET_MM)
        paper.pdf.set_xy(x + _BULLET_MM, y)
        paper.write_block(note, points=_NOTE_POINTS, width_mm=width_mm - _BULLET_MM)
        paper.pdf.set_xy(x, paper.pdf.get_y() + 0.5)


def notes_height(paper: Paper, notes: tuple[str, ...], *, width_mm: float) -> float:
    """Returns the height that ``draw_notes`` takes on one page, mm."""
    lines = (paper.block_height(note, points=_NOTE_POINTS, width_mm=width_mm - _BULLET_MM) for note in notes)
    return 6.0 + sum(height + 0.5 for height in lines)


def phase_words(entry: PhaseEntry) -> str:
    """Returns the phase in words, ``portal venous``; a dash where it was not determined."""
    return "–" if entry.phase is None else entry.phase.value.replace("_", " ").lower()


def _phase_row(entry: PhaseEntry) -> tuple[str, ...]:
    seconds = "–" if entry.seconds_after_injection is None else f"{entry.seconds_after_injection:.0f} s"
    series = "–" if entry.series_number is None else str(entry.series_number)
    reasons = "; ".join(entry.reasons)
    if entry.probability is not None:
        reasons = f"probability {entry.probability:.2f}; {reasons}"
    phase = (
        phase_words(entry) if entry.used else f"{phase_words(entry)}, not used" if entry.phase else "not used"
    )
    return (
        phase,
        f"{series}.{entry.part}" if entry.part else series,
        entry.series_description,
        str(entry.slices),
        seconds,
        reasons,
    )


def _text(source: Dataset, keyword: str) -> str:
    value = source.get(keyword, None)
    return "" if value is None else str(value).strip()


def _date(text: str) -> str:
    """DA as year-month-day; what is no date stays as it came."""
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdigit() else text
