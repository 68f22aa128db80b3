"""``mmf-node run``: assess the study in a folder, without a network."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engines.errors import InvalidInput
from engines.phase import ASSESSED_PHASES, Phase, parse_phase
from node.errors import SettingsRefused
from node.log import configure_log
from node.settings import Settings, read_settings

if TYPE_CHECKING:
    from node.app import FolderRequest
    from node.report.record import Report

EXIT_NOT_ASSESSABLE = 3


def run(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with the DICOM files of one study.")],
    out: Annotated[Path, typer.Option(help="Folder for report.json, SEG, SR, PDF and the case.")],
    clinical: Annotated[
        Path | None,
        typer.Option(help="Clinical table (CSV, see README); without it Ensemble-DL is given, not MMF."),
    ] = None,
    models: Annotated[Path | None, typer.Option(help="Model folder or store; default: settings.")] = None,
    phase: Annotated[
        list[str] | None,
        typer.Option(help="Your word on a phase: PHASE=SERIES_UID[:PART], e.g. arterial=1.2.3. Repeatable."),
    ] = None,
    allow_demo_models: Annotated[
        bool,
        typer.Option("--allow-demo-models", help="Let models trained on phantoms score; the results say so."),
    ] = False,
    conf: Annotated[Path | None, typer.Option(help="Settings file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json on standard output.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the log on standard error.")] = False,
) -> None:
    """Assesses the study in a folder: phases, segmentation, radiomics, networks, MMF, and the DICOM objects.

    The command is itself a request: no clinical row is needed, but without one the risk is Ensemble-DL's. Exit code:
    0 assessed; 3 not assessable, with the reason (the objects are written all the same); 1 failed (report.json says why);
    2 usage or settings.
    """
    overrides = parse_overrides(phase or [])
    settings = _settings(conf, clinical, models, allow_demo_models=allow_demo_models)
    if not folder.is_dir():
        raise typer.BadParameter(f"{folder} is not a folder", param_hint="DIR")
    configure_log("plain", logging.INFO if verbose else logging.ERROR)
    from node.app import FolderRequest, assess_folder, prepare_threads
    from node.report.record import Status

    prepare_threads(settings.worker.threads)
    request = FolderRequest(folder=folder, requested=True, overrides=overrides)
    with _failures_told(settings, request, out, as_json=as_json):
        report = assess_folder(
            settings,
            request,
            case_folder=out / "case",
            out=out,
            progress=lambda step: typer.echo(f"  {step} ...", err=True),
        )
    if as_json:
        _print_report(out)
    else:
        for line in describe(report, out):
            typer.echo(line)
    if report.status == Status.NOT_ASSESSABLE:
        raise typer.Exit(EXIT_NOT_ASSESSABLE)


def parse_overrides(words: Sequence[str]) -> dict[Phase, str]:
    """Returns the acquisition label by phase of ``PHASE=SERIES_UID[:PART]`` words.

    Raises:
        typer.BadParameter: a word is of another form, names no assessed phase, or a phase comes twice.
    """
    found: dict[Phase, str] = {}
    for word in words:
        name, separator, label = word.partition("=")
        if not separator or not label:
            raise typer.BadParameter(f"'{word}' is not PHASE=SERIES_UID[:PART]", param_hint="--phase")
        try:
            phase = parse_phase(name)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--phase") from error
        if phase not in ASSESSED_PHASES:
            raise typer.BadParameter(f"{phase.value} is not used by the method", param_hint="--phase")
        if phase in found:
            raise typer.BadParameter(f"{phase.value} is named twice", param_hint="--phase")
        found[phase] = label
    return found


def describe(report: "Report", out: Path) -> list[str]:
    """Returns the report in lines for a terminal."""
    lines = [f"Study {report.study_instance_uid}: {report.status.value.replace('_', ' ')}"]
    if report.reason:
        lines.append(f"Reason ({report.reason_code}): {report.reason}")
    for entry in report.phases:
        name = entry.phase.value if entry.phase else "not determined"
        part = f":{entry.part}" if entry.part else ""
        lines.append(
            f"  {'used ' if entry.used else '-    '}{name:<15}{entry.series_instance_uid}{part}  {entry.slices} slices  "
            f"{entry.series_description!r}: {'; '.join(entry.reasons)}"
        )
    for structure in report.structures:
        longest = structure.longest_diameter_mm
        diameter = f", longest diameter {longest:.1f} mm" if longest is not None else ""
        lines.append(f"  {structure.name}: {structure.volume_ml:.1f} mL{diameter} ({structure.provider})")
    for risk in report.risks:
        survival = ", ".join(
            f"{point.months:g} months {point.probability:.0%} ({point.low:.0%}-{point.high:.0%})"
            for point in risk.survival
        )
        lines.append(
            f"  {risk.endpoint} by {risk.model}: {risk.group} risk, log hazard {risk.log_hazard:+.2f} "
            f"({risk.low:+.2f} to {risk.high:+.2f}); survival {survival}"
        )
    lines += [f"  Note: {flag}" for flag in report.flags]
    lines += [f"  {entry.kind}: {out / entry.path}" for entry in report.objects]
    lines.append("Research use only.")
    return lines


@contextmanager
def _failures_told(
    settings: Settings, request: "FolderRequest", out: Path, *, as_json: bool
) -> Iterator[None]:
    """Writes the report of an assessment that ends in an error, and lets the error go on; a mistyped call has none."""
    from node.app import tell_failure

    try:
        yield
    finally:
        error = sys.exception()
        if isinstance(error, Exception) and not isinstance(error, (InvalidInput, SettingsRefused)):
            told = tell_failure(
                settings, request, f"the assessment failed: {type(error).__name__}: {error}", out
            )
            if as_json and told is not None:
                _print_report(out)


def _print_report(out: Path) -> None:
    typer.echo((out / "report.json").read_text(encoding="utf-8"), nl=False)


def _settings(
    conf: Path | None, clinical: Path | None, models: Path | None, *, allow_demo_models: bool
) -> Settings:
    changes: dict[str, dict[str, object]] = {}
    if clinical is not None:
        changes["clinical"] = {"table": str(clinical)}
    if models is not None:
        changes.setdefault("models", {})["folder"] = str(models)
    if allow_demo_models:
        changes.setdefault("models", {})["allow_demonstration"] = True
    return read_settings(conf, changes=changes)
