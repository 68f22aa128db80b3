"""``mmf-node phases``: what each acquisition of a folder, or each row of a table of descriptions, is taken for, and why."""

import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from engines.errors import InvalidInput
from node.log import configure_log
from node.phases.acquisitions import split_acquisitions
from node.phases.descriptions import plan_descriptions, read_descriptions
from node.phases.plan import list_candidates, plan_phases
from node.phases.rules import PhaseRules, load_rules
from node.study import Acquisition, Instance, PhaseFinding

FolderArgument = Annotated[Path | None, typer.Argument(metavar="DIR", help="Folder of DICOM files.")]
CsvOption = Annotated[
    Path | None,
    typer.Option(
        "--series-csv",
        metavar="FILE",
        help="Instead of a folder, a CSV table (UTF-8, commas) of series descriptions with the columns patient, study_date, "
        "series_description and, where known, collection, study_description, series_number, acquisition_number. Rows of "
        "one patient and date are one study.",
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print a JSON list, one object an acquisition or row: series_instance_uid or row, part (0 when not split), "
        "phase or null, probability, used, excluded (reason or null), reasons.",
    ),
]
HeadersOption = Annotated[
    bool, typer.Option("--headers-only", help="Do not read pixels; judge texts, times, order and attributes.")
]
RulesOption = Annotated[
    Path | None,
    typer.Option(
        "--rules",
        metavar="FILE",
        help="Try these rules, a changed copy of conf/phases.toml; the table shows beside a phase what it was.",
    ),
]


def phases(
    folder: FolderArgument = None,
    series_csv: CsvOption = None,
    as_json: JsonOption = False,
    headers_only: HeadersOption = False,
    rules: RulesOption = None,
) -> None:
    """Show the contrast phase of every acquisition, its probability and the evidence.

    A phase is given from a probability of 0.90 on and used in an assessment from 0.97 on; below, it is not determined and the
    reasons say between what. What is no phase is excluded with the reason. Limits and words: conf/phases.toml.
    """
    if (folder is None) == (series_csv is None):
        raise InvalidInput("give either a folder of DICOM files or --series-csv FILE")
    configure_log("plain", logging.WARNING)
    tried = load_rules(rules)
    present = load_rules() if rules is not None else None
    if series_csv is not None:
        rows = read_descriptions(series_csv)
        findings = plan_descriptions(rows, tried)
        before = plan_descriptions(rows, present) if present is not None else None
        lines = [{"row": number} | describe_finding(finding) for number, finding in enumerate(findings)]
    else:
        findings, before = _judge_folder(_existing(folder), tried, present, headers_only=headers_only)
        lines = [
            {"series_instance_uid": finding.acquisition.series_instance_uid} | describe_finding(finding)
            for finding in findings
        ]
    if as_json:
        typer.echo(json.dumps(lines, ensure_ascii=False, indent=1))
    else:
        Console().print(draw_findings(findings, before))


def describe_finding(finding: PhaseFinding) -> dict[str, Any]:
    """Returns one finding as the fields of the JSON contract, without its identity."""
    return {
        "part": finding.acquisition.part,
        "phase": None if finding.phase is None else finding.phase.value,
        "probability": finding.probability,
        "used": finding.used,
        "excluded": finding.excluded,
        "reasons": list(finding.reasons),
    }


def draw_findings(findings: Sequence[PhaseFinding], before: Sequence[PhaseFinding] | None) -> Group:
    """Returns findings as a table of what fits a terminal, and the evidence of each in lines below.

    Where other rules give another phase, the phase of the present rules stands beside.

    Args:
        findings: in the order of the lines.
        before: of the present rules, when others are tried.
    """
    table = Table(title="Contrast phases", title_justify="left")
    for name in ("series", "slices", "spacing mm", "kernel", "time", "phase", "p", "used"):
        table.add_column(name, overflow="fold", no_wrap=name in ("slices", "time", "phase", "p", "used"))
    lines = []
    for place, finding in enumerate(findings):
        first = finding.acquisition.first
        phase = finding.phase.value if finding.phase is not None else "-"
        if before is not None and before[place].phase != finding.phase:
            phase += f" (was {before[place].phase or '-'})"
        name = _name(finding)
        table.add_row(
            name,
            str(len(finding.acquisition.instances)),
            _spacing(finding.acquisition),
            "\\".join(first.convolution_kernel),
            first.acquired_at.strftime("%H:%M:%S") if first.acquired_at is not None else "",
            phase,
            "" if finding.probability is None else f"{finding.probability:.3f}",
            "yes" if finding.used else "no",
        )
        hounsfield = ", ".join(f"{structure} {value:.0f} HU" for structure, value in finding.hounsfield)
        why = [*([finding.excluded] if finding.excluded else []), *finding.reasons]
        parts = [f"'{first.series_description}'" if first.series_description else "no text", *why]
        if hounsfield:
            parts.append(f"measured {hounsfield}")
        lines.append(Text(f"series {name}: {'; '.join(parts)}"))
    return Group(table, *lines)


def _name(finding: PhaseFinding) -> str:
    """The series number with the part, as a person calls it; the UID where there is no number."""
    acquisition = finding.acquisition
    number = acquisition.first.series_number
    if number is None:
        return acquisition.label
    return f"{number}:{acquisition.part}" if acquisition.part else str(number)


def _existing(folder: Path | None) -> Path:
    """The folder, which must be one."""
    if folder is None or not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder")
    return folder


def _judge_folder(
    folder: Path, tried: PhaseRules, present: PhaseRules | None, *, headers_only: bool
) -> tuple[tuple[PhaseFinding, ...], tuple[PhaseFinding, ...] | None]:
    """Plans every study of a folder, with the rules tried and with the present ones."""
    from node.dicom.headers import read_folder

    instances, refused = read_folder(folder)
    errors = Console(stderr=True)
    for path, reason in refused:
        errors.print(f"not read: {path.name}: {reason}", style="dim", markup=False)
    studies: dict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        studies[instance.study_instance_uid].append(instance)
    found: list[PhaseFinding] = []
    before: list[PhaseFinding] = []
    for members in studies.values():
        acquisitions = split_acquisitions(members)
        hounsfield = {} if headers_only else _measure(acquisitions, tried)
        found += plan_phases(acquisitions, hounsfield, tried).findings
        if present is not None:
            before += plan_phases(acquisitions, hounsfield, present).findings
    return tuple(found), tuple(before) if present is not None else None


def _measure(acquisitions: Sequence[Acquisition], rules: PhaseRules) -> Mapping[str, Mapping[str, float]]:
    """HU of the vessels of every candidate."""
    from node.vessels import measure_vessels

    return measure_vessels(list_candidates(acquisitions, rules))


def _spacing(acquisition: Acquisition) -> str:
    """Slice distance, thickness where it differs, and pixel spacing."""
    first = acquisition.first
    pixels = "" if first.pixel_spacing_mm is None else f" x {first.pixel_spacing_mm[0]:.2f}"
    return ("" if first.slice_thickness_mm is None else f"{first.slice_thickness_mm:g}") + pixels
