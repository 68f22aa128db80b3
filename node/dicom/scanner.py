"""The synthetic scanner: writes volumes as valid CT series, with a scout and a dose report beside them.

Every object says in its descriptions and its equipment that it is synthetic. The demo and the tests send these objects;
nothing here is part of assessing a study.
"""

import uuid
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from engines.volume import Volume
from node.study import CT_IMAGE_STORAGE, Patient

XRAY_RADIATION_DOSE_SR_STORAGE = "1.2.840.10008.5.1.4.1.1.88.67"
"""Source: PS3.4 B.5."""
IMPLEMENTATION_CLASS_UID = "2.25.274218305107862531463297108463597181402"
"""Of the writer of these files: a UUID drawn once (PS3.5 B.2)."""
MANUFACTURER = "Synthetic scanner (no patient)"
STORED_OFFSET_HU = 1024
"""Stored value 0 is -1024 HU, the usual intercept."""
SECONDS_PER_SLICE = 0.05
"""Content time advances by this from slice to slice, as reconstruction does (OURS)."""

_NAMESPACE = uuid.UUID("5d0f0a5e-6f4e-4f0b-8d6c-0a4c8e2f9b11")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """What all series of one synthetic examination share.

    Attributes:
        seed: every UID of the study is derived from it: the same seed makes the same UIDs.
        study_at: Study Date and Time, the scanner's clock.
        specific_character_set: ISO_IR 192 (UTF-8) or GB18030, GBK ... (PS3.3 C.12.1.1.2).
        patient: of whom the name may have three component groups (``Wang^XiaoDong=王^小东``).
    """

    seed: str
    study_at: datetime
    patient: Patient = field(
        default_factory=lambda: Patient(
            patient_id="SYNTHETIC-1",
            issuer_of_patient_id="MMF-SYNTHETIC",
            patient_name="Synthetic^Phantom",
            patient_birth_date=date(1960, 1, 1),
            patient_sex="M",
        )
    )
    study_description: str = "SYNTHETIC liver triphasic"
    accession_number: str = "SYN0001"
    specific_character_set: str = "ISO_IR 192"

    @property
    def study_instance_uid(self) -> str:
        """The Study Instance UID of the seed."""
        return make_uid(self.seed, "study")

    @property
    def frame_of_reference_uid(self) -> str:
        """The Frame of Reference UID that all series share."""
        return make_uid(self.seed, "frame of reference")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesPlan:
    """The attributes of one series, or of one pass written into a series.

    Attributes:
        acquired_at: Acquisition Date and Time; None leaves them out, as de-identified archives do.
        bolus_start_at: Contrast/Bolus Start Time; None leaves it out.
        part: several plans of one series number and different parts share the Series Instance UID.
        first_instance_number: Instance Number of the lowest slice.
        reconstructed_after_seconds: Series and Content Time come this much after the acquisition.
        slice_thickness_mm: None is the distance of the slices.
    """

    study: StudyPlan
    series_number: int
    acquired_at: datetime | None
    series_description: str = "SYNTHETIC"
    protocol_name: str = "SYNTHETIC liver triphasic"
    part: int = 0
    first_instance_number: int = 1
    acquisition_number: int | None = 1
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "AXIAL")
    convolution_kernel: str = "STANDARD"
    contrast_bolus_agent: str = ""
    bolus_start_at: datetime | None = None
    reconstructed_after_seconds: float = 20.0
    slice_thickness_mm: float | None = None
    patient_position: str = "HFS"
    body_part_examined: str = "ABDOMEN"

    @property
    def series_instance_uid(self) -> str:
        """The Series Instance UID of the study's seed and the series number."""
        return make_uid(self.study.seed, "series", str(self.series_number))


def make_uid(*words: str) -> str:
    """Returns the UID of a list of words: always the same for the same words.

    Source: PS3.5 B.2 (UUID derived UIDs, root 2.25).
    """
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(0).join(words)).int}"


def write_series(volume: Volume, plan: SeriesPlan, folder: Path) -> tuple[Path, ...]:
    """Writes a volume as CT Image Storage, one file a slice in explicit VR little endian; returns the paths.

    Args:
        volume: Hounsfield units on any grid; values below -1024 become -1024.
        plan: attributes of the series.
        folder: made when missing; file names hold series number, part and slice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = np.clip(np.rint(volume.array) + STORED_OFFSET_HU, 0, 65535).astype(np.uint16)
    affine = volume.grid.affine()
    paths = []
    for index, image in enumerate(stored):
        dataset = _image_dataset(plan, index)
        dataset.ImagePositionPatient = _decimals(affine[:3, 3] + index * affine[:3, 0])
        dataset.ImageOrientationPatient = _decimals(
            np.concatenate([volume.grid.axes[2], volume.grid.axes[1]])
        )
        dataset.PixelSpacing = _decimals(np.array(volume.grid.spacing_mm[1:]))
        dataset.SliceThickness = _decimals(np.array([plan.slice_thickness_mm or volume.grid.spacing_mm[0]]))[
            0
        ]
        dataset.SpacingBetweenSlices = _decimals(np.array([volume.grid.spacing_mm[0]]))[0]
        _add_pixels(dataset, image)
        path = folder / f"{plan.series_number:04d}-{plan.part}-{index + 1:05d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return tuple(paths)


def write_scout(volume: Volume, plan: SeriesPlan, folder: Path) -> Path:
    """Writes a frontal scout (Image Type LOCALIZER) of the volume: its mean along the y axis; returns the path.

    Args:
        volume: the phantom that is scanned.
        plan: of the scout's own series; the image type is replaced.
        folder: made when missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    grid = volume.grid
    dataset = _image_dataset(plan, 0)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    top = grid.affine() @ np.array([grid.shape[0] - 1, grid.shape[1] // 2, 0, 1])
    dataset.ImagePositionPatient = _decimals(top[:3])
    dataset.ImageOrientationPatient = _decimals(np.concatenate([grid.axes[2], -np.array(grid.axes[0])]))
    dataset.PixelSpacing = _decimals(np.array([grid.spacing_mm[0], grid.spacing_mm[2]]))
    dataset.SliceThickness = "1"
    image = np.clip(volume.array.mean(axis=1)[::-1] + STORED_OFFSET_HU, 0, 65535).astype(np.uint16)
    _add_pixels(dataset, image)
    del dataset.RescaleType  # a scout is not calibrated in Hounsfield units
    path = folder / f"{plan.series_number:04d}-scout.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_dose_report(plan: SeriesPlan, folder: Path, *, dlp_mgy_cm: float = 1000.0) -> Path:
    """Writes an X-Ray Radiation Dose SR with the accumulated dose of the examination; returns the path.

    Args:
        plan: of the report's own series.
        folder: made when missing.
        dlp_mgy_cm: CT dose length product total, mGy cm.

    Source: PS3.16 TID 10011 (CT Radiation Dose), TID 10012 (CT Accumulated Dose Data).
    """
    folder.mkdir(parents=True, exist_ok=True)
    dataset = _common_dataset(plan, XRAY_RADIATION_DOSE_SR_STORAGE, "dose report")
    dataset.Modality = "SR"
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    dataset.InstanceNumber = 1
    dataset.CompletionFlag, dataset.VerificationFlag = "COMPLETE", "UNVERIFIED"
    dataset.ValueType, dataset.ContinuityOfContent = "CONTAINER", "SEPARATE"
    dataset.ConceptNameCodeSequence = [_code("113701", "DCM", "X-Ray Radiation Dose Report")]
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "10011"
    dataset.ContentTemplateSequence = [template]
    procedure = _content(
        "HAS CONCEPT MOD",
        "CODE",
        _code("121058", "DCM", "Procedure reported"),
        ConceptCodeSequence=[_code("77477000", "SCT", "Computed Tomography X-Ray")],
    )
    procedure.ContentSequence = [
        _content(
            "HAS CONCEPT MOD",
            "CODE",
            _code("363703001", "SCT", "Has Intent"),
            ConceptCodeSequence=[_code("261004008", "SCT", "Diagnostic Intent")],
        )
    ]
    events = _content(
        "CONTAINS",
        "NUM",
        _code("113812", "DCM", "Total Number of Irradiation Events"),
        MeasuredValueSequence=[_measured("4", _code("{events}", "UCUM", "events"))],
    )
    product = _content(
        "CONTAINS",
        "NUM",
        _code("113813", "DCM", "CT Dose Length Product Total"),
        MeasuredValueSequence=[_measured(f"{dlp_mgy_cm:g}", _code("mGy.cm", "UCUM", "mGy.cm"))],
    )
    accumulated = _content(
        "CONTAINS",
        "CONTAINER",
        _code("113811", "DCM", "CT Accumulated Dose Data"),
        ContinuityOfContent="SEPARATE",
    )
    accumulated.ContentSequence = [events, product]
    source = _content(
        "CONTAINS",
        "CODE",
        _code("113854", "DCM", "Source of Dose Information"),
        ConceptCodeSequence=[_code("113856", "DCM", "Automated Data Collection")],
    )
    dataset.ContentSequence = [procedure, accumulated, source]
    path = folder / f"{plan.series_number:04d}-dose.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def _image_dataset(plan: SeriesPlan, index: int) -> Dataset:
    """Returns a CT image without plane and pixels (PS3.3 A.3)."""
    dataset = _common_dataset(plan, CT_IMAGE_STORAGE, str(index))
    dataset.Modality = "CT"
    dataset.ImageType = list(plan.image_type)
    dataset.InstanceNumber = plan.first_instance_number + index
    dataset.AcquisitionNumber = plan.acquisition_number
    dataset.PatientPosition = plan.patient_position
    dataset.BodyPartExamined = plan.body_part_examined
    dataset.FrameOfReferenceUID = plan.study.frame_of_reference_uid
    dataset.PositionReferenceIndicator = ""
    dataset.KVP = "120"
    dataset.ConvolutionKernel = plan.convolution_kernel
    dataset.PatientOrientation = ""
    if plan.acquired_at is not None:
        dataset.AcquisitionDate, dataset.AcquisitionTime = _stamp(plan.acquired_at)
        reconstructed = plan.reconstructed_after_seconds + index * SECONDS_PER_SLICE
        dataset.ContentDate, dataset.ContentTime = _stamp(plan.acquired_at + timedelta(seconds=reconstructed))
    if plan.contrast_bolus_agent or plan.bolus_start_at is not None:
        dataset.ContrastBolusAgent = plan.contrast_bolus_agent
    if plan.bolus_start_at is not None:
        dataset.ContrastBolusStartTime = _stamp(plan.bolus_start_at)[1]
    return dataset


def _common_dataset(plan: SeriesPlan, sop_class_uid: str, name: str) -> Dataset:
    """Returns patient, study, series, equipment and SOP common attributes, with the file meta information."""
    study = plan.study
    dataset = Dataset()
    dataset.SpecificCharacterSet = study.specific_character_set
    dataset.SOPClassUID = sop_class_uid
    dataset.SOPInstanceUID = make_uid(study.seed, str(plan.series_number), str(plan.part), name)
    dataset.StudyInstanceUID = study.study_instance_uid
    dataset.SeriesInstanceUID = plan.series_instance_uid
    dataset.StudyDate, dataset.StudyTime = _stamp(study.study_at)
    made = (plan.acquired_at or study.study_at) + timedelta(seconds=plan.reconstructed_after_seconds)
    dataset.ContentDate, dataset.ContentTime = _stamp(made)
    if plan.acquired_at is not None:
        dataset.SeriesDate, dataset.SeriesTime = _stamp(made)
    dataset.AccessionNumber = study.accession_number
    dataset.ReferringPhysicianName = ""
    dataset.StudyID = study.accession_number[:16]
    dataset.StudyDescription = study.study_description
    dataset.SeriesDescription = plan.series_description
    dataset.ProtocolName = plan.protocol_name
    dataset.SeriesNumber = plan.series_number
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = "Synthetic CT"
    dataset.DeviceSerialNumber = "0"
    dataset.SoftwareVersions = "1"
    dataset.PatientName = study.patient.patient_name
    dataset.PatientID = study.patient.patient_id
    if study.patient.issuer_of_patient_id:
        dataset.IssuerOfPatientID = study.patient.issuer_of_patient_id
    birth = study.patient.patient_birth_date
    dataset.PatientBirthDate = birth.strftime("%Y%m%d") if birth is not None else ""
    dataset.PatientSex = study.patient.patient_sex
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = "MMF_SYNTHETIC"
    dataset.file_meta = meta
    return dataset


def _add_pixels(dataset: Dataset, image: npt.NDArray[np.uint16]) -> None:
    """Adds the image pixel and rescale attributes (PS3.3 C.7.6.3, C.8.2.1)."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = image.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.WindowCenter, dataset.WindowWidth = "60", "400"
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = str(-STORED_OFFSET_HU), "1", "HU"
    dataset.PixelData = image.astype("<u2").tobytes()


def _content(relationship: str, value_type: str, name: Dataset, **values: object) -> Dataset:
    """Returns one SR content item."""
    item = Dataset()
    item.RelationshipType, item.ValueType, item.ConceptNameCodeSequence = relationship, value_type, [name]
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    """Returns one coded entry (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _measured(value: str, unit: Dataset) -> Dataset:
    """Returns one measured value item."""
    item = Dataset()
    item.NumericValue, item.MeasurementUnitsCodeSequence = value, [unit]
    return item


def _stamp(moment: datetime) -> tuple[str, str]:
    """Returns a moment as DA and TM."""
    return moment.strftime("%Y%m%d"), moment.strftime("%H%M%S.%f")


def _decimals(numbers: npt.NDArray[np.float64]) -> list[str]:
    """Returns numbers as decimal strings of at most 16 characters (PS3.5 Table 6.2-1)."""
    return [f"{number + 0.0:.10g}"[:16] for number in numbers.tolist()]
