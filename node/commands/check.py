"""``mmf-node check``: are the settings sound, is there room, does the destination answer?"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from engines.errors import MmfError
from node.commands.jobs import AsJson, Conf, Data
from node.dicom.send import PeerAddress, SendSettings, echo_peer
from node.errors import DeliveryRefused, InboxFull, SettingsRefused
from node.settings import DestinationSection, Settings, read_settings

_FAILED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The outcome of one check; ``detail`` says what was seen, or what to do."""

    check: str
    passed: bool
    detail: str


def check(conf: Conf = None, data: Data = None, as_json: AsJson = False) -> None:
    """Checks settings, data folder, disk and destination; exit code 1 when one fails."""
    findings = run_checks(conf, data)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            typer.echo(f"{'ok  ' if finding.passed else 'FAIL'}  {finding.check:<12} {finding.detail}")
    if not all(finding.passed for finding in findings):
        raise typer.Exit(_FAILED)


def run_checks(conf: Path | None, data: Path | None) -> list[Finding]:
    """Returns the outcome of every check; without sound settings only theirs."""
    try:
        settings = read_settings(conf, data=data)
    except SettingsRefused as error:
        return [Finding(check="settings", passed=False, detail=fault) for fault in error.faults]
    return [
        Finding(check="settings", passed=True, detail="sound"),
        _attempt("data folder", lambda: _check_data(settings.storage.data)),
        _attempt("disk", lambda: _check_disk(settings)),
        _attempt("destination", lambda: _check_destination(settings.destination, settings.listener.ae_title)),
    ]


def _attempt(name: str, act: Callable[[], str]) -> Finding:
    try:
        return Finding(check=name, passed=True, detail=act())
    except MmfError as error:
        return Finding(check=name, passed=False, detail=str(error))


def _check_data(folder: Path) -> str:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(existing, os.W_OK):
        raise SettingsRefused([f"{existing} cannot be written by this user"])
    return f"{folder} can be written"


def _check_disk(settings: Settings) -> str:
    folder = settings.storage.data
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free_gib = shutil.disk_usage(existing).free / 2**30
    if free_gib < settings.storage.minimum_free_gib:
        raise InboxFull(
            f"{free_gib:.1f} GiB free, the watermark is {settings.storage.minimum_free_gib:g} GiB"
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
