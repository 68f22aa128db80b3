"""Volumes: what is read is true to the voxel, and what is no clean stack is refused with its numbers."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.tag import Tag
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from engines.volume import Grid, Volume
from node.dicom.headers import read_folder, read_frames, read_instance
from node.dicom.scanner import SeriesPlan, StudyPlan, write_series
from node.dicom.volumes import read_volume
from node.errors import SeriesRefused
from node.phases.acquisitions import split_acquisitions
from node.stacking import stack_slices
from node.study import CT_IMAGE_STORAGE, ENHANCED_CT_IMAGE_STORAGE, Acquisition, Instance

PLAN = SeriesPlan(
    study=StudyPlan(seed="volumes", study_at=datetime(2024, 5, 17, 12, 0)),
    series_number=2,
    acquired_at=datetime(2024, 5, 17, 12, 1),
)


def made_volume(slices: int = 8) -> Volume:
    rng = np.random.default_rng(88)
    grid = Grid(shape=(slices, 36, 40), spacing_mm=(5.0, 0.75, 0.8), origin_mm=(-10.0, -20.0, 30.0))
    return Volume(array=rng.integers(-1000, 1500, grid.shape).astype(np.int16), grid=grid)


@pytest.fixture
def written(tmp_path):
    """A series of eight slices on disk and the volume it holds."""
    volume = made_volume()
    return volume, write_series(volume, PLAN, tmp_path)


def acquisition_of(folder) -> Acquisition:
    instances, _ = read_folder(folder)
    return Acquisition(series_instance_uid="S", part=0, instances=instances)


def stack(positions, **changes) -> Acquisition:
    """An acquisition of headers alone at the given (x, y, z) positions."""
    base = Instance(
        path=Path("x"),
        sop_class_uid=CT_IMAGE_STORAGE,
        sop_instance_uid="1",
        study_instance_uid="1",
        series_instance_uid="S",
        orientation=(1, 0, 0, 0, 1, 0),
        pixel_spacing_mm=(0.8, 0.8),
        rows=512,
        columns=512,
    )
    base = replace(base, **changes)
    instances = tuple(
        replace(base, sop_instance_uid=f"1.{number}", position_mm=tuple(map(float, position)))
        for number, position in enumerate(positions)
    )
    return Acquisition(series_instance_uid="S", part=0, instances=instances)


def column(*heights) -> list[tuple[float, float, float]]:
    return [(0.0, 0.0, height) for height in heights]


def test_slices_are_sorted_by_position_whatever_their_names_and_numbers_say(written, tmp_path):
    volume, paths = written
    for number, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        dataset.InstanceNumber = 100 - number * 7 % 8
        path.unlink()
        dataset.save_as(tmp_path / f"{(number * 5) % 8}.dcm")
    read = read_volume(acquisition_of(tmp_path))
    assert np.array_equal(read.array, volume.array)


def test_slope_intercept_and_sign_are_applied_slice_by_slice(written, tmp_path):
    volume, paths = written
    dataset = pydicom.dcmread(paths[3])
    dataset.PixelRepresentation, dataset.RescaleSlope, dataset.RescaleIntercept = 1, "0.5", "-10.25"
    stored = np.arange(-720, 720, dtype="<i2").reshape(36, 40)
    dataset.PixelData = stored.tobytes()
    dataset.save_as(paths[3])
    read = read_volume(acquisition_of(tmp_path))
    assert np.array_equal(read.array[3], np.rint(stored * 0.5 - 10.25))
    assert np.array_equal(np.delete(read.array, 3, 0), np.delete(volume.array, 3, 0))


def test_padding_and_what_is_below_air_become_air(written, tmp_path):
    _, paths = written
    dataset = pydicom.dcmread(paths[0])
    dataset.PixelRepresentation, dataset.RescaleIntercept = 1, "-1024"
    stored = np.full((36, 40), 1000, dtype="<i2")
    stored[0, 0], stored[0, 1], stored[0, 2] = -2000, -1500, 2047
    dataset.add_new(0x00280120, "SS", 2047)
    dataset.PixelData = stored.tobytes()
    dataset.save_as(paths[0])
    read = read_volume(acquisition_of(tmp_path))
    assert read.array[0, 0, :4].tolist() == [-1024, -1024, -1024, -24]


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_compressed_images_give_the_same_voxels(written, tmp_path, syntax):
    volume, paths = written
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(path)
    assert np.array_equal(read_volume(acquisition_of(tmp_path)).array, volume.array)


def test_compressed_image_that_claims_another_size_is_refused_before_decoding(written, tmp_path):
    _, paths = written
    dataset = pydicom.dcmread(paths[2])
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    stream = bytearray(dataset.PixelData)
    place = stream.index(b"\xff\x4f\xff\x51")
    stream[place + 8 : place + 12] = (60000).to_bytes(4, "big")
    dataset.PixelData = bytes(stream)
    dataset.save_as(paths[2])
    with pytest.raises(SeriesRefused, match=r"compressed image of 36 x 60000, header says 36 x 40"):
        read_volume(acquisition_of(tmp_path))


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_a_codestream_that_is_cut_short_is_refused_and_not_filled_up(written, tmp_path, syntax):
    _, paths = written
    dataset = pydicom.dcmread(paths[2])
    dataset.compress(syntax, generate_instance_uid=False)
    (stream,) = generate_frames(dataset.PixelData, number_of_frames=1)
    dataset.PixelData = encapsulate([stream[: len(stream) // 4 * 2]])
    dataset.save_as(paths[2])
    with pytest.raises(SeriesRefused, match=dataset.SOPInstanceUID):
        read_volume(acquisition_of(tmp_path))


def test_truncated_pixels_are_refused(written, tmp_path):
    _, paths = written
    paths[1].write_bytes(paths[1].read_bytes()[:-40])
    with pytest.raises(SeriesRefused, match="cannot be decoded"):
        read_volume(acquisition_of(tmp_path))


def test_claimed_size_is_refused_before_anything_is_allocated():
    with pytest.raises(SeriesRefused, match="the limit is 700000000"):
        read_volume(stack(column(*range(3000)), rows=2048, columns=2048))
    with pytest.raises(SeriesRefused, match="60000 x 512; expected 1 to 2048"):
        read_volume(stack(column(0, 1), rows=60000))


def test_missing_slices_are_counted():
    with pytest.raises(
        SeriesRefused, match=r"missing slices: 2; 1 of 4 steps differ from 5.000 mm.*15.000 mm"
    ):
        stack_slices(stack(column(0, 5, 10, 25, 30)))


def test_uneven_steps_are_refused():
    with pytest.raises(SeriesRefused, match=r"uneven slice increment; 1 of 4 steps"):
        stack_slices(stack(column(0, 5, 10, 16.5, 21.5)))


def test_duplicate_positions_are_refused():
    with pytest.raises(SeriesRefused, match="duplicate positions: 6 images at 3 positions"):
        stack_slices(stack(column(0, 5, 10, 0, 5, 10)))


def test_one_position_repeated_is_no_volume():
    with pytest.raises(SeriesRefused, match="4 images at one position"):
        stack_slices(stack(column(60, 60, 60, 60)))


def test_tilt_is_refused_with_its_angle():
    sheared = [(0.0, n * 5 * np.tan(np.radians(12)), n * 5.0) for n in range(10)]
    with pytest.raises(SeriesRefused, match=r"12.0 degrees; the header says 12.0"):
        stack_slices(stack(sheared, gantry_tilt_degrees=12.0))


def test_tilt_that_the_orientation_denies_is_refused():
    with pytest.raises(SeriesRefused, match="contradict"):
        stack_slices(stack(column(0, 5, 10), gantry_tilt_degrees=-15.0))


def test_mixed_orientation_is_refused():
    one, two = stack(column(0, 5)), stack(column(10, 15), orientation=(1, 0, 0, 0, 0, -1))
    both = Acquisition(series_instance_uid="S", part=0, instances=one.instances + two.instances)
    with pytest.raises(SeriesRefused, match="mixed orientation"):
        stack_slices(both)


def test_mixed_size_and_mixed_spacing_are_refused():
    one = stack(column(0, 5))
    for other, words in (
        (stack(column(10, 15), rows=256), "different size"),
        (stack(column(10, 15), pixel_spacing_mm=(0.81, 0.8)), "pixel spacing differs"),
    ):
        both = Acquisition(series_instance_uid="S", part=0, instances=one.instances + other.instances)
        with pytest.raises(SeriesRefused, match=words):
            stack_slices(both)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pixel_spacing_mm": (0.0, 0.0)}, "pixel spacing 0 mm"),
        ({"number_of_frames": 2}, "holds 2 frames; a CT image has one"),
    ],
)
def test_headers_of_no_ct_image_are_refused(change, words):
    with pytest.raises(SeriesRefused, match=words):
        stack_slices(stack(column(0, 5, 10), **change))


def test_one_stack_in_two_frames_of_reference_is_refused():
    whole = stack(column(0, 5, 10))
    first, *rest = whole.instances
    mixed = replace(whole, instances=(replace(first, frame_of_reference_uid="1.2"), *rest))
    with pytest.raises(SeriesRefused, match="images in 2 Frames of Reference"):
        stack_slices(mixed)


@pytest.mark.parametrize("slope", [b"-1", b"0 ", b"1\\1 ", b"one ", b"nan ", b"100000", b"1e300 "])
def test_a_rescale_slope_that_is_no_positive_number_or_beyond_any_scale_is_refused(written, tmp_path, slope):
    _, paths = written
    dataset = pydicom.dcmread(paths[2])
    dataset[0x00281053] = RawDataElement(Tag(0x00281053), "DS", len(slope), slope, 0, False, True)
    dataset.save_as(paths[2])
    with pytest.raises(SeriesRefused, match=f"{dataset.SOPInstanceUID}: rescale slope"):
        read_volume(acquisition_of(tmp_path))


def test_float_pixels_are_refused_by_what_is_missing(written, tmp_path):
    _, paths = written
    dataset = pydicom.dcmread(paths[2])
    dataset.FloatPixelData, dataset.BitsAllocated = bytes(36 * 40 * 4), 32
    del dataset.PixelData, dataset.BitsStored
    dataset.save_as(paths[2])
    with pytest.raises(SeriesRefused, match="BitsStored, PixelData missing"):
        read_volume(acquisition_of(tmp_path))


def test_values_that_are_not_hounsfield_units_are_refused():
    with pytest.raises(SeriesRefused, match="not in Hounsfield"):
        stack_slices(stack(column(0, 5), rescale_type="Z_EFF"))


def test_rounded_positions_are_no_gap():
    heights = [round(n * 0.625 * 1.3, 2) for n in range(200)]
    assert stack_slices(stack(column(*heights))).grid.spacing_mm[0] == pytest.approx(0.8125, abs=1e-3)


def enhanced_ct(volume: Volume, phases: tuple[str, ...], folder: Path) -> Dataset:
    """A multi-frame CT that holds one pass per phase at the same positions, frames interleaved."""
    dataset = pydicom.dcmread(write_series(volume, PLAN, folder)[0])
    for keyword in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "RescaleSlope",
        "RescaleIntercept",
    ):
        delattr(dataset, keyword)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = ENHANCED_CT_IMAGE_STORAGE
    shared = Dataset()
    orientation, measures = Dataset(), Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing, measures.SliceThickness = (
        list(volume.grid.spacing_mm[1:]),
        volume.grid.spacing_mm[0],
    )
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames, pixels = [], []
    for index in reversed(range(volume.grid.shape[0])):
        for number, phase in enumerate(phases):
            group, plane, content, usage, value = (Dataset() for _ in range(5))
            plane.ImagePositionPatient = [-10, -20, 30 + 5 * index]
            content.FrameAcquisitionDateTime = f"2024051712{number:02d}00"
            content.FrameAcquisitionNumber = number + 1
            usage.ContrastBolusAgentPhase = phase
            value.RescaleIntercept, value.RescaleSlope = -1024 + number, 1
            group.PlanePositionSequence, group.FrameContentSequence = [plane], [content]
            group.ContrastBolusUsageSequence, group.PixelValueTransformationSequence = [usage], [value]
            frames.append(group)
            pixels.append((volume.array[index] + 1024).astype("<u2").tobytes())
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.NumberOfFrames, dataset.PixelData = len(frames), b"".join(pixels)
    return dataset


def test_frames_of_multi_frame_ct_are_read_apart_with_their_phase(tmp_path):
    volume = made_volume()
    path = tmp_path / "enhanced.dcm"
    enhanced_ct(volume, ("ARTERIAL", "PORTAL_VENOUS"), tmp_path / "source").save_as(path)
    frames = read_frames(read_instance(path))
    assert len(frames) == 16
    parts = split_acquisitions(frames)
    assert [part.first.contrast_bolus_agent_phase for part in parts] == ["ARTERIAL", "PORTAL_VENOUS"]
    assert [len(part.instances) for part in parts] == [8, 8]
    for number, phase in enumerate(("ARTERIAL", "PORTAL_VENOUS")):
        members = tuple(frame for frame in frames if frame.contrast_bolus_agent_phase == phase)
        assert {frame.acquired_at for frame in members} == {datetime(2024, 5, 17, 12, number)}
        read = read_volume(Acquisition(series_instance_uid="S", part=number + 1, instances=members))
        assert np.array_equal(read.array, np.maximum(volume.array + number, -1024))
        assert read.grid.matches(volume.grid)
