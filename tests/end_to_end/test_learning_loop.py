"""The learning loop from exported cases to a promoted model and back, at the smallest size that still trains."""

import json
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from engines.configuration import find_conf
from engines.models.promotion import read_record
from engines.models.store import ModelStore
from tests.end_to_end.learning_loop import LoopSize, run_loop
from train.locked import read_ledger

pytestmark = pytest.mark.timeout(
    1500
)  # nine networks are trained: under a minute alone, minutes on a busy machine

RECIPE = """
[training]
epochs = 5
warm_up_epochs = 0
batch_size = 32
learning_rate = 3e-3
l1 = 0.0
augmentation = 0.0

[size]
side = 32
width = 0.0625
depth = 0.1
norm_momentum = 0.1

[network.network2.training]
reconstruction_epochs = 0
"""


def call_here(program, *words):
    """Runs a command in this process."""
    if program == "node":
        from node.cli import app
    else:
        from train.cli import build_app

        app = build_app(words)
    result = CliRunner().invoke(app, list(words))
    structlog.reset_defaults()  # the command's log went to the runner's streams, which are closed now
    if result.exit_code != 0:
        raise AssertionError(f"{program} {words}: {result.exception!r} {result.output}") from result.exception
    return result.stdout


@pytest.fixture(scope="module")
def loop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loop")
    recipe = folder / "tiny.toml"
    recipe.write_text(RECIPE)
    size = LoopSize(patients=56, studies=0, rendered=False, recipe=str(recipe), trees=20, margin=0.4)
    lines = []
    done = run_loop(folder / "run", size, call_here, find_conf("models/demo"), lines.append)
    done.lines = lines
    return done


def test_the_night_judges_its_candidate_on_patients_it_has_not_seen(loop):
    night = loop.night
    assert night["status"] == "judged"
    assert night["running"] == loop.first
    assert night["decision"] in ("release", "refuse", "cannot decide")
    record = read_record(ModelStore(loop.store), loop.candidate)
    ledger = read_ledger(loop.runs / "locked.json")
    assert not {seen.patient_key for seen in record.cases} & ledger.locked()
    assert 0.1 < len(ledger.locked()) / loop.size.patients < 0.4
    snapshot = {path.parent.name for path in Path(night["folder"]).glob("snapshot/*/case.json")}
    assert snapshot == {seen.case_id for seen in record.cases}


def test_every_look_is_counted(loop):
    (present,) = read_ledger(loop.runs / "locked.json").sets
    if loop.night["locked_patients"] == 0:
        assert present.looks == ()
        return
    (look,) = present.looks
    assert look.candidate == loop.candidate
    assert look.decision.value == loop.night["decision"]
    assert loop.night["looks"] == 1


def test_the_report_is_written_for_people_and_for_programs(loop):
    folder = Path(loop.night["folder"])
    assert json.loads((folder / "report.json").read_text()) == loop.night
    for name in ("report.html", "report.md"):
        text = (folder / name).read_text()
        assert f"Decision: {loop.night['decision']}" in text
        assert loop.candidate in text
        assert "equal model" in text


def test_a_promotion_and_a_rollback_leave_their_trace(loop):
    history = ModelStore(loop.store).history()
    assert [entry.version for entry in history] == [loop.first, loop.candidate, loop.first]
    assert history[-1].note == f"rollback from {loop.candidate}"
    assert all(entry.by == "operator" for entry in history)
    if loop.night["decision"] != "release":
        assert history[1].note.startswith("against the gate")


def test_outcomes_joined_every_case_once(loop):
    assert loop.joined["counts"] == {"new": loop.size.patients, "changed": 0, "same": 0}
    assert loop.joined["completeness"]["share"] > 0.99
