"""``mmf-node radiomics`` on NIfTI, NRRD and DICOM gives one region's features, and one error for bad input."""

import json
from datetime import datetime
from itertools import pairwise

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import structlog
from pydicom.sr.codedict import codes
from typer.testing import CliRunner

from engines.errors import FeatureRefused, GeometryMismatch, InvalidInput
from engines.radiomics.measurement import measure_region
from engines.radiomics.settings import parse_settings
from engines.volume import Grid, Volume
from node.cli import app
from node.dicom.scanner import SeriesPlan, StudyPlan, write_series
from node.dicom.segments import read_segment
from node.errors import InstanceRefused
from node.study import Patient
from tests.radiomics_regions import blob, soft_tissue

SHAPE = (10, 32, 34)
GRID = Grid(shape=SHAPE, spacing_mm=(3.0, 1.2, 1.2), origin_mm=(-20.4, -18.0, 50.5))
IMAGE = Volume(array=soft_tissue(SHAPE, 6), grid=GRID)


def ball(label: int = 1) -> Volume:
    array = np.zeros(SHAPE, np.uint8)
    array[2:8, 6:26, 6:26] = blob((6, 20, 20)) * np.uint8(label)
    return Volume(array=array, grid=GRID)


def call(*arguments):
    return CliRunner().invoke(app, ["radiomics", *(str(argument) for argument in arguments)])


def features(*arguments) -> dict[str, dict]:
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return {line["feature"]: line for line in json.loads(result.stdout)["features"]}


@pytest.fixture(autouse=True)
def _log_as_before():
    """The command points the log at the runner's stream, which is closed after it."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same image and mask as NIfTI, NRRD, and as a DICOM series with a SEG of two segments."""
    folder = tmp_path_factory.mktemp("radiomics")
    for ending in ("nii.gz", "nrrd"):
        sitk.WriteImage(IMAGE.to_image(), str(folder / f"image.{ending}"))
        sitk.WriteImage(ball(3).to_image(), str(folder / f"mask.{ending}"))
    (folder / "own_grid.yaml").write_text("setting: {binWidth: 25}\n")
    study = StudyPlan(seed="radiomics", study_at=datetime(2024, 5, 17, 12), patient=Patient(patient_id="SYN"))
    plan = SeriesPlan(study=study, series_number=3, acquired_at=datetime(2024, 5, 17, 12, 1))
    slices = [pydicom.dcmread(path) for path in write_series(IMAGE, plan, folder / "series")]
    slices.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    write_seg(slices, folder / "seg.dcm")
    return folder


def write_seg(slices, path, **changes) -> None:
    """A SEG with the ball as segment 1 and a block in one corner as segment 2."""
    corner = np.zeros(SHAPE, np.uint8)
    corner[1:4, 2:9, 2:9] = 1
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="Test segmenter", version="7.1", family=codes.DCM.ArtificialIntelligence
    )
    segmentation = highdicom.seg.Segmentation(
        source_images=slices,
        pixel_array=np.stack([ball().array, corner], axis=-1),
        segmentation_type=changes.get("segmentation_type", "BINARY"),
        segment_descriptions=[
            highdicom.seg.SegmentDescription(
                segment_number=number,
                segment_label=f"part {number}",
                segmented_property_category=codes.SCT.Organ,
                segmented_property_type=codes.SCT.Liver,
                algorithm_type="AUTOMATIC",
                algorithm_identification=algorithm,
            )
            for number in (1, 2)
        ],
        series_instance_uid=highdicom.UID(),
        series_number=9,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="Tests",
        manufacturer_model_name="none",
        software_versions="1",
        device_serial_number="1",
    )
    segmentation.save_as(path)


@pytest.mark.parametrize("ending", ["nii.gz", "nrrd"])
def test_files_give_the_features_of_the_label(files, ending):
    found = features(
        files / f"image.{ending}",
        files / f"mask.{ending}",
        "--label",
        3,
        "--settings",
        files / "own_grid.yaml",
    )
    witness = measure_region(IMAGE, ball(), parse_settings({"setting": {"binWidth": 25}}))
    assert found.keys() == witness.keys()
    for name, line in found.items():
        assert line["value"] == pytest.approx(witness[name], rel=1e-6), name


def test_a_dicom_series_with_a_seg_gives_what_the_file_gives(files):
    from_files = features(files / "image.nrrd", files / "mask.nrrd", "--label", 3)
    from_dicom = features(files / "series", files / "seg.dcm")
    assert from_dicom.keys() == from_files.keys()
    for name, line in from_dicom.items():
        assert line["value"] == pytest.approx(from_files[name]["value"], rel=1e-6), name
    some = from_dicom["original_glcm_Imc1"]
    assert some["mask_provider"] == "Test segmenter"
    assert some["extractor"] == "fast"
    assert len(some["settings_sha256"]) == 64
    assert some["grid"].startswith("spacing (1.0, 1.0, 1.0) mm")
    other = features(files / "series", files / "seg.dcm", "--label", 2)
    assert other["original_shape_VoxelVolume"]["value"] < some["value"] + 2000


def test_pyradiomics_itself_gives_the_same_values(files):
    fast = features(files / "image.nrrd", files / "mask.nrrd", "--label", 3)
    stock = features(files / "image.nrrd", files / "mask.nrrd", "--label", 3, "--stock")
    assert {line["extractor"] for line in stock.values()} == {"pyradiomics"}
    for name, line in stock.items():
        assert fast[name]["value"] == pytest.approx(line["value"], rel=1e-7, abs=1e-9), name


def test_the_printed_table_marks_fragile_features(files):
    result = call(
        files / "image.nrrd", files / "mask.nrrd", "--label", 3, "--perturb", "--mask-provider", "a reader"
    )
    assert result.exit_code == 0, result.output
    assert "label 3, a reader" in result.stdout
    lines = [line for line in result.stdout.splitlines() if line.startswith("original_")]
    assert len(lines) == 107
    marked = sum(line.endswith("FRAGILE") for line in lines)
    assert 0 < marked < 107
    assert f"{marked} of 107 features" in result.stdout


@pytest.mark.parametrize(
    ("image", "mask", "label", "error", "message"),
    [
        ("image.nrrd", "mask.nrrd", 1, FeatureRefused, r"label 1 is not in the mask; it holds \[3\]"),
        ("image.nrrd", "own_grid.yaml", 1, InvalidInput, "cannot be read as NIfTI"),
        ("series", "seg.dcm", 5, InvalidInput, r"holds the segments \[1, 2\], not 5"),
        ("image.nrrd", "smaller.nrrd", 1, GeometryMismatch, "mask of shape"),
        ("own_grid.yaml", "mask.nrrd", 3, InvalidInput, "the image .* cannot be read"),
        ("empty", "mask.nrrd", 3, InvalidInput, "must hold one CT acquisition, found 0"),
        ("image.nrrd", "fractions.nrrd", 1, InvalidInput, "whole numbers"),
        ("image.nrrd", "slice.dcm", 1, InstanceRefused, "not a segmentation"),
    ],
)
def test_bad_input_gives_one_clear_error(files, image, mask, label, error, message):
    (files / "empty").mkdir(exist_ok=True)
    smaller = Grid(shape=(10, 32, 33), spacing_mm=GRID.spacing_mm, origin_mm=GRID.origin_mm)
    sitk.WriteImage(
        Volume(array=ball().array[:, :, :-1], grid=smaller).to_image(), str(files / "smaller.nrrd")
    )
    sitk.WriteImage(
        Volume(array=ball().array * np.float32(0.5), grid=GRID).to_image(), str(files / "fractions.nrrd")
    )
    (files / "slice.dcm").write_bytes(next((files / "series").rglob("*.dcm")).read_bytes())
    result = call(files / image, files / mask, "--label", label)
    assert result.exit_code != 0
    assert isinstance(result.exception, error)
    assert result.stdout == ""
    with pytest.raises(error, match=message):
        raise result.exception


def test_a_fractional_segmentation_is_inside_from_one_half(files, tmp_path):
    slices = sorted(
        (pydicom.dcmread(path) for path in (files / "series").rglob("*.dcm")),
        key=lambda d: float(d.ImagePositionPatient[2]),
    )
    write_seg(slices, tmp_path / "fractional.dcm", segmentation_type="FRACTIONAL")
    found = read_segment(tmp_path / "fractional.dcm", 1, GRID)
    assert np.array_equal(found.mask.array, ball().array != 0)


def test_a_segmentation_of_another_series_is_refused(files):
    moved = Grid(shape=SHAPE, spacing_mm=GRID.spacing_mm, origin_mm=(-20.0, -18.0, 50.5))
    with pytest.raises(GeometryMismatch, match="between the image's voxels"):
        read_segment(files / "seg.dcm", 1, moved)
    coarser = Grid(shape=SHAPE, spacing_mm=(3.0, 1.3, 1.3), origin_mm=GRID.origin_mm)
    with pytest.raises(GeometryMismatch, match="mm apart"):
        read_segment(files / "seg.dcm", 1, coarser)
    below = Grid(shape=SHAPE, spacing_mm=GRID.spacing_mm, origin_mm=(-20.4, -18.0, 35.5))
    with pytest.raises(GeometryMismatch, match="outside the image"):
        read_segment(files / "seg.dcm", 1, below)


def test_a_segmentation_made_by_others_is_placed_on_its_series(test_data):
    """highdicom's own sample: its frames lie where its positions say, in whatever order they come."""
    path = test_data / "sr-seg" / "highdicom" / "seg_image_ct_binary.dcm"
    dataset = pydicom.dcmread(path)
    frames = dataset.PerFrameFunctionalGroupsSequence
    positions = sorted(float(f.PlanePositionSequence[0].ImagePositionPatient[2]) for f in frames)
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    first = next(
        f.PlanePositionSequence[0].ImagePositionPatient
        for f in frames
        if float(f.PlanePositionSequence[0].ImagePositionPatient[2]) == positions[0]
    )
    step = min(b - a for a, b in pairwise(positions))
    grid = Grid(
        shape=(round((positions[-1] - positions[0]) / step) + 1, dataset.Rows, dataset.Columns),
        spacing_mm=(step, *(float(v) for v in measures.PixelSpacing)),
        origin_mm=tuple(float(v) for v in first),
    )
    found = read_segment(path, 1, grid)
    wanted = dataset.pixel_array.reshape(len(frames), dataset.Rows, dataset.Columns)
    assert found.mask.array.sum() == wanted.sum()
