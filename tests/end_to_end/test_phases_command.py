"""``mmf-node phases`` on real folders and tables: the JSON contract, the table, other rules, faults of use."""

import json

import pytest
import structlog
import typer
from typer.testing import CliRunner

from engines.configuration import find_conf
from engines.errors import InvalidInput
from node.commands.phases import phases

FIELDS = {"part", "phase", "probability", "used", "excluded", "reasons"}


@pytest.fixture
def run():
    """Runs the command in this process and returns what it wrote on standard output."""
    app = typer.Typer()
    app.command()(phases)

    def call(*words: object) -> str:
        result = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "220"})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    yield call
    structlog.reset_defaults()


def parse(text: str) -> list[dict]:
    """The JSON list, which is all that standard output holds."""
    return json.loads(text)


@pytest.mark.parametrize("name", ["CRLM-CT-1004", "CRLM-CT-1006"])
def test_real_portal_venous_series_are_named_from_their_pixels(test_data, run, name):
    (found,) = parse(run(test_data / "ct-liver-metastases" / name, "--json"))
    assert set(found) == FIELDS | {"series_instance_uid"}
    assert found["phase"] == "PORTAL_VENOUS"
    assert found["probability"] >= 0.9
    assert any("aorta" in reason for reason in found["reasons"])


def test_real_late_arterial_series_is_right_or_not_determined(test_data, run):
    (found,) = parse(run(test_data / "ct-hcc-tcga", "--json"))
    assert found["phase"] in ("ARTERIAL", None)
    assert found["phase"] or "not determined" in found["reasons"][-1]


def test_headers_alone_leave_a_bare_series_undetermined(test_data, run):
    (found,) = parse(run(test_data / "ct-liver-metastases/CRLM-CT-1006", "--json", "--headers-only"))
    assert found["phase"] is None
    assert found["excluded"] is None


def test_short_real_series_says_why_it_is_not_used(test_data, run):
    (found,) = parse(run(test_data / "ct-siemens-j2k/example_ct_dicom", "--json"))
    assert "covers 40 mm, less than 150" in found["excluded"]
    assert "Series Instance UID is empty" in found["excluded"]


def test_table_gives_one_object_per_row_in_input_order(tmp_path, run):
    table = tmp_path / "series.csv"
    table.write_text(
        "collection,patient,study_date,study_description,series_number,series_description\n"
        "X,P1,2020,Liver,5,LIVER DELAY\n"
        "X,P2,2020,Liver,2,AXIAL\n"
        "X,P1,2020,Liver,3,Arterial\n"
        "X,P1,2020,Liver,4,Venous\n"
        "X,P1,2020,Liver,2,上腹部平扫\n"
        "X,P1,2020,Liver,6,LUNG\n",
        encoding="utf-8",
    )
    found = parse(run("--series-csv", table, "--json"))
    assert [item["row"] for item in found] == list(range(6))
    assert [item["phase"] for item in found] == [
        "DELAYED",
        None,
        "ARTERIAL",
        "PORTAL_VENOUS",
        "PRE_CONTRAST",
        None,
    ]
    assert "lung" in found[5]["excluded"]
    assert set(found[0]) == FIELDS | {"row"}


def test_other_rules_show_what_they_would_change(tmp_path, run):
    table = tmp_path / "series.csv"
    table.write_text("patient,study_date,series_description\nP,2020,PHASIS RUBRA\n")
    rules = tmp_path / "phases.toml"
    added = '\n[[text.says]]\nphase = "ARTERIAL"\nstrength = "plain"\nwords = ["phasis rubra"]\n# Enhanced, but which'
    rules.write_text(find_conf("phases.toml").read_text().replace("# Enhanced, but which", added))
    shown = run("--series-csv", table, "--rules", rules)
    assert "ARTERIAL (was -)" in " ".join(shown.split())


def test_table_of_a_folder_names_phase_and_reason(test_data, run):
    shown = run(test_data / "headers-mixed", "--headers-only")
    assert "localizer (scout)" in shown
    assert "gantry tilt" in shown


def test_wrong_use_is_refused_with_the_reason(tmp_path, run):
    with pytest.raises(InvalidInput, match="either a folder"):
        run("--json")
    with pytest.raises(InvalidInput, match="is not a folder"):
        run(tmp_path / "nowhere")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InvalidInput, match="lacks the columns patient, study_date, series_description"):
        run("--series-csv", tmp_path / "bad.csv")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "lacks the columns"),
        ("patient;study_date;series_description\nP;2020;art\n", "must be separated by commas"),
        (
            "patient,study_date,series_description,patient\nP,2020,art,Q\n",
            "names the columns patient more than once",
        ),
        ("patient,study_date,series_description\nP,2020,art, 3 mm\n", "row 0 .* 4 cells, 3 columns"),
        ("patient,study_date,series_description\nP,2020,art\nP,2020\n", "row 1 .* 2 cells, 3 columns"),
        ('patient,study_date,series_description\nP,2020,"art\nP,2020,portal\n', "unexpected end of data"),
    ],
)
def test_table_that_would_lose_text_is_refused_with_its_row(tmp_path, run, text, fault):
    table = tmp_path / "series.csv"
    table.write_text(text)
    with pytest.raises(InvalidInput, match=fault):
        run("--series-csv", table, "--json")


def test_table_with_byte_order_mark_quotes_and_no_rows_is_read(tmp_path, run):
    table = tmp_path / "series.csv"
    table.write_bytes(b'\xef\xbb\xbfpatient,study_date,series_description\r\nP,2020,"art, ""3"" mm"\r\n')
    assert [item["phase"] for item in parse(run("--series-csv", table, "--json"))] == ["ARTERIAL"]
    table.write_text("patient,study_date,series_description\n")
    assert parse(run("--series-csv", table, "--json")) == []


def test_numbers_that_are_none_are_not_known(tmp_path, run):
    table = tmp_path / "series.csv"
    rows = [f"P,2020,art,{number}" for number in ("abc", "\N{SUPERSCRIPT TWO}", "--3", "9" * 5000, "")]
    table.write_text(
        "\n".join(["patient,study_date,series_description,series_number", *rows]), encoding="utf-8"
    )
    assert len(parse(run("--series-csv", table, "--json"))) == 5


def test_rows_without_real_patients_are_read_each_by_itself(tmp_path, run):
    table = tmp_path / "series.csv"
    rows = [f"X,1900,{word}" for word in ("delay", "portal", "arterial", "nativ") * 20]
    table.write_text("\n".join(["patient,study_date,series_description", *rows]))
    found = parse(run("--series-csv", table, "--json"))
    assert [item["phase"] for item in found] == ["DELAYED", "PORTAL_VENOUS", "ARTERIAL", "PRE_CONTRAST"] * 20
