"""A small synthetic three-phase study with masks, and the reports that could be written about it."""

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from engines.phase import ASSESSED_PHASES, Phase
from engines.plots import SurvivalCurve
from engines.volume import Grid, Volume
from node.report.record import (
    ClinicalEntry,
    Contribution,
    FeatureEntry,
    ModelEntry,
    PhaseEntry,
    ReasonCode,
    Report,
    Risk,
    Status,
    Structure,
    SurvivalPoint,
)
from node.report.sources import CohortCurve, PatientCurve, ReportSources, UsedAcquisition
from node.study import Acquisition, Instance, Patient

STUDY_UID = "1.2.826.0.1.3680043.8.498.1"
FRAME_UID = "1.2.826.0.1.3680043.8.498.2"
ANNEX_K_NAME = "Wang^XiaoDong=王^小东"
"""The example name of PS3.5 Annex K."""

SHAPE = (20, 72, 96)
SPACING_MM = (5.0, 4.0, 4.0)
SHIFT_MM = {
    Phase.ARTERIAL: (6.0, -4.0, 5.0),
    Phase.PORTAL_VENOUS: (0.0, 0.0, 0.0),
    Phase.DELAYED: (-4.0, 2.0, -5.0),
}
"""Where the patient lay in each phase relative to the portal-venous one, (x, y, z), mm."""

_CONCLUDED = datetime(2026, 3, 5, 14, 7, 9, tzinfo=UTC)


def ct_header(
    name: str = ANNEX_K_NAME, character_set: str = "ISO_IR 192", *, patient: bool = True
) -> Dataset:
    """Patient and study attributes of the synthetic study."""
    header = Dataset()
    header.SpecificCharacterSet = character_set
    if patient:
        header.PatientName = name
        header.PatientID = "SYN-0001"
        header.IssuerOfPatientID = "TEST"
        header.PatientBirthDate = "19580214"
        header.PatientSex = "M"
    header.StudyInstanceUID = STUDY_UID
    header.StudyDate = "20260301"
    header.StudyTime = "101500"
    header.StudyID = "1"
    header.AccessionNumber = "A-17"
    header.ReferringPhysicianName = "Doe^Jane"
    header.StudyDescription = "CT LIVER 3 PHASES (SYNTHETIC)"
    return header


def native_grid(phase: Phase) -> Grid:
    """The grid of a phase: the same shape, another table position."""
    x, y, z = SHIFT_MM[phase]
    return Grid(shape=SHAPE, spacing_mm=SPACING_MM, origin_mm=(-190.0 + x / 2, -140.0 + y / 2, 100.0 + z))


def solid(
    grid: Grid, phase: Phase, centre_mm: tuple[float, float, float], radii_mm: tuple[float, float, float]
):
    """Mask of an ellipsoid given in portal-venous coordinates as it lies in ``phase``."""
    z, y, x = np.indices(grid.shape).astype(np.float64)
    shift = SHIFT_MM[phase]
    total = np.zeros(grid.shape)
    for axis, index in enumerate((x, y, z)):
        points = grid.origin_mm[axis] + index * grid.spacing_mm[2 - axis]
        total += ((points - centre_mm[axis] - shift[axis]) / radii_mm[axis]) ** 2
    return total <= 1.0


LIVER = ((-60.0, 0.0, 150.0), (90.0, 75.0, 42.0))
LESIONS = (((-85.0, 10.0, 145.0), (30.0, 30.0, 20.0)), ((-20.0, -15.0, 160.0), (14.0, 14.0, 12.0)))
_HU = {
    Phase.ARTERIAL: (60.0, 70.0, 115.0),
    Phase.PORTAL_VENOUS: (60.0, 112.0, 92.0),
    Phase.DELAYED: (55.0, 95.0, 72.0),
}


def make_volume(phase: Phase) -> Volume:
    """Body, liver and two lesions with noise, int16 HU."""
    grid = native_grid(phase)
    soft, liver_hu, lesion_hu = _HU[phase]
    rng = np.random.default_rng(7)
    array = np.full(grid.shape, -1000.0)
    array[solid(grid, phase, (0.0, 0.0, 150.0), (175.0, 125.0, 400.0))] = soft
    array[solid(grid, phase, *LIVER)] = liver_hu
    array[solid(grid, phase, (0.0, 25.0, 150.0), (11.0, 11.0, 400.0))] = lesion_hu + 90
    for lesion in LESIONS:
        array[solid(grid, phase, *lesion)] = lesion_hu
    array += rng.normal(0.0, 6.0, grid.shape)
    return Volume(array=array.astype(np.int16), grid=grid)


def write_series(folder: Path, phase: Phase, number: int, volume: Volume, header: Dataset) -> Acquisition:
    """Writes the volume as CT slices and returns their records."""
    instances: list[Instance] = []
    series_uid = f"{STUDY_UID}.{number}"
    for index in range(volume.grid.shape[0]):
        dataset = Dataset()
        dataset.update(header)
        dataset.SOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = f"{series_uid}.{index + 1}"
        dataset.SeriesInstanceUID = series_uid
        dataset.SeriesNumber, dataset.InstanceNumber = number, index + 1
        dataset.Modality, dataset.SeriesDescription = "CT", f"{phase.value} 5 mm"
        dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = FRAME_UID, ""
        z_mm = volume.grid.origin_mm[2] + index * volume.grid.spacing_mm[0]
        position = (*volume.grid.origin_mm[:2], z_mm)
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = list(position), [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness = (
            list(volume.grid.spacing_mm[1:]),
            volume.grid.spacing_mm[0],
        )
        dataset.ImageType, dataset.KVP, dataset.AcquisitionNumber = (
            ["ORIGINAL", "PRIMARY", "AXIAL"],
            "120",
            number,
        )
        dataset.ContentDate, dataset.ContentTime = "20260301", "101500"
        dataset.Manufacturer, dataset.ManufacturerModelName = "Synthetic", "Phantom CT"
        dataset.Rows, dataset.Columns = volume.grid.shape[1:]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = (
            16,
            16,
            15,
            1,
        )
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, 0, "HU"
        dataset.PixelData = volume.array[index].astype("<i2").tobytes()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        path = folder / f"{phase.value}-{index:03d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        instances.append(_record(dataset, path, position))
    return Acquisition(series_instance_uid=series_uid, part=0, instances=tuple(instances))


def _record(dataset: Dataset, path: Path, position: tuple[float, float, float]) -> Instance:
    return Instance(
        path=path,
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        study_instance_uid=STUDY_UID,
        series_instance_uid=str(dataset.SeriesInstanceUID),
        transfer_syntax_uid=str(ExplicitVRLittleEndian),
        modality="CT",
        series_number=int(dataset.SeriesNumber),
        instance_number=int(dataset.InstanceNumber),
        series_description=dataset.SeriesDescription,
        study_description=dataset.StudyDescription,
        manufacturer="Synthetic",
        manufacturer_model_name="Phantom CT",
        convolution_kernel=("B30f",),
        kvp=120.0,
        frame_of_reference_uid=FRAME_UID,
        position_mm=position,
        orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        pixel_spacing_mm=(4.0, 4.0),
        slice_thickness_mm=5.0,
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        patient=Patient(
            patient_id=str(dataset.get("PatientID", "")),
            patient_name=str(dataset.get("PatientName", "")),
            patient_birth_date=date(1958, 2, 14),
            patient_sex=str(dataset.get("PatientSex", "")),
        ),
    )


def make_instance(folder: Path, header: Dataset) -> Instance:
    """One slice of the portal-venous phase on disk: enough for a study without a risk."""
    whole = make_volume(Phase.PORTAL_VENOUS)
    slice_grid = replace(whole.grid, shape=(1, *whole.grid.shape[1:]))
    volume = Volume(array=whole.array[:1], grid=slice_grid)
    return write_series(folder, Phase.PORTAL_VENOUS, 3, volume, header).first


def make_sources(folder: Path, header: Dataset | None = None) -> ReportSources:
    """Three phases on disk, with masks on the portal-venous grid and the translations between the phases."""
    header = ct_header() if header is None else header
    used: list[UsedAcquisition] = []
    for number, phase in enumerate(ASSESSED_PHASES, start=2):
        volume = make_volume(phase)
        x, y, z = SHIFT_MM[phase]
        used.append(
            UsedAcquisition(
                phase=phase,
                acquisition=write_series(folder, phase, number, volume, header),
                volume=volume,
                to_reference=None
                if phase == Phase.PORTAL_VENOUS
                else sitk.TranslationTransform(3, (-x, -y, -z)),
            )
        )
    grid = native_grid(Phase.PORTAL_VENOUS)
    lesions = np.zeros(grid.shape, np.uint8)
    for label, lesion in enumerate(LESIONS, start=1):
        lesions[solid(grid, Phase.PORTAL_VENOUS, *lesion)] = label
    return ReportSources(
        instance=used[1].acquisition.first,
        used=tuple(used),
        liver=Volume(array=solid(grid, Phase.PORTAL_VENOUS, *LIVER), grid=grid),
        lesions=Volume(array=lesions, grid=grid),
        cohort_curves=tuple(
            CohortCurve(endpoint=endpoint, group=group, curve=_exponential(rate, months, bounds=False))
            for endpoint, months, rates in (("OS", 48.0, (0.018, 0.055)), ("PFS", 24.0, (0.06, 0.16)))
            for group, rate in zip(("low", "high"), rates, strict=True)
        ),
        patient_curves=(
            PatientCurve(endpoint="OS", curve=_exponential(0.034, 48.0, bounds=True)),
            PatientCurve(endpoint="PFS", curve=_exponential(0.11, 24.0, bounds=True)),
        ),
    )


def _exponential(rate: float, until_months: float, *, bounds: bool) -> SurvivalCurve:
    months = np.linspace(0.0, until_months, 97)
    return SurvivalCurve(
        months=months,
        probability=np.exp(-rate * months),
        low=np.exp(-rate * 1.25 * months) if bounds else None,
        high=np.exp(-rate * 0.8 * months) if bounds else None,
    )


_EVIDENCE = (
    (Phase.ARTERIAL, 32.0, 0.98, ("aorta 312 HU, portal vein 121 HU", "first pass after the bolus")),
    (Phase.PORTAL_VENOUS, 70.0, 0.97, ("portal vein 171 HU, liver 112 HU", "38 s after the arterial pass")),
    (
        Phase.DELAYED,
        None,
        0.94,
        ("aorta 108 HU near portal vein 104 HU", "110 s after the portal venous pass"),
    ),
)


def _phases() -> tuple[PhaseEntry, ...]:
    used = [
        PhaseEntry(
            phase=phase,
            series_instance_uid=f"{STUDY_UID}.{number}",
            part=0,
            series_number=number,
            series_description=f"{phase.value} 5 mm",
            slices=SHAPE[0],
            seconds_after_injection=seconds,
            probability=probability,
            used=True,
            reasons=reasons,
        )
        for number, (phase, seconds, probability, reasons) in enumerate(_EVIDENCE, start=2)
    ]
    bone = PhaseEntry(
        phase=None,
        series_instance_uid=f"{STUDY_UID}.5",
        part=0,
        series_number=5,
        series_description="VENOUS BONE 1.25",
        slices=80,
        seconds_after_injection=None,
        probability=None,
        used=False,
        reasons=("not used: bone kernel; another reconstruction of series 3",),
    )
    return (*used, bone)


def make_report(*, demonstration: bool = True) -> Report:
    """An assessed report about the study of ``make_sources``."""
    contributions = (
        Contribution(name="Ensemble-DL", value="0.41", log_hazard=0.31),
        Contribution(name="Radiomic score", value="0.1871", log_hazard=0.09),
        Contribution(name="AFP", value="> 400 ng/mL", log_hazard=0.27),
        Contribution(name="PVTT", value="present", log_hazard=0.22),
        Contribution(name="Age", value="> 50 years", log_hazard=-0.06),
        Contribution(name="BCLC stage", value="C", log_hazard=0.0),
        Contribution(name="Child-Pugh class", value="A", log_hazard=0.0),
        Contribution(name="Up-to-seven", value="> 7", log_hazard=0.19),
        Contribution(name="Largest diameter", value="> 5 cm", log_hazard=0.12),
        Contribution(name="ECOG", value="0", log_hazard=0.0),
        Contribution(name="Lung metastasis", value="absent", log_hazard=0.0),
        Contribution(name="Line of immunotherapy", value="1", log_hazard=-0.11),
    )
    return Report(
        study_instance_uid=STUDY_UID,
        status=Status.ASSESSED,
        concluded_at=_CONCLUDED,
        phases=_phases(),
        structures=(
            Structure(name="liver", volume_ml=1183.36, longest_diameter_mm=None, provider="baseline 1"),
            Structure(name="tumour", volume_ml=84.56, longest_diameter_mm=60.3, provider="baseline 1"),
            Structure(
                name="lesion 1", volume_ml=75.2, longest_diameter_mm=60.3, provider="baseline 1", label=1
            ),
            Structure(
                name="lesion 2", volume_ml=9.36, longest_diameter_mm=27.9, provider="baseline 1", label=2
            ),
        ),
        risks=(
            Risk(
                endpoint="OS",
                model="MMF",
                log_hazard=0.6412345678901234,
                low=0.31,
                high=0.97,
                group="high",
                cutoff=0.12,
                percentile=78.2,
                survival=tuple(
                    SurvivalPoint(months=m, probability=p, low=low, high=high)
                    for m, p, low, high in (
                        (6.0, 0.815, 0.774, 0.849),
                        (12.0, 0.665, 0.600, 0.721),
                        (24.0, 0.442, 0.361, 0.520),
                        (36.0, 0.294, 0.217, 0.375),
                    )
                ),
                contributions=contributions,
                network_scores=(("Network 1", 0.42), ("Network 2", 0.11), ("Network 3", 0.55)),
                radiomic_features=tuple(
                    FeatureEntry(region=region, phase=phase, feature=feature, value=value)
                    for region, phase, feature, value in (
                        ("liver", Phase.ARTERIAL, "original_glrlm_GrayLevelNonUniformity", 28194.60731529),
                        ("liver", Phase.PORTAL_VENOUS, "original_firstorder_InterquartileRange", 24.5),
                        ("tumour", None, "original_shape_MeshVolume", 75187.33333333333),
                        ("tumour", Phase.DELAYED, "original_firstorder_Kurtosis", 3.4118),
                        ("tumour", Phase.DELAYED, "original_glcm_Imc1", -0.0726117),
                    )
                ),
            ),
            Risk(
                endpoint="PFS",
                model="Ensemble-DL",
                log_hazard=-0.21,
                low=-0.44,
                high=0.02,
                group="low",
                cutoff=0.05,
                percentile=41.0,
                survival=tuple(
                    SurvivalPoint(months=m, probability=p, low=low, high=high)
                    for m, p, low, high in (
                        (3.0, 0.719, 0.662, 0.768),
                        (6.0, 0.517, 0.438, 0.590),
                        (12.0, 0.267, 0.192, 0.348),
                    )
                ),
                contributions=contributions[:1],
                network_scores=(("Network 1", -0.2), ("Network 2", 0.1), ("Network 3", -0.3)),
            ),
        ),
        models=(
            ModelEntry(
                name="mmf",
                version="1",
                sha256="ab" * 32,
                demonstration=demonstration,
                trained_on="96 synthetic phantoms" if demonstration else "520 patients, two hospitals",
                c_index="OS 0.71 (0.62-0.79), PFS 0.66 (0.58-0.74) on 40 phantoms",
            ),
        ),
        clinical=(
            ClinicalEntry(name="AFP", value="812", unit="ng/mL"),
            ClinicalEntry(name="Child-Pugh class", value="A", unit=""),
            ClinicalEntry(name="Line of immunotherapy", value=None, unit=""),
        ),
        missing=("PFS: line of immunotherapy; MMF was not computed",),
        flags=("largest diameter 5.2 cm in the table, 6.0 cm in the mask",),
        registration=(("ARTERIAL liver overlap (Dice)", 0.961), ("DELAYED liver overlap (Dice)", 0.948)),
        software_version="0.1.0",
        synthetic=True,
        seconds_per_step=(("segment", 4.25),),
    )


def make_failure() -> Report:
    """A report that no risk can be given."""
    return replace(
        make_report(),
        status=Status.NOT_ASSESSABLE,
        reason_code=ReasonCode.MISSING_PHASE,
        reason="the study holds no delayed phase: of 4 CT series 1 is arterial, 1 portal venous, 2 are not contrast phases",
        structures=(),
        risks=(),
        models=(),
        missing=("DELAYED",),
        flags=(),
        registration=(),
    )
