"""What was received, as plain records: an instance, a series, an acquisition (one pass of one series), a study."""

from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

from engines.phase import Phase

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
"""Source: PS3.4 B.5."""
ENHANCED_CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2.1"
LEGACY_CONVERTED_ENHANCED_CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2.2"
MULTI_FRAME_CT = frozenset({ENHANCED_CT_IMAGE_STORAGE, LEGACY_CONVERTED_ENHANCED_CT_IMAGE_STORAGE})
CT_STORAGE = MULTI_FRAME_CT | {CT_IMAGE_STORAGE}

PAUSE = "pause between AcquisitionTimes"
"""What parts ranges beside each other of which one was scanned long after the other."""

PASS_ATTRIBUTES = frozenset(
    {
        "AcquisitionNumber",
        "ContrastBolusAgentPhase",
        "TemporalPositionIdentifier",
        "AcquisitionTime",
        "ContentTime",
        "image order",
        PAUSE,
    }
)
"""Attributes that part passes of the scanner; kernel, thickness and the like part reconstructions of one pass."""

PRODUCT_NAME = "mmf-node"
"""Manufacturer's Model Name in the Contributing Equipment of every object this product makes; read back to know our own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """The patient module as it came (PS3.3 C.7.1.1). Absent values are empty strings or None; names never reach a log."""

    patient_id: str = ""
    issuer_of_patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: date | None = None
    patient_sex: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """The header of one stored DICOM instance: what grouping, phases and volumes need, decoded once.

    Attributes:
        path: where the encoded instance lies.
        position_mm: Image Position (Patient), (x, y, z) LPS, mm.
        orientation: Image Orientation (Patient), row then column cosines.
        pixel_spacing_mm: (row spacing, column spacing), mm.
        frame_number: 0 for a single-frame image or a whole object; 1, 2, ... for one frame of a multi-frame CT.
        contrast_bolus_agent_phase: (0018,9344), which only multi-frame CT carries ("" elsewhere); PS3.3 C.7.6.16.2.12.
        irradiation_event_uid: (0008,3010): reconstructions of one pass share it; "" when absent.
        lossy: the pixels were compressed with loss at some time: (0028,2110), or the transfer syntax knows no other way.
        rescale_type: (0028,1054), e.g. ``HU``; spectral maps name other units here.
        acquired_at: Acquisition DateTime, or Acquisition Date + Time, without time zone (scanner's clock).
        content_at: Content Date + Time.
        bolus_start_at: Contrast/Bolus Start Time (0018,1042) on the acquisition's date.
        ours: carries this product's Contributing Equipment: a result of ours that came back.
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str = ""
    modality: str = ""
    image_type: tuple[str, ...] = ()
    series_number: int | None = None
    instance_number: int | None = None
    acquisition_number: int | None = None
    temporal_position_identifier: int | None = None
    series_description: str = ""
    study_description: str = ""
    protocol_name: str = ""
    performed_procedure_step_description: str = ""
    contrast_bolus_agent: str = ""
    contrast_bolus_agent_phase: str = ""
    convolution_kernel: tuple[str, ...] = ()
    manufacturer: str = ""
    manufacturer_model_name: str = ""
    body_part_examined: str = ""
    patient_position: str = ""
    frame_of_reference_uid: str = ""
    position_mm: tuple[float, float, float] | None = None
    orientation: tuple[float, float, float, float, float, float] | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    slice_thickness_mm: float | None = None
    kvp: float | None = None
    gantry_tilt_degrees: float | None = None
    rows: int = 0
    columns: int = 0
    number_of_frames: int = 1
    frame_number: int = 0
    irradiation_event_uid: str = ""
    lossy: bool = False
    rescale_type: str = ""
    burned_in_annotation: str = ""
    acquired_at: datetime | None = None
    content_at: datetime | None = None
    series_at: datetime | None = None
    study_at: datetime | None = None
    bolus_start_at: datetime | None = None
    accession_number: str = ""
    patient: Patient = field(default_factory=Patient)
    ours: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquisition:
    """One pass of the scanner as one reconstruction: a series, or a part of a series that holds several passes.

    Attributes:
        part: 0 when the series was not split, else 1, 2, ... in order of acquisition.
        instances: at least one, sorted along the slice normal.
        split_by: the attributes that separated the parts, joined by " and " ("" when not split).
        refused: why these images are no regular stack of slices ("" when they are one); then they are never used.
    """

    series_instance_uid: str
    part: int
    instances: tuple[Instance, ...]
    split_by: str = ""
    refused: str = ""

    @property
    def first(self) -> Instance:
        """The first instance, whose series-level attributes speak for all."""
        return self.instances[0]

    @property
    def split_attributes(self) -> frozenset[str]:
        """The attributes that separated the parts."""
        return frozenset(self.split_by.split(" and ")) - {""}

    @property
    def parts_are_passes(self) -> bool:
        """Whether the series was split into passes, not into reconstructions of one pass alone."""
        return not PASS_ATTRIBUTES.isdisjoint(self.split_attributes)

    @property
    def pass_of_series(self) -> tuple[object, ...]:
        """What names this part's pass among the parts of its series; equal where acquisition times alone can tell."""
        if not self.parts_are_passes:
            return ()
        if not self.split_attributes.isdisjoint({"ContentTime", "image order"}):
            return (self.part,)
        first = self.first
        return (
            first.acquisition_number,
            first.contrast_bolus_agent_phase,
            first.temporal_position_identifier,
        )

    @property
    def label(self) -> str:
        """``SERIES_UID`` or ``SERIES_UID:PART``, as the command line takes it."""
        return f"{self.series_instance_uid}:{self.part}" if self.part else self.series_instance_uid


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseFinding:
    """What was decided about one acquisition, with the evidence in words.

    Attributes:
        phase: None = not determined, or not a phase at all (then ``excluded`` says why).
        probability: of ``phase``, 0 to 1, calibrated; None where no phase was considered.
        used: this acquisition goes into the assessment.
        excluded: why it is not a candidate, or not used; None when used.
        seconds_after_injection: acquisition time less bolus start, s; None when not known.
        hounsfield: median HU by structure (``aorta``, ``portal_vein``, ...) where pixels were measured.
    """

    acquisition: Acquisition
    phase: Phase | None
    probability: float | None
    used: bool
    excluded: str | None
    reasons: tuple[str, ...]
    seconds_after_injection: float | None = None
    hounsfield: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """All instances received for one Study Instance UID, of one patient.

    Attributes:
        unreadable: why files beside them could not be read; images may be missing from the study.
    """

    study_instance_uid: str
    instances: tuple[Instance, ...]
    unreadable: tuple[str, ...] = ()

    @property
    def patient(self) -> Patient:
        """The patient of the first CT instance (several patients in one study are refused before this)."""
        for instance in self.instances:
            if instance.modality == "CT":
                return instance.patient
        return self.instances[0].patient
