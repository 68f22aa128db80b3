"""``mmf-node check``: are the settings sound, is there room, does the destination answer?"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from engines.errors import MmfError
from node.commands.jobs import AsJson, Conf, Data
from node.dicom.send import PeerAddress, SendSettings, echo_peer
from node.errors import DeliveryRefused, SettingsRefused
from node.settings import DestinationSection, Settings, read_settings

_FAILED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The outcome of one check.

    Attributes:
        passed: False keeps the node from starting.
        detail: what was seen, or what to do; no value of a patient, for it goes into the journal.
        warning: the node runs, and somebody should act.
    """

    check: str
    passed: bool
    detail: str
    warning: bool = False

    @property
    def mark(self) -> str:
        """How the check went, in one word."""
        if not self.passed:
            return "FAIL"
        return "WARN" if self.warning else "ok"


class _Concern(Exception):
    """What a check saw that somebody should act on, though the node runs without."""


def check(
    conf: Conf = None,
    data: Data = None,
    as_json: AsJson = False,
    no_echo: Annotated[bool, typer.Option("--no-echo", help="Do not call the destination.")] = False,
) -> None:
    """Checks settings, data folder, disk, clinical table, rules, model and destination; exit code 1 when one fails.

    What the node can run with (rows of the clinical table that are left out, a disk below its watermark) is a warning.
    """
    findings = run_checks(conf, data, echo=not no_echo)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            typer.echo(f"{finding.mark:<4}  {finding.check:<12} {finding.detail}")
    if not all(finding.passed for finding in findings):
        raise typer.Exit(_FAILED)


def run_checks(conf: Path | None, data: Path | None, *, echo: bool = True) -> list[Finding]:
    """Returns the outcome of every check; without sound settings only theirs."""
    try:
        settings = read_settings(conf, data=data)
    except SettingsRefused as error:
        return [Finding(check="settings", passed=False, detail=fault) for fault in error.faults]
    findings = [
        Finding(check="settings", passed=True, detail="sound"),
        _attempt("data folder", lambda: _check_data(settings.storage.data)),
        _attempt("disk", lambda: _check_disk(settings)),
        _attempt("clinical", lambda: _check_clinical(settings)),
        _attempt("phase rules", lambda: _check_rules(settings)),
        _attempt("model", lambda: _check_model(settings)),
    ]
    if echo:
        section, title = settings.destination, settings.listener.ae_title
        findings.append(_attempt("destination", lambda: _check_destination(section, title)))
    return findings


def _check_clinical(settings: Settings) -> str:
    from engines.clinical.table import read_clinical_table

    table = settings.clinical.table
    if table is None:
        return "no clinical table: MMF is not computed, and nobody is assessed unless assessment.requested_by = any"
    found = read_clinical_table(table)
    if found.faults:
        lines = "\n".join(f"      {place}" for place in dict.fromkeys(fault.place for fault in found.faults))
        raise _Concern(
            f"{len(found.rows)} patients in {table}; rows with faults are left out, their patients get no risk:\n{lines}"
        )
    return f"{len(found.rows)} patients in {table}"


def _check_rules(settings: Settings) -> str:
    from node.phases.rules import load_rules

    load_rules(settings.assessment.phase_rules)
    return "sound"


def _check_model(settings: Settings) -> str:
    from engines.models.store import load_model
    from node.app import find_model

    if settings.models.folder is None and not settings.models.allow_demonstration:
        return "no model is set (models.folder): studies get no risk; the packaged one, of phantoms, is not allowed"
    folder = find_model(settings)
    model = load_model(folder, allow_demonstration=settings.models.allow_demonstration)
    return f"{model.card.name} {model.card.version}, {model.card.training.trained_on}"


def _attempt(name: str, act: Callable[[], str]) -> Finding:
    try:
        return Finding(check=name, passed=True, detail=act())
    except _Concern as concern:
        return Finding(check=name, passed=True, detail=str(concern), warning=True)
    except MmfError as error:
        return Finding(check=name, passed=False, detail=str(error))


def _check_data(folder: Path) -> str:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise SettingsRefused([f"{existing} is no folder: {folder} cannot be made"])
    if not os.access(existing, os.W_OK):
        raise SettingsRefused([f"{existing} cannot be written by this user"])
    return f"{folder} can be written"


def _check_disk(settings: Settings) -> str:
    folder = settings.storage.data
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free_gib = shutil.disk_usage(existing).free / 2**30
    if free_gib < settings.storage.minimum_free_gib:
        raise _Concern(
            f"{free_gib:.1f} GiB free, the watermark is {settings.storage.minimum_free_gib:g} GiB: "
            "images are refused until there is room"
        )
    return f"{free_gib:.1f} GiB free"


def _check_destination(section: DestinationSection, calling: str) -> str:
    if not section.host:
        return "none set: results stay in the data folder"
    peer = PeerAddress(host=section.host, port=section.port, ae_title=section.ae_title)
    status = echo_peer(peer, SendSettings(ae_title=calling))
    if status != 0:
        raise DeliveryRefused(f"{peer} answers the C-ECHO with 0x{status:04X}")
    return f"{peer} answers"
