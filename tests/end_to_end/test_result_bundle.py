"""One result as a whole: written, checked, the same again, with names of many scripts."""

import io
import shutil
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pydicom
import pypdfium2
import pytest
from PIL import Image

from engines.errors import InvalidInput
from node.errors import ObjectInvalid
from node.report.bundle import write_objects
from node.report.json_form import read_json
from node.report.sources import ReportSources
from node.report.validate import validate_object
from node.report.verify import verify_result
from tests.report_study import (
    ANNEX_K_NAME,
    STUDY_UID,
    ct_header,
    make_failure,
    make_instance,
    make_report,
    make_sources,
)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return make_sources(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def result(sources, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return out, write_objects(make_report(), sources, out)


def page_text(pdf: bytes) -> str:
    """Words of all pages, with the breaks of lines as blanks."""
    document = pypdfium2.PdfDocument(pdf)
    return " ".join(" ".join(page.get_textpage().get_text_range().split()) for page in document)


def contents(out):
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def test_everything_is_written_and_listed(result):
    out, report = result
    assert [entry.kind for entry in report.objects] == ["SEG", "SEG", "SEG", "SR", "PDF", "SC", "SC"]
    for entry in report.objects:
        dataset = pydicom.dcmread(out / entry.path)
        assert (dataset.SOPInstanceUID, dataset.SOPClassUID) == (entry.sop_instance_uid, entry.sop_class_uid)
        assert str(dataset.PatientName) == ANNEX_K_NAME
        assert dataset.IssuerOfPatientID == "TEST"
        assert dataset.StudyInstanceUID == STUDY_UID
    assert read_json((out / "report.json").read_text()) == report
    assert len(list((out / "pages").glob("page-*.png"))) == 3
    assert len({pydicom.dcmread(out / entry.path).SeriesInstanceUID for entry in report.objects}) == 6


def test_objects_and_report_say_the_same(result):
    out, _ = result
    assert verify_result(out) == ()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"log_hazard": 0.641234567890123', '"log_hazard": 0.741234567890123', "OS log hazard"),
        ('"probability": 0.442', '"probability": 0.443', "OS probabilities"),
        ('"group": "high"', '"group": "low"', "OS group"),
        ('"value": -0.0726117', '"value": -0.0726118', "SR: tumour DELAYED original_glcm_Imc1"),
        ('"volume_ml": 84.56', '"volume_ml": 184.56', "tumour volume"),
        ('"name": "lesion 2"', '"name": "lesion 3"', "segments"),
        ('"path": "dicom/SR.dcm"', '"path": "dicom/XX.dcm"', "listed but not there"),
        ('"path": "dicom/SR.dcm"', '"path": "../SR.dcm"', "outside"),
    ],
)
def test_a_contradiction_between_objects_and_report_is_told(result, tmp_path, old, new, told):
    out, _ = result
    shutil.copytree(out / "dicom", tmp_path / "dicom")
    text = (out / "report.json").read_text()
    assert old in text
    (tmp_path / "report.json").write_text(text.replace(old, new))
    assert any(told in fault for fault in verify_result(tmp_path))


def test_results_are_kept_from_others(result):
    out, _ = result
    assert all(path.stat().st_mode & 0o007 == 0 for path in out.rglob("*") if path.is_file())


def test_a_rerun_gives_the_same_bytes(result, sources, tmp_path):
    out, _ = result
    write_objects(make_report(), sources, tmp_path)
    assert contents(tmp_path) == contents(out)


def outlined_failure():
    """A refusal after segmentation: SEG objects and one page, quicker to write than three pages."""
    return replace(make_failure(), structures=make_report().structures)


def test_a_later_rerun_gives_the_same_uids_and_another_mask_others(sources, tmp_path):
    report = outlined_failure()
    first = write_objects(report, sources, tmp_path / "first").objects
    later = replace(report, concluded_at=report.concluded_at + timedelta(days=3))
    assert [entry.kind for entry in first] == ["SEG", "SEG", "SEG", "SR", "PDF", "SC"]
    assert write_objects(later, sources, tmp_path / "later").objects == first
    array = sources.liver.array.copy()
    array[np.unravel_index(array.argmax(), array.shape)] = False
    other = write_objects(
        report, replace(sources, liver=replace(sources.liver, array=array)), tmp_path / "other"
    )
    assert not {entry.sop_instance_uid for entry in other.objects} & {
        entry.sop_instance_uid for entry in first
    }


def test_warnings_stand_on_every_page(result):
    out, _ = result
    document = pypdfium2.PdfDocument((out / "report.pdf").read_bytes())
    for page in document:
        words = " ".join(page.get_textpage().get_text_range().split())
        assert "Research use only" in words
        assert "no clinical meaning" in words
        assert "Synthetic study" in words
        assert "SYN-0001" in words


def test_figures_of_the_report_stand_on_the_first_page(result):
    out, _ = result
    words = page_text((out / "report.pdf").read_bytes())
    for part in ("HIGH RISK", "LOW RISK", "82 %", "77 – 85 %", "1183.4 mL", "+0.64", "5.2 cm", "ab" * 20):
        assert part in words, part


def test_the_encapsulated_document_is_the_written_one(result):
    out, _ = result
    dataset = pydicom.dcmread(out / "dicom" / "PDF.dcm")
    document = dataset.EncapsulatedDocument[: dataset.EncapsulatedDocumentLength]
    assert document == (out / "report.pdf").read_bytes()
    assert dataset.BurnedInAnnotation == "YES"
    assert dataset.ConceptNameCodeSequence[0].CodingSchemeDesignator == "99MMF"


def test_captured_pages_are_the_pages(result):
    out, _ = result
    for number in (1, 2):
        image = pydicom.dcmread(out / "dicom" / f"SC_{number}.dcm")
        page = Image.open(out / "pages" / f"page-{number}.png").convert("RGB")
        assert np.array_equal(image.pixel_array, np.asarray(page))
        assert image.InstanceNumber == number
        assert image.BurnedInAnnotation == "YES"


def test_a_study_without_ct_gets_report_and_page(sources, tmp_path):
    report = write_objects(make_failure(), ReportSources(instance=sources.instance), tmp_path, capture=False)
    assert [entry.kind for entry in report.objects] == ["SR", "PDF"]
    assert len(list((tmp_path / "pages").glob("*.png"))) == 1
    words = page_text((tmp_path / "report.pdf").read_bytes())
    assert "No risk estimate can be given" in words
    assert "no delayed phase" in words
    assert "Send the missing phase" in words


NAMES = {
    "chinese": (ANNEX_K_NAME, "ISO_IR 192", ("Wang, XiaoDong", "王 小东")),
    "chinese gb18030": (ANNEX_K_NAME, "GB18030", ("Wang, XiaoDong", "王 小东")),
    "japanese": (
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "ISO_IR 192",
        ("Yamada, Tarou", "山田 太郎", "やまだ たろう"),
    ),
    "korean": ("Hong^Gildong=洪^吉洞=홍^길동", "ISO_IR 192", ("Hong, Gildong", "洪 吉洞", "홍 길동")),
    "cyrillic": ("Люкceмбypг^Анна", "ISO_IR 144", ("Люкceмбypг, Анна",)),
    "polish": ("Śnieżewska-Wójcik^Łucja", "ISO_IR 101", ("Śnieżewska-Wójcik, Łucja",)),
    "long": (f"{'M' * 40}^{'W' * 23}", "ISO_IR 192", ("M" * 40,)),
    "long three groups": (
        f"{'M' * 64}={'漢' * 64}={'が' * 64}",
        "ISO_IR 192",
        ("M" * 40, "漢" * 10, "が" * 10),
    ),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_are_unharmed_and_legible(case, tmp_path):
    name, character_set, shown = NAMES[case]
    sources = ReportSources(instance=make_instance(tmp_path, ct_header(name, character_set)))
    report = write_objects(make_failure(), sources, tmp_path / "out", capture=False)
    for entry in report.objects:
        assert str(pydicom.dcmread(tmp_path / "out" / entry.path).PatientName) == name
    words = page_text((tmp_path / "out" / "report.pdf").read_bytes())
    for part in shown:
        assert part in words


def test_an_arabic_name_is_unharmed(tmp_path):
    """Shaped letters stand right to left on the page; their order in the PDF's text is the viewer's matter."""
    name = "قباني^لنزار"
    sources = ReportSources(
        instance=make_instance(tmp_path, ct_header(f"Qabbani^Nizar={name}", "ISO_IR 192"))
    )
    report = write_objects(make_failure(), sources, tmp_path / "out")
    for entry in report.objects:
        assert str(pydicom.dcmread(tmp_path / "out" / entry.path).PatientName) == f"Qabbani^Nizar={name}"
    words = page_text((tmp_path / "out" / "report.pdf").read_bytes())
    assert sum(letter in words for letter in "قبانيلزار") >= 5


def test_an_empty_patient_module_works(tmp_path):
    sources = make_sources(tmp_path, ct_header(patient=False))
    report = write_objects(outlined_failure(), sources, tmp_path / "out")
    for entry in report.objects:
        dataset = pydicom.dcmread(tmp_path / "out" / entry.path)
        assert "PatientID" in dataset
        assert not dataset.PatientID
    assert "name not given" in page_text((tmp_path / "out" / "report.pdf").read_bytes()).lower()


def test_nothing_is_drawn_outside_the_margins(result):
    out, _ = result
    for path in sorted((out / "pages").glob("*.png")):
        picture = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("L"))
        margin = round(0.04 * picture.shape[1])
        below_banner = picture[round(0.12 * picture.shape[0]) :]
        assert below_banner[:, :margin].min() > 250
        assert below_banner[:, -margin:].min() > 250


def test_masks_without_their_phase_are_refused(sources):
    with pytest.raises(InvalidInput, match="PORTAL_VENOUS"):
        replace(sources, used=sources.used[:1])


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda ds: delattr(ds, "PatientID"), "PatientID is absent"),
        (lambda ds: setattr(ds, "StudyInstanceUID", "1.2.3"), "belongs to study 1.2.3"),
        (lambda ds: setattr(ds, "SeriesDescription", "Liver"), "research use only"),
        (lambda ds: setattr(ds.file_meta, "MediaStorageSOPInstanceUID", "1.2.3"), "another instance"),
        (
            lambda ds: delattr(ds, "ContributingEquipmentSequence"),
            "ContributingEquipmentSequence has no value",
        ),
    ],
)
def test_a_spoiled_object_is_not_let_through(result, tmp_path, spoil, fault):
    out, _ = result
    dataset = pydicom.dcmread(out / "dicom" / "PDF.dcm")
    spoil(dataset)
    path = tmp_path / "spoiled.dcm"
    dataset.save_as(path)
    known = frozenset(reference.ReferencedSOPInstanceUID for reference in dataset.SourceInstanceSequence)
    with pytest.raises(ObjectInvalid, match=fault):
        validate_object(path, study_instance_uid=STUDY_UID, known_uids=known)


@pytest.mark.parametrize("name", ["SEG_ARTERIAL", "SR", "PDF"])
def test_a_reference_to_a_stranger_is_not_let_through(result, name):
    out, _ = result
    with pytest.raises(ObjectInvalid, match="neither of the study's used slices"):
        validate_object(out / "dicom" / f"{name}.dcm", study_instance_uid=STUDY_UID, known_uids=frozenset())


def test_a_cut_document_is_not_let_through(result, tmp_path):
    out, _ = result
    dataset = pydicom.dcmread(out / "dicom" / "PDF.dcm")
    dataset.EncapsulatedDocument = b"%PDF" + bytes(100)
    path = tmp_path / "cut.dcm"
    dataset.save_as(path)
    with pytest.raises(ObjectInvalid, match="no PDF"):
        validate_object(path, study_instance_uid=STUDY_UID, known_uids=frozenset())
