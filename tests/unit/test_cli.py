import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from engines.phase import Phase
from node import cli
from node.commands.run import parse_overrides


def test_the_command_line_and_the_receiver_start_without_torch():
    code = (
        "import sys, node.cli, node.app, node.processes;"
        "print(*sorted({'torch', 'monai', 'highdicom', 'matplotlib', 'radiomics'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_command_teaches_itself():
    runner = CliRunner()
    for name in (
        "demo",
        "serve",
        "run",
        "send",
        "check",
        "status",
        "jobs",
        "phases",
        "radiomics",
        "verify",
        "export",
        "outcomes",
        "models",
    ):
        result = runner.invoke(cli.app, [name, "--help"])
        assert result.exit_code == 0
        assert len(result.output) > 200, name


def test_the_operators_word_on_a_phase_is_read_in_any_case():
    assert parse_overrides(["arterial=1.2.3", "Portal-Venous=1.2.4:2"]) == {
        Phase.ARTERIAL: "1.2.3",
        Phase.PORTAL_VENOUS: "1.2.4:2",
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["arterial"], "is not PHASE=SERIES_UID"),
        (["late=1.2"], "is not a contrast phase"),
        (["pre_contrast=1.2"], "not used by the method"),
        (["delayed=1.2", "DELAYED=1.3"], "named twice"),
    ],
)
def test_a_wrong_word_on_a_phase_is_a_usage_error(words, message):
    with pytest.raises(typer.BadParameter, match=message):
        parse_overrides(words)


@pytest.mark.parametrize(
    ("text", "code"),
    [("[listener]\nport = -1\n", 2), ('[models]\nfolder = "."\n', 1)],
    ids=["settings", "model"],
)
def test_faults_end_with_their_exit_code_and_remedy(tmp_path, monkeypatch, capsys, text, code):
    conf = tmp_path / "node.toml"
    conf.write_text(text)
    study = tmp_path / "study"
    study.mkdir()
    arguments = ["mmf-node", "run", str(study), "--out", str(tmp_path / "out"), "--conf", str(conf)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) >= 2


@pytest.mark.parametrize("number", ["0", "99999999999999999999", "first"])
def test_what_can_be_no_number_of_a_job_is_a_usage_error(tmp_path, number):
    assert CliRunner().invoke(cli.app, ["jobs", "show", number, "--data", str(tmp_path)]).exit_code == 2


def test_every_command_line_of_the_service_unit_and_the_image_exists():
    root = Path(cli.__file__).parent.parent
    unit = (root / "conf" / "mmf-node.service").read_text()
    lines = [line.split("mmf-node ", 1)[1].split() for line in unit.splitlines() if line.startswith("Exec")]
    image = (root / "Dockerfile").read_text()
    lines += [json.loads(found)[1:] for found in re.findall(r'CMD (\["mmf-node".*\])', image)]
    assert len(lines) >= 3
    for command, *options in lines:
        told = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "200"}).output
        for option in options:
            assert not option.startswith("--") or option in told, f"{command} {option}"
