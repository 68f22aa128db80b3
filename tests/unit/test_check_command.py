"""``mmf-node check`` before the node starts: what keeps it from starting, and what it runs with and warns of."""

import json

import pytest
from typer.testing import CliRunner

from node.cli import app


@pytest.fixture
def check(tmp_path):
    """Function that checks settings and a clinical table and returns the exit code and what was printed."""

    def run(table="patient_id,ecog\nP1,1\n", settings="", *words):
        (tmp_path / "clinical.csv").write_text(table)
        conf = tmp_path / "node.toml"
        conf.write_text(
            f'[storage]\ndata = "{tmp_path / "data"}"\n{settings}\n[clinical]\ntable = "clinical.csv"\n'
        )
        result = CliRunner().invoke(app, ["check", "--conf", str(conf), "--no-echo", *words])
        return result.exit_code, result.stdout

    return run


@pytest.mark.parametrize(
    ("name", "table", "settings"),
    [
        ("clinical", "patient_id,ecog\nP1,1\nP2,Jane Doe\n", "minimum_free_gib = 0.0"),
        ("disk", "patient_id,ecog\nP1,1\n", "minimum_free_gib = 1e9"),
    ],
)
def test_what_the_node_can_run_with_is_a_warning_without_a_patients_value(check, name, table, settings):
    code, text = check(table, settings)
    assert code == 0, text
    assert f"WARN  {name}" in text
    assert "Jane Doe" not in text
    code, text = check(table, settings, "--json")
    assert code == 0
    assert [one["check"] for one in json.loads(text) if one["warning"]] == [name]
    assert "Jane Doe" not in text


def test_every_faulty_place_is_listed(check):
    _, text = check("patient_id,ecog,child_pugh\nP1,9,A\nP2,1,Z\nP3\n", "minimum_free_gib = 0.0")
    for place in ("row 2, column ecog", "row 3, column child_pugh", "row 4\n"):
        assert place in text


def test_a_table_with_a_column_that_nobody_knows_keeps_the_node_from_starting(check):
    code, text = check("patient_id,colour\n", "minimum_free_gib = 0.0")
    assert code == 1
    assert "FAIL  clinical" in text
