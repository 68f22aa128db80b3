import json
import shutil
from dataclasses import replace

import pydicom
import pypdfium2
import pytest
from typer.testing import CliRunner

from engines.errors import InvalidInput
from engines.phase import Phase
from node.app import FolderRequest, assess_folder
from node.cli import app, main
from node.dicom.scanner import write_scout
from node.errors import InstanceRefused
from node.report.record import ReasonCode, Status
from node.report.verify import verify_result
from node.settings import read_settings
from tests.bad_studies import (
    Recipe,
    change,
    files_of,
    make_body,
    make_it_magnetic,
    make_it_screenshots,
    write_study,
)


@pytest.fixture
def scout_alone(tmp_path):
    """A study of one scout: quick to judge, never assessable."""
    folder = tmp_path / "study"
    plan = replace(
        Recipe(number=1).plan(Phase.ARTERIAL), series_number=1, series_description="SYNTHETIC scout"
    )
    write_scout(make_body(), plan, folder)
    return folder


def read_page(path):
    """The text of a document's first page."""
    document = pypdfium2.PdfDocument(path)
    try:
        return document[0].get_textpage().get_text_range()
    finally:
        document.close()


def assess(folder, out):
    return assess_folder(
        read_settings(), FolderRequest(folder=folder, requested=True), case_folder=out / "case", out=out
    )


def test_files_that_cannot_be_read_are_told_in_the_report(scout_alone, tmp_path):
    (scout_alone / "torn.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 64)
    (scout_alone / "cut.dcm").write_bytes((scout_alone / "0001-scout.dcm").read_bytes()[:700])
    report = assess(scout_alone, tmp_path / "out")
    assert (report.status, report.reason_code) == (Status.NOT_ASSESSABLE, ReasonCode.MISSING_PHASE)
    assert any("2 files could not be read, slices may be missing" in flag for flag in report.flags)


def test_a_run_that_fails_leaves_no_report_of_another_study(scout_alone, tmp_path):
    out = tmp_path / "out"
    assess(scout_alone, out)
    assert (out / "report.json").is_file()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InstanceRefused, match="no DICOM instance"):
        assess(tmp_path / "empty", out)
    assert not (out / "report.json").exists()
    assert not (out / "dicom").exists()


def test_two_studies_in_one_folder_are_refused(scout_alone, test_data, tmp_path):
    shutil.copy(next((test_data / "ct-hcc-tcga").glob("*.dcm")), scout_alone)
    with pytest.raises(InstanceRefused, match="holds 2 studies"):
        assess(scout_alone, tmp_path / "out")


def test_an_output_that_is_a_file_is_refused(scout_alone, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(InvalidInput, match="is not a folder"):
        assess(scout_alone, tmp_path / "out")


def test_a_phase_that_names_no_series_is_refused_with_the_choices(scout_alone, tmp_path):
    result = CliRunner().invoke(
        app, ["run", str(scout_alone), "--out", str(tmp_path / "out"), "--phase", "arterial=1.2.3"]
    )
    assert isinstance(result.exception, InvalidInput)
    assert "no such acquisition in the study" in str(result.exception)


def test_too_few_pixels_are_told_with_the_instance(tmp_path):
    def halve(folder):
        def alter(dataset):
            dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]

        change(files_of(folder, Phase.ARTERIAL)[5:6], alter)

    folder = write_study(tmp_path / "study", Recipe(number=1, spoil=halve))
    report = assess(folder, tmp_path / "out")
    uid = pydicom.dcmread(files_of(folder, Phase.ARTERIAL)[5]).SOPInstanceUID
    assert report.reason_code == ReasonCode.VOLUME_REFUSED
    assert f"shows ARTERIAL but cannot be used: pixels of {uid} cannot be decoded" in report.reason


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (make_it_magnetic, "22 of MR (SOP class 1.2.840.10008.5.1.4.1.1.4)"),
        (make_it_screenshots, "1 of CT (SOP class 1.2.840.10008.5.1.4.1.1.7.3, 22 frames)"),
    ],
)
def test_a_study_without_ct_says_what_it_holds(tmp_path, spoil, words):
    folder = write_study(tmp_path / "study", Recipe(number=1, phases=(Phase.ARTERIAL,), spoil=spoil))
    report = assess(folder, tmp_path / "out")
    assert (report.reason_code, report.reason) == (
        ReasonCode.NO_CT,
        f"the study holds no CT image: {words}",
    )


def test_a_folder_without_dicom_names_what_is_there(tmp_path):
    (tmp_path / "notes.txt").write_text("not DICOM " * 20)
    with pytest.raises(
        InstanceRefused, match=r"no DICOM instance that can be read: notes.txt is not a DICOM file"
    ):
        assess(tmp_path, tmp_path / "out")


def test_pixels_of_a_reconstruction_that_cannot_be_read_give_way_to_another(tmp_path):
    recipe = Recipe(number=1)
    folder = write_study(tmp_path / "study", recipe)
    for path in files_of(folder, Phase.ARTERIAL):
        dataset = pydicom.dcmread(path)
        dataset.SeriesInstanceUID, dataset.SeriesNumber = f"{dataset.SeriesInstanceUID}8"[-60:], 44
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{dataset.SOPInstanceUID}8"[
            -60:
        ]
        dataset.ConvolutionKernel = "UNKNOWN"
        dataset.save_as(folder / f"again-{path.name}")

    def spoil(dataset):
        dataset.PixelData = dataset.PixelData[:100]

    change(files_of(folder, Phase.ARTERIAL)[5:6], spoil)
    report = assess(folder, tmp_path / "out")
    used = {entry.phase: entry.series_number for entry in report.phases if entry.used}
    assert used[Phase.ARTERIAL] == 44


def test_a_run_that_ends_in_a_fault_says_so_in_report_json(scout_alone, tmp_path, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr("node.admission.split_acquisitions", broken)
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["run", str(scout_alone), "--out", str(out), "--json"])
    assert (result.exit_code, type(result.exception)) == (1, ZeroDivisionError)
    told = json.loads(result.stdout)
    assert (told["status"], told["reason_code"]) == ("failed", "processing_failed")
    assert told["reason"] == "the assessment failed: ZeroDivisionError: a fault of ours"
    assert {entry["kind"] for entry in told["objects"]} == {"SR", "PDF", "SC"}
    assert verify_result(out) == ()
    page = read_page(out / "report.pdf")
    assert "Processing failed" in page
    assert "holds no CT" not in page


def test_a_call_with_a_mistake_leaves_no_report(scout_alone, tmp_path):
    table = tmp_path / "clinical.csv"
    table.write_text("patient_id,colour\n")
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["run", str(scout_alone), "--out", str(out), "--clinical", str(table)])
    assert isinstance(result.exception, InvalidInput)
    assert not (out / "report.json").exists()


def test_check_lists_every_faulty_row_and_says_what_it_means(tmp_path):
    (tmp_path / "clinical.csv").write_text("patient_id,ecog\nP1,1\nP2,x\nP3,0\n")
    (tmp_path / "node.toml").write_text('[clinical]\ntable = "clinical.csv"\n')
    result = CliRunner().invoke(app, ["check", "--conf", str(tmp_path / "node.toml"), "--no-echo", "--json"])
    assert result.exit_code == 0
    (finding,) = [one for one in json.loads(result.stdout) if one["check"] == "clinical"]
    assert finding["passed"]
    assert finding["warning"]
    assert "2 patients in" in finding["detail"]
    assert "their patients get no risk" in finding["detail"]
    assert finding["detail"].endswith("row 3, column ecog")
    assert "x'" not in finding["detail"]  # a value may be a patient's name in the wrong column


@pytest.mark.parametrize("command", [["serve"], ["check"], ["status"]])
def test_unknown_and_contradictory_settings_are_all_told_before_anything_is_made(
    tmp_path, monkeypatch, capsys, command
):
    (tmp_path / "node.toml").write_text(
        '[storage]\ndata = "data"\n[listener]\nprot = 4242\n'
        "[destination]\ncommitment = true\nfirst_retry_seconds = 20\nlongest_retry_seconds = 10\n"
    )
    monkeypatch.setattr("sys.argv", ["mmf-node", *command, "--conf", str(tmp_path / "node.toml")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (1, 2)
    told = "".join(capsys.readouterr())
    for words in (
        "listener.prot: unknown setting",
        "destination.host is empty",
        "is longer than longest_retry_seconds",
    ):
        assert words in told
    assert not (tmp_path / "data").exists()
