"""Versions in service: a person promotes what the gate released, atomically; a study keeps the version it began with."""

import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from engines.errors import Busy, ModelRefused
from engines.lock import hold_lock
from engines.models.promotion import (
    CandidateRecord,
    Decision,
    SeenCase,
    promote_version,
    read_record,
    unseen_cases,
    write_record,
)
from engines.models.store import ModelStore, verify_folder
from node.app import find_model
from node.cli import app
from node.settings import read_settings
from tests.model_folder import write_small_model

AT = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two model folders."""
    folder = tmp_path_factory.mktemp("models")
    for version in ("1", "2"):
        write_small_model(folder / version, version=version)
    return folder


@pytest.fixture
def store(models, tmp_path):
    opened = ModelStore(tmp_path / "store")
    for version in ("1", "2"):
        opened.install(models / version)
    return opened


def call(store, *words):
    result = CliRunner().invoke(app, ["models", *words, "--store", str(store.root)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def remember(store, version, decision=None, cases=(), **changes):
    sha256 = verify_folder(store.folder(version)).sha256
    record = CandidateRecord(version=version, sha256=sha256, cases=tuple(cases), decision=decision, **changes)
    write_record(store, record)
    return record


def test_list_promote_rollback_and_history(store):
    assert json.loads(call(store, "list", "--json"))["current"] is None
    call(store, "promote", "1", "--allow-demo-models", "--by", "anna")
    assert "in service" in call(store, "promote", "2", "--allow-demo-models", "--by", "ben")
    listed = json.loads(call(store, "list", "--json"))
    assert [row["version"] for row in listed["models"] if row["in_service"]] == ["2"]
    assert (
        json.loads(call(store, "rollback", "--allow-demo-models", "--by", "anna", "--json"))["current"] == "1"
    )
    history = json.loads(call(store, "history", "--json"))
    assert [(entry["version"], entry["by"]) for entry in history] == [
        ("1", "anna"),
        ("2", "ben"),
        ("1", "anna"),
    ]
    assert history[-1]["note"] == "rollback from 2"
    shown = json.loads(call(store, "show", "1", "--json"))
    assert len(shown["history"]) == 2
    assert shown["in_service"]
    assert "* 1" in call(store, "list")


def test_a_demonstration_model_is_not_put_into_service_unless_allowed(store):
    with pytest.raises(ModelRefused, match="demonstration"):
        call(store, "promote", "1")


def test_a_damaged_version_is_not_put_into_service(store):
    (store.root / "2" / "reference.json").write_text("{}")
    with pytest.raises(ModelRefused, match=r"reference\.json"):
        call(store, "promote", "2", "--allow-demo-models")
    assert store.history() == ()


def test_what_the_gate_did_not_release_needs_a_reason_that_is_kept(store):
    remember(store, "2", Decision.REFUSE, reasons=("C of OS is lower by .10",))
    with pytest.raises(ModelRefused, match="C of OS is lower"):
        call(store, "promote", "2", "--allow-demo-models")
    call(store, "promote", "2", "--allow-demo-models", "--against-the-gate", "for a test")
    assert store.history()[-1].note == "against the gate: for a test"


def test_a_released_candidate_needs_no_reason(store):
    remember(store, "2", Decision.RELEASE, at=AT)
    promote_version(store, "2", since=AT, by="anna", allow_demonstration=True)
    assert store.history()[-1].note == ""


def test_a_record_of_another_model_is_not_believed(store, models):
    remember(store, "2", Decision.RELEASE)
    path = store.root / "records" / "2.json"
    content = json.loads(path.read_text()) | {"sha256": "0" * 64}
    path.write_text(json.dumps(content))
    with pytest.raises(ModelRefused, match="another model"):
        read_record(store, "2")


def test_two_changes_of_service_never_cross(store):
    with hold_lock(store.root / ".lock", "a change"), pytest.raises(Busy, match="under way"):
        promote_version(store, "1", since=AT, by="anna", allow_demonstration=True)


def test_unseen_cases_share_neither_patient_nor_images_with_what_was_learned(store):
    cases = [SeenCase(case_id=str(n), patient_key=f"p{n}", images=f"i{n}") for n in range(4)]
    same_images = SeenCase(case_id="9", patient_key="p9", images="i1")
    record = remember(store, "1", cases=[cases[0], same_images])
    assert unseen_cases(cases, [record]) == (cases[2], cases[3])
    assert record.overlaps(cases[0])
    assert not record.overlaps(cases[3])
    assert read_record(store, "1") == record
    assert "p9" not in call(store, "show", "1", "--json")


def test_a_study_keeps_the_version_that_served_when_it_began(store):
    settings = read_settings(changes={"models": {"folder": str(store.root), "allow_demonstration": True}})
    promote_version(store, "1", since=AT, by="anna", allow_demonstration=True)
    began = find_model(settings)
    promote_version(store, "2", since=AT, by="anna", allow_demonstration=True)
    assert began.name == "1"
    assert verify_folder(began).files
    assert find_model(settings).name == "2"


def test_install_can_state_that_a_model_was_trained_elsewhere(models, tmp_path):
    store = ModelStore(tmp_path / "new")
    call(store, "install", str(models / "1"), "--trained-elsewhere", "delivered by the consortium")
    record = read_record(store, "1")
    assert record.elsewhere.endswith("delivered by the consortium")
    assert record.cases == ()


def test_one_model_is_no_store(models):
    result = CliRunner().invoke(app, ["models", "list", "--store", str(models / "1")])
    assert "is one model" in str(result.exception)
