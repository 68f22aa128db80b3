import hashlib
import json
import shutil

import numpy as np
import pypdfium2
import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from engines.case import check_case
from engines.phantom.anatomy import abdomen_grid, draw_anatomy, render_masks
from engines.phase import ASSESSED_PHASES, Phase
from engines.registration import invert
from node.app import FolderRequest, assess_folder
from node.cli import app
from node.report.record import ReasonCode, Status


def digest_files(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.dcm"))}


def dice(one, other):
    return 2 * np.logical_and(one, other).sum() / (one.sum() + other.sum())


def test_the_synthetic_patient_gets_mmf_for_both_endpoints(walked):
    report = walked.report
    assert report.status == Status.ASSESSED, report.reason
    assert [(risk.endpoint, risk.model) for risk in report.risks] == [("OS", "MMF"), ("PFS", "MMF")]
    for risk in report.risks:
        assert risk.low < risk.log_hazard < risk.high
        assert all(0 <= point.low <= point.probability <= point.high <= 1 for point in risk.survival)
        assert dict(risk.network_scores).keys() >= {"Ensemble-DL"}
        assert sum(one.log_hazard for one in risk.contributions) == pytest.approx(risk.log_hazard, abs=1e-9)


def test_every_phase_is_recognised_and_duplicates_are_left_out_with_a_reason(walked):
    truth = walked.study.phase_of_series
    used = {entry.series_instance_uid: entry.phase for entry in walked.report.phases if entry.used}
    assert used == {uid: phase for uid, phase in truth.items() if phase in ASSESSED_PHASES}
    found = {entry.series_instance_uid: entry.phase for entry in walked.report.phases}
    native = next(uid for uid, phase in truth.items() if phase == Phase.PRE_CONTRAST)
    assert found[native] == Phase.PRE_CONTRAST
    left_out = [entry for entry in walked.report.phases if not entry.used]
    assert any("bone" in entry.series_description.lower() for entry in left_out)
    assert any("scout" in entry.series_description.lower() for entry in left_out)
    assert all(entry.reasons for entry in left_out)


def test_the_masks_lie_on_the_phantoms_liver_and_tumours(walked):
    case, _ = check_case(walked.out / "case")
    liver, lesions = render_masks(draw_anatomy(walked.study.patient.traits), abdomen_grid())
    found_liver, found_lesions = case.read_mask("liver"), case.read_mask("lesions")
    assert found_liver.grid.matches(liver.grid)
    assert dice(found_liver.array > 0, liver.array > 0) > 0.9
    assert dice(found_lesions.array > 0, lesions.array > 0) > 0.6


def test_the_alignment_undoes_the_breath(walked):
    from node.demo.patient import BREATHING_SHIFT_MM

    case, _ = check_case(walked.out / "case")
    liver = case.read_mask("liver")
    centre = np.argwhere(liver.array).mean(axis=0)
    point = (liver.grid.affine() @ [*centre, 1])[:3]
    for phase in (Phase.ARTERIAL, Phase.DELAYED):
        moved = np.array(case.read_transform(phase).TransformPoint(point.tolist())) - point
        np.testing.assert_allclose(moved, BREATHING_SHIFT_MM[phase], atol=2.5)
        back = invert(case.read_transform(phase), liver.grid).TransformPoint((point + moved).tolist())
        np.testing.assert_allclose(back, point, atol=1.0)


def test_the_case_is_whole_and_says_that_it_is_synthetic(walked):
    case, identity = check_case(walked.out / "case")
    assert identity.synthetic
    assert set(identity.phases) == set(ASSESSED_PHASES)
    assert identity.mask_provider.startswith("baseline")
    array = case.read_network_input()
    assert array.dtype == np.float16
    assert 0 <= array.min() < array.max() <= 1
    lines = case.features_path.read_text().splitlines()
    assert len(lines) == 1 + 2 * (14 + 3 * 93)


def test_every_object_says_research_use_and_phantoms(walked):
    for entry in walked.report.objects:
        dataset = dcmread(walked.out / entry.path)
        assert dataset.StudyInstanceUID == walked.study.study_instance_uid
        assert "research" in dataset.SeriesDescription.lower()
        assert str(dataset.PatientName) == "Wang^XiaoDong=王^小东"
    assert {entry.kind for entry in walked.report.objects} == {"SEG", "SR", "PDF", "SC"}
    assert any("phantom" in flag for flag in walked.report.flags)
    assert (walked.out / "pages" / "page-1.png").is_file()


def test_the_report_shows_where_the_networks_looked_and_calls_it_no_finding(walked):
    assert "explain" in walked.steps
    case, _ = check_case(walked.out / "case")
    assert case.read_activation_maps().shape == (2, 3, 32, 32, 32)
    document = next(entry for entry in walked.report.objects if entry.kind == "PDF")
    pdf = dcmread(walked.out / document.path).EncapsulatedDocument
    pages = [page.get_textpage().get_text_range() for page in pypdfium2.PdfDocument(pdf)]
    (page,) = [words for words in pages if "WHERE THE NETWORKS LOOKED" in words]
    words = " ".join(page.split())
    assert "what each network looked at, not a finding; research use" in words
    assert words.count("strongest on slice") + words.count("nothing raises the risk") == 6
    assert not any("unlike the training data" in flag for flag in walked.report.flags)


def test_a_second_run_does_no_step_again_and_makes_the_same_objects(walked):
    before = digest_files(walked.out / "dicom")
    again = assess_folder(
        walked.settings,
        FolderRequest(folder=walked.study.folder),
        case_folder=walked.out / "case",
        out=walked.out,
    )
    assert again.concluded_at == walked.report.concluded_at
    assert again.objects == walked.report.objects
    assert digest_files(walked.out / "dicom") == before
    names = [name for name, _ in again.seconds_per_step]
    assert len(names) == len(set(names)) >= 10


def test_without_a_clinical_row_ensemble_dl_is_given_and_the_missing_is_said(walked, tmp_path):
    out = tmp_path / "out"
    result = CliRunner().invoke(
        app, ["run", str(walked.study.folder), "--out", str(out), "--allow-demo-models", "--json"]
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert {risk["model"] for risk in report["risks"].values()} == {"Ensemble-DL"}
    assert report["missing"]
    assert any("MMF was not computed" in flag for flag in report["flags"])


def test_demonstration_models_are_refused_unless_allowed(walked, tmp_path):
    # In a copy: a refusal takes the scores out of its case, and other files read the shared one.
    shutil.copytree(walked.out / "case", tmp_path / "case")
    report = assess_folder(
        read_settings_without_leave(walked),
        FolderRequest(folder=walked.study.folder),
        case_folder=tmp_path / "case",
        out=tmp_path,
    )
    assert report.status == Status.NOT_ASSESSABLE
    assert report.reason_code == ReasonCode.MODEL_NOT_ALLOWED
    assert report.risks == ()


@pytest.mark.parametrize(("told", "kinds"), [(True, {"SR", "PDF", "SC"}), (False, set())])
def test_a_study_that_nobody_asked_for_gets_no_risk_and_the_site_says_whether_the_archive_is_told(
    walked, tmp_path, told, kinds
):
    clinical = walked.settings.clinical.model_copy(update={"table": None})
    assessment = walked.settings.assessment.model_copy(update={"report_unrequested": told})
    settings = walked.settings.model_copy(update={"clinical": clinical, "assessment": assessment})
    report = assess_folder(
        settings, FolderRequest(folder=walked.study.folder), case_folder=tmp_path / "case", out=tmp_path
    )
    assert report.reason_code == ReasonCode.NOT_REQUESTED
    assert report.risks == ()
    assert {entry.kind for entry in report.objects} == kinds
    assert (tmp_path / "report.json").is_file()


def read_settings_without_leave(walked):
    models = walked.settings.models.model_copy(update={"allow_demonstration": False})
    return walked.settings.model_copy(update={"models": models})
