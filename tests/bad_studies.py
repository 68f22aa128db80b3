"""Small synthetic three-phase studies without a liver, and what can be wrong with one: each fault as a change of its files."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, JPEGLSLossless

from engines.phase import ASSESSED_PHASES, Phase
from engines.volume import Grid, Volume
from node.dicom.scanner import SeriesPlan, StudyPlan, write_series
from node.study import ENHANCED_CT_IMAGE_STORAGE, Patient

INJECTED_AT = datetime(2026, 3, 2, 9, 30)
SECONDS_AFTER_INJECTION = {Phase.ARTERIAL: 32.0, Phase.PORTAL_VENOUS: 68.0, Phase.DELAYED: 180.0}
BIRTH_DATE = date(1960, 1, 15)
SLICES, SIDE, SLICE_MM, PIXEL_MM = 22, 24, 7.0, 16.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a study is made; ``spoil`` changes the files of the finished folder."""

    number: int
    phases: tuple[Phase, ...] = ASSESSED_PHASES
    patient: Patient | None = None
    spoil: Callable[[Path], None] | None = None

    @property
    def study(self) -> StudyPlan:
        """What all its series share."""
        return StudyPlan(
            seed=f"bad study {self.number}",
            study_at=INJECTED_AT - timedelta(minutes=10),
            patient=self.patient or make_patient(self.number),
            accession_number=f"BAD{self.number:04d}",
        )

    def plan(self, phase: Phase, *, late: int = 0) -> SeriesPlan:
        """The series of a phase; ``late`` numbers another reconstruction of the same pass."""
        name = phase.value.lower().replace("_", " ")
        return SeriesPlan(
            study=self.study,
            series_number=series_number(phase) + 100 * late,
            acquisition_number=series_number(phase),
            acquired_at=INJECTED_AT + timedelta(seconds=SECONDS_AFTER_INJECTION[phase]),
            series_description=f"SYNTHETIC liver {name}",
            contrast_bolus_agent="SYNTHETIC Iohexol 300",
            bolus_start_at=INJECTED_AT,
        )


def make_patient(number: int) -> Patient:
    """A synthetic patient with an identifier of his own."""
    return Patient(
        patient_id=f"BAD-{number:03d}",
        issuer_of_patient_id="MMF-SYNTHETIC",
        patient_name=f"Synthetic^Number {number}",
        patient_birth_date=BIRTH_DATE,
        patient_sex="M",
    )


def write_study(folder: Path, recipe: Recipe) -> Path:
    """Writes the phases of a recipe, spoils them and returns the folder."""
    for phase in recipe.phases:
        write_series(make_body(), recipe.plan(phase), folder)
    if recipe.spoil is not None:
        recipe.spoil(folder)
    return folder


def make_body(slices: int = SLICES, slice_mm: float = SLICE_MM, side: int = SIDE) -> Volume:
    """A wall of muscle about fat, with lungs in the upper part: a body without any organ below them."""
    pixel_mm = SIDE * PIXEL_MM / side
    half_mm = pixel_mm * (side - 1) / 2
    grid = Grid(
        shape=(slices, side, side),
        spacing_mm=(slice_mm, pixel_mm, pixel_mm),
        origin_mm=(-half_mm, -half_mm, -slices * slice_mm / 2),
    )
    z_mm, y_mm, x_mm = (
        axis * grid.spacing_mm[number] - (0 if number == 0 else half_mm)
        for number, axis in enumerate(np.indices(grid.shape))
    )
    inside = (x_mm / 150.0) ** 2 + (y_mm / 105.0) ** 2 <= 1
    wall = inside & ((x_mm / 125.0) ** 2 + (y_mm / 80.0) ** 2 > 1)
    lungs = (z_mm > 100.0) & (np.hypot(np.abs(x_mm) - 65.0, y_mm) < 45.0)
    array = np.select([lungs, wall, inside], [-850, 55, -95], -1000)
    return Volume(array=array.astype(np.int16), grid=grid)


def series_number(phase: Phase) -> int:
    """The Series Number of a phase."""
    return 3 + list(Phase).index(phase)


def files_of(folder: Path, phase: Phase) -> list[Path]:
    """The slices of a phase, lowest first."""
    return sorted(folder.glob(f"{series_number(phase):04d}-*.dcm"))


def change(paths: Iterable[Path], alter: Callable[[Dataset], None]) -> None:
    """Rewrites files after a change of their data sets."""
    for path in paths:
        dataset = pydicom.dcmread(path)
        alter(dataset)
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(path, enforce_file_format=True)


# What can be wrong, each with the arterial series unless it says otherwise


def tear_a_slice(folder: Path) -> None:
    """The file of one slice ends within its pixels."""
    path = files_of(folder, Phase.ARTERIAL)[12]
    path.write_bytes(path.read_bytes()[:-700])


def cut_a_codestream(folder: Path) -> None:
    """One slice is compressed, and its codestream ends in the middle: only a decoder can see it."""
    path = files_of(folder, Phase.ARTERIAL)[12]
    dataset = pydicom.dcmread(path)
    dataset.compress(JPEGLSLossless, generate_instance_uid=False)
    (stream,) = generate_frames(dataset.PixelData, number_of_frames=1)
    dataset.PixelData = encapsulate([stream[: len(stream) // 4 * 2]])
    dataset.save_as(path)


def drop_a_slice(folder: Path) -> None:
    """A slice in the middle is not there."""
    files_of(folder, Phase.ARTERIAL)[12].unlink()


def double_a_slice(folder: Path) -> None:
    """Two images lie at one position, and nothing tells them apart."""
    path = files_of(folder, Phase.ARTERIAL)[12]
    dataset = pydicom.dcmread(path)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"{dataset.SOPInstanceUID}9")
    dataset.save_as(path.with_name(f"{path.stem}-again.dcm"), enforce_file_format=True)


def turn_some_slices(folder: Path) -> None:
    """Three slices are turned by ten degrees about the patient's left-right axis."""
    cosine, sine = np.cos(np.radians(10)), np.sin(np.radians(10))

    def alter(dataset: Dataset) -> None:
        dataset.ImageOrientationPatient = [1, 0, 0, 0, f"{cosine:.8f}", f"{sine:.8f}"]

    change(files_of(folder, Phase.ARTERIAL)[10:13], alter)


def tilt_the_gantry(folder: Path) -> None:
    """Each slice is shifted along y as a tilt of 15 degrees does."""

    def alter(dataset: Dataset) -> None:
        x, y, z = map(float, dataset.ImagePositionPatient)
        dataset.ImagePositionPatient = [x, round(y + z * np.tan(np.radians(15)), 6), z]
        dataset.GantryDetectorTilt = "15"

    change(files_of(folder, Phase.ARTERIAL), alter)


def mix_in_another_patient(folder: Path) -> None:
    """The delayed series is another patient's, under the same Study Instance UID."""

    def alter(dataset: Dataset) -> None:
        dataset.PatientID, dataset.PatientName = "SOMEBODY-ELSE", "Else^Somebody"

    change(files_of(folder, Phase.DELAYED), alter)


def mix_in_another_birth_date(folder: Path) -> None:
    """The delayed series says another birth date and sex, under the same patient identifier."""

    def alter(dataset: Dataset) -> None:
        dataset.PatientBirthDate, dataset.PatientSex = "19710203", "F"

    change(files_of(folder, Phase.DELAYED), alter)


def send_other_content_again(folder: Path) -> None:
    """One slice is there in two versions under one SOP Instance UID."""
    path = files_of(folder, Phase.ARTERIAL)[12]
    dataset = pydicom.dcmread(path)
    dataset.PixelData = bytes(len(dataset.PixelData))
    dataset.save_as(path.with_name(f"{path.stem}-other.dcm"), enforce_file_format=True)


def move_off_the_table(folder: Path) -> None:
    """The delayed series has a Frame of Reference of its own."""

    def alter(dataset: Dataset) -> None:
        dataset.FrameOfReferenceUID = f"{dataset.FrameOfReferenceUID}7"

    change(files_of(folder, Phase.DELAYED), alter)


def make_it_magnetic(folder: Path) -> None:
    """Every image is an MR image."""

    def alter(dataset: Dataset) -> None:
        dataset.SOPClassUID, dataset.Modality = "1.2.840.10008.5.1.4.1.1.4", "MR"

    change(sorted(folder.glob("*.dcm")), alter)


def empty_the_patient_module(folder: Path) -> None:
    """No attribute of the patient has a value."""

    def alter(dataset: Dataset) -> None:
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"):
            setattr(dataset, keyword, "")
        del dataset.IssuerOfPatientID

    change(sorted(folder.glob("*.dcm")), alter)


def scan_six_hundred_slices(folder: Path) -> None:
    """The portal venous series has 600 slices of half a millimetre."""
    for path in files_of(folder, Phase.PORTAL_VENOUS):
        header = pydicom.dcmread(path)
        path.unlink()
    volume = make_body(600, 0.5)
    for index in range(600):
        image = pydicom.dcmread(files_of(folder, Phase.ARTERIAL)[0])
        for keyword in ("SeriesInstanceUID", "SeriesNumber", "AcquisitionNumber", "SeriesDescription"):
            setattr(image, keyword, getattr(header, keyword))
        for keyword in ("AcquisitionTime", "SeriesTime", "ContentTime"):
            setattr(image, keyword, getattr(header, keyword))
        x, y, z = volume.grid.origin_mm
        image.ImagePositionPatient = [x, y, z + 0.5 * index]
        image.SliceThickness, image.SpacingBetweenSlices, image.InstanceNumber = "0.5", "0.5", index + 1
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = UID(
            f"{header.SeriesInstanceUID}.{index}"[-60:].lstrip(".0")
        )
        image.save_as(folder / f"{series_number(Phase.PORTAL_VENOUS):04d}-0-{index:05d}.dcm")


def pack_frames(paths: Iterable[Path], sop_class_uid: str = ENHANCED_CT_IMAGE_STORAGE) -> Dataset:
    """Returns the slices of a series as one multi-frame object (PS3.3 A.38.1); other classes get the same content."""
    slices = [pydicom.dcmread(path) for path in paths]
    whole = pydicom.dcmread(next(iter(paths)))
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = sop_class_uid
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(whole, keyword)
    del whole.RescaleSlope, whole.RescaleIntercept
    orientation, measures, value, shared = Dataset(), Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = slices[0].ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = slices[0].PixelSpacing, slices[0].SliceThickness
    value.RescaleIntercept, value.RescaleSlope, value.RescaleType = slices[0].RescaleIntercept, "1", "HU"
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    shared.PixelValueTransformationSequence = [value]
    whole.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for one in slices:
        group, plane, content = Dataset(), Dataset(), Dataset()
        plane.ImagePositionPatient = one.ImagePositionPatient
        content.FrameAcquisitionDateTime = f"{one.AcquisitionDate}{one.AcquisitionTime}"
        content.FrameAcquisitionNumber = one.AcquisitionNumber
        group.PlanePositionSequence, group.FrameContentSequence = [plane], [content]
        groups.append(group)
    whole.PerFrameFunctionalGroupsSequence = groups
    whole.NumberOfFrames, whole.PixelData = len(slices), b"".join(one.PixelData for one in slices)
    return whole


def make_it_multi_frame(folder: Path) -> None:
    """Every series is one Enhanced CT object."""
    _replace_series(folder, ENHANCED_CT_IMAGE_STORAGE)


def make_it_screenshots(folder: Path) -> None:
    """Every series is one multi-frame secondary capture of modality CT (PS3.3 A.8.4): pictures, no images."""
    _replace_series(folder, "1.2.840.10008.5.1.4.1.1.7.3")


def _replace_series(folder: Path, sop_class_uid: str) -> None:
    for phase in ASSESSED_PHASES:
        paths = files_of(folder, phase)
        if not paths:
            continue
        whole = pack_frames(paths, sop_class_uid)
        for path in paths:
            path.unlink()
        whole.save_as(paths[0], enforce_file_format=True)
