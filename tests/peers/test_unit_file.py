"""The systemd unit, as systemd itself reads it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PROGRAM = "/opt/mmf-node/.venv/bin/mmf-node"
MOST_EXPOSED = 30
"""Of 100: systemd calls 30 and less "OK"; a unit without any protection has 96."""


@pytest.fixture
def unit(tmp_path):
    """The unit with the program of this environment in the place of the installed one."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (apt-get install systemd)")
    text = (ROOT / "conf" / "mmf-node.service").read_text(encoding="utf-8")
    assert PROGRAM in text
    path = tmp_path / "mmf-node.service"
    path.write_text(text.replace(PROGRAM, str(Path(sys.executable).with_name("mmf-node"))), encoding="utf-8")
    return path


def test_systemd_finds_no_fault_in_the_unit(unit):
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr.strip()) == (0, "")


def test_the_service_is_shut_in(unit):
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", unit]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout.splitlines()[-1]
