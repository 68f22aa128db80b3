"""Reads the headers of stored DICOM instances into records, stopping before the pixels.

Values are decoded here from their encoded bytes, so that odd but harmless number formats (``008.000000E+00``) are read
and only the attributes this node needs cost time. What cannot be read is refused with the file and the fault.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Literal

import structlog
from pydicom import dcmread
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.valuerep import PersonName

from node.dicom.values import drop_designations, parse_date, parse_datetime, parse_numbers, parse_time
from node.errors import InstanceRefused
from node.study import MULTI_FRAME_CT, PRODUCT_NAME, Instance, Patient

log = structlog.get_logger(__name__)

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
"""Source: PS3.4 I.4."""
DEFLATED_EXPLICIT_VR = b"1.2.840.10008.1.2.1.99"
"""Refused: reading it would inflate the whole data set without a limit (PS3.5 A.5)."""
ALWAYS_LOSSY = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"})
"""JPEG Baseline and Extended. Source: PS3.5 A.4.1."""
MAX_FRAMES = 20_000
"""More frames than any CT object holds; a larger claim is refused before anything is built for it (OURS)."""

READ_FAULTS = (
    InvalidDicomError,
    BytesLengthException,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    NotImplementedError,
    AssertionError,
    OverflowError,
    RecursionError,
    struct.error,
)
"""What pydicom raises on a malformed file (found by truncating and corrupting real ones)."""

_TEXT = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "SeriesDescription",
    "StudyDescription",
    "ProtocolName",
    "PerformedProcedureStepDescription",
    "ContrastBolusAgent",
    "Manufacturer",
    "ManufacturerModelName",
    "BodyPartExamined",
    "PatientPosition",
    "FrameOfReferenceUID",
    "BurnedInAnnotation",
    "AccessionNumber",
    "RescaleType",
    "LossyImageCompression",
    "PatientID",
    "IssuerOfPatientID",
    "PatientSex",
    "IrradiationEventUID",
    "ImageType",
    "ConvolutionKernel",
]
_OTHER = [
    "SpecificCharacterSet",
    "SeriesNumber",
    "InstanceNumber",
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "KVP",
    "GantryDetectorTilt",
    "Rows",
    "Columns",
    "AcquisitionDateTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "ContentDate",
    "ContentTime",
    "SeriesDate",
    "SeriesTime",
    "StudyDate",
    "StudyTime",
    "ContrastBolusStartTime",
    "PatientName",
    "PatientBirthDate",
    "ContributingEquipmentSequence",
]


def _tag(keyword: str) -> int:
    """The tag of a keyword that pydicom's dictionary holds."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return int(tag)


_TAGS = {keyword: _tag(keyword) for keyword in [*_TEXT, *_OTHER]}


def read_instance(path: Path) -> Instance:
    """Returns the header of one stored instance; a multi-frame object is one instance (see ``read_frames``).

    Attributes that are absent or cannot be understood as their kind are None or "" in the record; SOP Class and Instance
    UID fall back to the file meta information, which PS3.10 section 7.1 requires to be the same.

    Args:
        path: an encoded instance with file meta information.

    Raises:
        InstanceRefused: not DICOM, damaged, deflated, or without any SOP Instance UID.
    """
    try:
        with path.open("rb") as stream:
            _refuse_deflated(stream, path)
            dataset = dcmread(stream, stop_before_pixels=True, specific_tags=list(_TAGS.values()))
        instance = _decode_instance(dataset, path)
    except READ_FAULTS as fault:
        raise InstanceRefused(
            f"{path.name} cannot be read as DICOM: {type(fault).__name__}: {fault}"
        ) from fault
    if instance.sop_class_uid == MEDIA_STORAGE_DIRECTORY:
        raise InstanceRefused(f"{path.name} is a media directory (DICOMDIR), not an instance")
    return instance


def read_frames(instance: Instance) -> tuple[Instance, ...]:
    """Returns one record per frame of a multi-frame CT object, or the instance itself when it has single images.

    Args:
        instance: as read by ``read_instance``.

    Raises:
        InstanceRefused: the functional groups do not describe every frame, or the object claims too many.

    Source: PS3.3 A.38 and A.70 (Enhanced CT, Legacy Converted Enhanced CT), C.7.6.16 (functional groups).
    """
    if instance.sop_class_uid not in MULTI_FRAME_CT:
        return (instance,)
    if not 1 <= instance.number_of_frames <= MAX_FRAMES:
        raise InstanceRefused(
            f"{instance.sop_instance_uid} claims {instance.number_of_frames} frames; expected 1 to {MAX_FRAMES}"
        )
    try:
        dataset = dcmread(instance.path, stop_before_pixels=True)
        per_frame = dataset.PerFrameFunctionalGroupsSequence
        if len(per_frame) != instance.number_of_frames:
            raise InstanceRefused(
                f"{instance.sop_instance_uid} claims {instance.number_of_frames} frames and describes {len(per_frame)}"
            )
        shared = _flatten_groups(dataset.get("SharedFunctionalGroupsSequence", []))
        return tuple(
            _decode_frame(instance, shared | _flatten_groups([groups]), number)
            for number, groups in enumerate(per_frame, start=1)
        )
    except READ_FAULTS as fault:
        raise InstanceRefused(
            f"frames of {instance.sop_instance_uid} cannot be read: {type(fault).__name__}: {fault}"
        ) from fault


def read_folder(folder: Path) -> tuple[tuple[Instance, ...], tuple[tuple[Path, str], ...]]:
    """Returns every instance below a folder (multi-frame CT frame by frame) and what was refused, with the reason.

    Files are taken in the order of their names; DICOMDIR and hidden files are passed over. A multi-frame CT whose frames
    cannot be read is refused and comes back whole too: its header says whose study it is, and no stack takes it.

    Args:
        folder: searched with all its subfolders; links that leave it are not followed.
    """
    instances: list[Instance] = []
    refused: list[tuple[Path, str]] = []
    for path in _walk(folder):
        whole: Instance | None = None
        try:
            whole = read_instance(path)
            instances.extend(read_frames(whole))
        except InstanceRefused as refusal:
            refused.append((path, str(refusal)))
            instances += [] if whole is None else [whole]
    log.info("folder read", instances=len(instances), refused=len(refused))
    return tuple(instances), tuple(refused)


def _walk(folder: Path) -> Iterator[Path]:
    """Yields the files to read, sorted."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file() or path.name.startswith(".") or path.name == "DICOMDIR":
            continue
        yield path


def _refuse_deflated(stream: BinaryIO, path: Path) -> None:
    """Raises when the file meta information names the deflated transfer syntax; leaves the stream at its start."""
    head = stream.read(144)
    if len(head) < 144 or head[128:132] != b"DICM":
        raise InstanceRefused(
            f"{path.name} is not a DICOM file: no DICM prefix after 128 bytes (PS3.10 section 7.1)"
        )
    (length,) = struct.unpack("<I", head[140:144])
    if DEFLATED_EXPLICIT_VR in stream.read(min(length, 65536)):
        raise InstanceRefused(
            f"{path.name} is deflated; that transfer syntax is not read (no limit when inflating)"
        )
    stream.seek(0)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Decodes single attributes of one data set from their encoded bytes."""

    values: dict[int, Any]
    encodings: list[str]
    byte_order: Literal["little", "big"]

    def raw(self, keyword: str) -> bytes:
        """The encoded value, b"" when absent."""
        value = self.values.get(_TAGS[keyword])
        return value if isinstance(value, bytes) else b""

    def text(self, keyword: str) -> str:
        """A text in its character set, without padding."""
        raw = self.raw(keyword).rstrip(b"\0 ")
        if raw.isascii() and b"\x1b" not in raw:
            return raw.decode("ascii").strip()
        text = str(decode_bytes(raw, self.encodings, {"\r", "\n", "\t", "\f", "\\"}))
        return drop_designations(text).strip()

    def name(self, keyword: str) -> str:
        """A person's name with its component groups."""
        return drop_designations(str(PersonName(self.raw(keyword).rstrip(b"\0 "), self.encodings)))

    def texts(self, keyword: str) -> tuple[str, ...]:
        """A multi-valued text; () when absent."""
        text = self.text(keyword)
        return tuple(part.strip() for part in text.split("\\")) if text else ()

    def numbers(self, keyword: str) -> tuple[float, ...] | None:
        """A multi-valued decimal string; None when absent or when any value is not a finite number."""
        raw = self.raw(keyword).strip(b"\0 ")
        return parse_numbers(raw.decode("ascii", "replace").split("\\")) if raw else None

    def number(self, keyword: str) -> float | None:
        """The first value of a decimal string."""
        numbers = self.numbers(keyword)
        return numbers[0] if numbers else None

    def integer(self, keyword: str) -> int | None:
        """The first value of an integer string, also when written as ``5.0``."""
        number = self.number(keyword)
        return int(number) if number is not None and number == int(number) else None

    def unsigned_short(self, keyword: str) -> int:
        """A US; 0 when absent."""
        raw = self.raw(keyword)
        if len(raw) < 2:
            return 0
        return int.from_bytes(raw[:2], self.byte_order)

    def moment(self, *pairs: tuple[str, str]) -> datetime | None:
        """The first complete pair of a date and a time attribute."""
        for day_keyword, time_keyword in pairs:
            day = parse_date(self.text(day_keyword))
            seconds = parse_time(self.text(time_keyword))
            if day is not None and seconds is not None:
                return datetime.combine(day, datetime.min.time()) + timedelta(seconds=seconds)
        return None


def _decode_instance(dataset: Dataset, path: Path) -> Instance:
    """Builds the record of one data set."""
    character_set = dataset.get("SpecificCharacterSet") or ""
    values = {
        int(tag): element.value for tag, element in dataset.items()
    }  # encoded: items() converts nothing
    order: Literal["little", "big"] = "big" if dataset.is_little_endian is False else "little"
    reader = _Reader(values, convert_encodings(character_set), order)
    meta = dataset.file_meta
    sop_instance_uid = reader.text("SOPInstanceUID") or str(meta.get("MediaStorageSOPInstanceUID", ""))
    if not sop_instance_uid:
        raise InstanceRefused(
            f"{path.name} has no SOP Instance UID, neither in the data set nor in the file meta"
        )
    dates = [f"{kind}Date" for kind in ("Acquisition", "Content", "Series", "Study")]
    return Instance(
        path=path,
        sop_class_uid=reader.text("SOPClassUID") or str(meta.get("MediaStorageSOPClassUID", "")),
        sop_instance_uid=sop_instance_uid,
        study_instance_uid=reader.text("StudyInstanceUID"),
        series_instance_uid=reader.text("SeriesInstanceUID"),
        transfer_syntax_uid=str(meta.get("TransferSyntaxUID", "")),
        modality=reader.text("Modality"),
        image_type=reader.texts("ImageType"),
        series_number=reader.integer("SeriesNumber"),
        instance_number=reader.integer("InstanceNumber"),
        acquisition_number=reader.integer("AcquisitionNumber"),
        temporal_position_identifier=reader.integer("TemporalPositionIdentifier"),
        series_description=reader.text("SeriesDescription"),
        study_description=reader.text("StudyDescription"),
        protocol_name=reader.text("ProtocolName"),
        performed_procedure_step_description=reader.text("PerformedProcedureStepDescription"),
        contrast_bolus_agent=reader.text("ContrastBolusAgent"),
        convolution_kernel=reader.texts("ConvolutionKernel"),
        manufacturer=reader.text("Manufacturer"),
        manufacturer_model_name=reader.text("ManufacturerModelName"),
        body_part_examined=reader.text("BodyPartExamined"),
        patient_position=reader.text("PatientPosition"),
        frame_of_reference_uid=reader.text("FrameOfReferenceUID"),
        position_mm=_triple(reader.numbers("ImagePositionPatient")),
        orientation=_sextuple(reader.numbers("ImageOrientationPatient")),
        pixel_spacing_mm=_pair(reader.numbers("PixelSpacing")),
        slice_thickness_mm=_thickness(reader.number("SliceThickness")),
        kvp=reader.number("KVP"),
        gantry_tilt_degrees=reader.number("GantryDetectorTilt"),
        rows=reader.unsigned_short("Rows"),
        columns=reader.unsigned_short("Columns"),
        number_of_frames=reader.integer("NumberOfFrames") or 1,
        irradiation_event_uid=reader.text("IrradiationEventUID"),
        lossy=reader.text("LossyImageCompression") == "01"
        or str(meta.get("TransferSyntaxUID", "")) in ALWAYS_LOSSY,
        rescale_type=reader.text("RescaleType"),
        burned_in_annotation=reader.text("BurnedInAnnotation"),
        acquired_at=parse_datetime(reader.text("AcquisitionDateTime"))
        or reader.moment(*((day, "AcquisitionTime") for day in dates)),
        content_at=reader.moment(("ContentDate", "ContentTime"), ("StudyDate", "ContentTime")),
        series_at=reader.moment(("SeriesDate", "SeriesTime"), ("StudyDate", "SeriesTime")),
        study_at=reader.moment(("StudyDate", "StudyTime")),
        bolus_start_at=reader.moment(*((day, "ContrastBolusStartTime") for day in dates)),
        accession_number=reader.text("AccessionNumber"),
        patient=Patient(
            patient_id=reader.text("PatientID"),
            issuer_of_patient_id=reader.text("IssuerOfPatientID"),
            patient_name=reader.name("PatientName"),
            patient_birth_date=parse_date(reader.text("PatientBirthDate")),
            patient_sex=reader.text("PatientSex"),
        ),
        ours=_is_ours(dataset),
    )


def _is_ours(dataset: Dataset) -> bool:
    """Whether this product stands among the contributing equipment (PS3.3 C.12.1.1.5)."""
    if _TAGS["ContributingEquipmentSequence"] not in dataset:
        return False
    return any(
        str(item.get("ManufacturerModelName", "")).strip() == PRODUCT_NAME
        for item in dataset.ContributingEquipmentSequence
    )


def _flatten_groups(groups: Iterable[Dataset]) -> dict[str, Any]:
    """Returns the attributes of functional group items by keyword: the first item of each sequence, one level down."""
    flat: dict[str, Any] = {}
    for group in groups:
        for element in group:
            if element.VR != "SQ" or not element.value:
                continue
            for inner in element.value[0]:
                flat[inner.keyword] = inner.value
    return flat


def _decode_frame(whole: Instance, values: dict[str, Any], number: int) -> Instance:
    """Builds the record of one frame: the object's attributes, replaced by those of its functional groups."""

    def text(keyword: str, otherwise: str) -> str:
        value = values.get(keyword)
        return str(value).strip() if value else otherwise

    def integer(keyword: str, otherwise: int | None) -> int | None:
        value = values.get(keyword)
        return int(value) if value not in (None, "") else otherwise

    def real(keyword: str, otherwise: float | None) -> float | None:
        value = values.get(keyword)
        return float(value) if value not in (None, "") else otherwise

    def reals(keyword: str) -> tuple[float, ...] | None:
        value = values.get(keyword)
        return tuple(float(part) for part in value) if value else None

    def words(keyword: str, otherwise: tuple[str, ...]) -> tuple[str, ...]:
        value = values.get(keyword)
        if not value:
            return otherwise
        return (value,) if isinstance(value, str) else tuple(str(part) for part in value)

    return replace(
        whole,
        frame_number=number,
        image_type=words("FrameType", words("ImageType", whole.image_type)),
        instance_number=integer("InstanceNumber", number),
        acquisition_number=integer(
            "FrameAcquisitionNumber", integer("AcquisitionNumber", whole.acquisition_number)
        ),
        temporal_position_identifier=integer(
            "TemporalPositionIndex",
            integer("TemporalPositionIdentifier", whole.temporal_position_identifier),
        ),
        position_mm=_triple(reals("ImagePositionPatient")) or whole.position_mm,
        orientation=_sextuple(reals("ImageOrientationPatient")) or whole.orientation,
        pixel_spacing_mm=_pair(reals("PixelSpacing")) or whole.pixel_spacing_mm,
        slice_thickness_mm=_thickness(real("SliceThickness", whole.slice_thickness_mm)),
        kvp=real("KVP", whole.kvp),
        gantry_tilt_degrees=real("GantryDetectorTilt", whole.gantry_tilt_degrees),
        convolution_kernel=words("ConvolutionKernel", whole.convolution_kernel),
        contrast_bolus_agent=text("ContrastBolusAgent", whole.contrast_bolus_agent),
        contrast_bolus_agent_phase=text("ContrastBolusAgentPhase", whole.contrast_bolus_agent_phase),
        rescale_type=text("RescaleType", whole.rescale_type),
        irradiation_event_uid=text("IrradiationEventUID", whole.irradiation_event_uid),
        acquired_at=_frame_moment(values, "FrameAcquisitionDateTime", "Acquisition") or whole.acquired_at,
        content_at=_frame_moment(values, "FrameReferenceDateTime", "Content") or whole.content_at,
    )


def _frame_moment(values: dict[str, Any], stamp: str, kind: str) -> datetime | None:
    """Returns a frame's own moment: a DT attribute, or the date and time kept from the converted image."""
    moment = parse_datetime(str(values.get(stamp) or ""))
    if moment is not None:
        return moment
    day, seconds = (
        parse_date(str(values.get(f"{kind}Date") or "")),
        parse_time(str(values.get(f"{kind}Time") or "")),
    )
    if day is None or seconds is None:
        return None
    return datetime.combine(day, datetime.min.time()) + timedelta(seconds=seconds)


def _thickness(number: float | None) -> float | None:
    """A thickness; zero and below are none (PS3.3 C.7.6.2: nominal slice thickness)."""
    return number if number is not None and number > 0 else None


def _pair(numbers: tuple[float, ...] | None) -> tuple[float, float] | None:
    """Two numbers, or None."""
    return (numbers[0], numbers[1]) if numbers is not None and len(numbers) == 2 else None


def _triple(numbers: tuple[float, ...] | None) -> tuple[float, float, float] | None:
    """Three numbers, or None."""
    return (numbers[0], numbers[1], numbers[2]) if numbers is not None and len(numbers) == 3 else None


def _sextuple(
    numbers: tuple[float, ...] | None,
) -> tuple[float, float, float, float, float, float] | None:
    """Six numbers, or None."""
    if numbers is None or len(numbers) != 6:
        return None
    return (numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5])
