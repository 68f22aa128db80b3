"""``mmf-train evaluate --table``: the whole report of a small synthetic table, and of the real HCC-TACE-Seg table."""

import csv
import json
import re
import sys
import zipfile
from html import unescape

import numpy as np
import pypdfium2
import pytest

from train.cli import main

WEEKS_A_MONTH = 365.25 / 12 / 7


def run(monkeypatch, capsys, *arguments):
    """Exit status, standard output and standard error of ``mmf-train evaluate``."""
    monkeypatch.setattr(sys, "argv", ["mmf-train", "evaluate", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    captured = capsys.readouterr()
    return stopped.value.code or 0, captured.out, captured.err


def write_csv(path, columns):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def synthetic_columns(n=150, seed=3):
    random = np.random.default_rng(seed)
    risk = random.normal(size=n)
    death = random.exponential(18 * np.exp(-0.9 * risk))
    progression = np.minimum(death, random.exponential(9 * np.exp(-0.7 * risk)))
    leaving = random.uniform(20, 48, n)
    return {
        "patient_id": [f"S{k}" for k in range(n)],
        "cohort": ["training"] * 75 + ["testing"] * 75,
        "os_months": np.minimum(death, leaving).round(2),
        "os_event": (death <= leaving).astype(int),
        "pfs_months": np.minimum(progression, leaving).round(2),
        "pfs_event": (progression <= leaving).astype(int),
        "Benchmark": (risk + 1.5 * random.normal(size=n)).round(3),
        "MMF": (risk + random.normal(size=n)).round(3),
        "pvtt": random.integers(0, 2, n),
        "regimen": ["camrelizumab+apatinib", "atezolizumab+bevacizumab", ""] * (n // 3),
    }


def test_report_of_a_synthetic_table(tmp_path, monkeypatch, capsys):
    table, out = write_csv(tmp_path / "scores.csv", synthetic_columns()), tmp_path / "report"
    code, printed, _ = run(monkeypatch, capsys, "--table", table, "--out", out, "--json", "--repeats", "100")
    assert code == 0
    records = json.loads(printed)
    assert len(records) == 2 * 2 * 2
    assert printed == (out / "records.json").read_text()
    page = (out / "report.html").read_text()
    assert "http" not in re.sub(r"charset|data:image", "", page)
    assert page.count("<img") == len(list((out / "figures").iterdir()))
    tables = {path.stem for path in (out / "tables").iterdir()}
    assert tables == set(re.findall(r'<table id="([^"]+)"', page))
    assert {"supplementary_table_1_auc_pfs", "supplementary_table_6_cox_os", "tripod_ai"} <= tables
    with (out / "tables" / "supplementary_table_8_agents.csv").open(newline="") as file:
        agents = {row["Agent"]: row["training"] for row in csv.DictReader(file)}
    assert agents["camrelizumab"] == agents["apatinib"] == "25 (50%)"
    with (out / "tables" / "missing_values.csv").open(newline="") as file:
        missing = {row["Patients without"]: row for row in csv.DictReader(file)}
    assert missing["Regimen"]["training"] == "25 (33%)"
    assert missing["MMF, OS"]["testing"] == "0 (0%)"
    assert {"OS", "PFS", "Portal vein tumour thrombus"} <= missing.keys()
    assert "Missing values are never imputed" in page
    assert "Supplementary Fig. 1 layout: OS by risk group of MMF" in page
    assert "Supplementary Fig. 2 layout: PFS by risk group of MMF" in page
    with (out / "tables" / "supplementary_table_1_auc_pfs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["kind"] for row in rows} == {"heading", "value", "published"}
    with pypdfium2.PdfDocument(out / "report.pdf") as pdf:
        text = "".join(page.get_textpage().get_text_range() for page in pdf)
    assert "another cohort" in text
    assert "Research use only" in text
    assert "Supplementary Table 7 layout" in text


def test_bad_table_is_one_clear_error_and_no_report(tmp_path, monkeypatch, capsys):
    columns = synthetic_columns()
    del columns["os_event"]
    table = write_csv(tmp_path / "scores.csv", columns)
    code, printed, error = run(monkeypatch, capsys, "--table", table, "--out", tmp_path / "r", "--json")
    assert code == 2
    assert printed == ""
    assert "missing column os_event" in error
    assert not (tmp_path / "r").exists()
    code, _, error = run(monkeypatch, capsys, "--table", table, "--out", table)
    assert code == 2
    assert "is a file; name a folder" in error


def test_one_cohort_without_clinical_variables(tmp_path, monkeypatch, capsys):
    columns = synthetic_columns()
    columns["cohort"] = ["Ghent"] * 150
    del columns["pvtt"], columns["regimen"]
    columns["response"] = ["PR", "SD", ""] * 50
    table = write_csv(tmp_path / "scores.csv", columns)
    code, _, _ = run(monkeypatch, capsys, "--table", table, "--out", tmp_path / "r", "--repeats", "100")
    assert code == 0
    page = (tmp_path / "r" / "report.html").read_text()
    assert "The table names no discovery cohort, so the first cohort named serves." in page
    assert "The table holds no clinical variable or group." in page
    assert "50.0 (39.8-60.2)" in page  # binom.test(50, 100) in R: the response is a rate, no subgroup
    assert "Internal-external validation: centres are not known." in page


def test_one_centre_and_a_horizon_past_follow_up_are_stated_limits(tmp_path, monkeypatch, capsys):
    columns = synthetic_columns()
    columns["centre"] = ["Ghent"] * 150
    late = np.array(columns["os_months"]) > 20
    columns["os_event"] = np.where(late, 0, columns["os_event"])
    columns["os_months"] = np.where(late, 20, columns["os_months"])
    table = write_csv(tmp_path / "scores.csv", columns)
    code, _, _ = run(monkeypatch, capsys, "--table", table, "--out", tmp_path / "r", "--repeats", "100")
    assert code == 0
    page = (tmp_path / "r" / "report.html").read_text()
    assert "all patients are of one centre (Ghent); it cannot be made" in page
    with (tmp_path / "r" / "tables" / "supplementary_table_1_auc_os.csv").open(newline="") as file:
        months = [row["24-month AUC (95% CI)"] for row in csv.DictReader(file) if row["kind"] == "value"]
    assert set(months) == {"not estimable"}
    with (tmp_path / "r" / "tables" / "recalibration_os.csv").open(newline="") as file:
        after = [row["O/E (95% CI)"] for row in csv.DictReader(file) if row["Month"] == "24"]
    assert set(after) == {"not estimable"}


def read_sheet(path):
    """Rows of the first sheet of an .xlsx, as dicts of text by column title."""
    with zipfile.ZipFile(path) as archive:
        words = archive.read("xl/sharedStrings.xml").decode()
        sheet = archive.read("xl/worksheets/sheet1.xml").decode()
    strings = [
        unescape("".join(re.findall(r"<t[^>]*>([^<]*)</t>", item)))
        for item in re.findall(r"<si>(.*?)</si>", words, re.DOTALL)
    ]
    rows = []
    for line in re.findall(r"<row [^>]*>(.*?)</row>", sheet, re.DOTALL):
        cells = re.findall(r'<c r="([A-Z]+)\d+"([^>/]*)><v>([^<]*)</v>', line)
        rows.append(
            {column: strings[int(value)] if 't="s"' in kind else value for column, kind, value in cells}
        )
    titles = rows[0]
    return [{title: row.get(column, "") for column, title in titles.items()} for row in rows[1:]]


def hcc_tace_columns(rows):
    """The real table in the columns of the evaluation: OS, and TTP in place of PFS, from weeks to months."""
    found = {"1": "present", "0": "absent"}
    return {
        "patient_id": [row["TCIA_ID"] for row in rows],
        "cohort": ["training" if k % 2 else "testing" for k in range(len(rows))],
        "os_months": [float(row["OS"]) / WEEKS_A_MONTH for row in rows],
        "os_event": [row["Death_1_StillAliveorLostToFU_0"] for row in rows],
        "ttp_months": [float(row["TTP"]) / WEEKS_A_MONTH for row in rows],
        "ttp_event": [row["Censored_0_progressed_1"] for row in rows],
        "mRECIST": [{"1": "0", "2": "0", "3": "1", "4": "1", "": ""}[row["1_mRECIST"]] for row in rows],
        "age": [row["age"] for row in rows],
        "sex": [{"1": "male", "2": "female"}[row["Sex"]] for row in rows],
        "hbv": ["present" if "HBV" in row["hepatitis"] else "absent" for row in rows],
        "bclc": [row["BCLC"].removeprefix("Stage-") for row in rows],
        "child_pugh": [row["CPS"] for row in rows],
        "cirrhosis": [found[row["Evidence_of_cirh"]] for row in rows],
        "afp_ng_ml": [row["AFP"] for row in rows],
        "pvtt": [found[row["Portal Vein Thrombosis"]] for row in rows],
        "lymph_node_metastasis": [found[row["Lymphnodes"]] for row in rows],
        "max_tumour_diameter_cm": [row["Tr_Size"] for row in rows],
    }


def test_report_of_the_real_hcc_tace_seg_table(tmp_path, monkeypatch, capsys, test_data):
    rows = read_sheet(test_data / "headers-hcc-tace-seg" / "HCC-TACE-Seg_clinical_data-V2.xlsx")
    assert len(rows) == 105
    columns = hcc_tace_columns(rows)
    assert sum(int(event) for event in columns["os_event"]) == 93
    table, out = write_csv(tmp_path / "hcc_tace_seg.csv", columns), tmp_path / "report"
    options = ("--table", table, "--out", out, "--json", "--repeats", "100", "--fit-benchmark")
    code, printed, _ = run(monkeypatch, capsys, *options)
    assert code == 0
    records = {(r["cohort"], r["endpoint"], r["model"]): r for r in json.loads(printed)}
    assert {key[1] for key in records} == {"OS", "TTP"}
    assert records["training", "OS", "mRECIST"]["n"] + records["testing", "OS", "mRECIST"]["n"] == 96
    assert 0.5 < records["testing", "OS", "Benchmark"]["c_index"] < 0.75
    page = (out / "report.html").read_text()
    assert "BCLC stage: categories outside the method&#x27;s population" in page
    assert "BCLC stage (C vs A)" in page
    assert "The Benchmark score was made here" in page
    assert records["testing", "TTP", "Benchmark"]["c_index"] is not None
    assert "PFS" not in (out / "tables" / "cohorts.csv").read_text()
