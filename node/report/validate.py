"""Checks of a result object before it is sent: what is wrong with it, in words. An object with a fault is never sent."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from node.errors import ObjectInvalid
from node.study import PRODUCT_NAME

_COMMON_TYPE_1: Final = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "InstanceNumber",
    "Modality",
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "SeriesDescription",
    "InstanceCreationDate",
    "InstanceCreationTime",
    "ContributingEquipmentSequence",
)
"""With a value in every object. Source: PS3.3 C.7.2.1, C.7.3.1, C.12.1; the last ones OURS."""

_COMMON_TYPE_2: Final = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
"""Present, perhaps empty. Source: PS3.3 C.7.1.1, C.7.2.1."""

_TYPE_1: Final = {
    SegmentationStorage: (
        "FrameOfReferenceUID",
        "Rows",
        "Columns",
        "NumberOfFrames",
        "SegmentationType",
        "SegmentSequence",
        "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence",
        "DimensionIndexSequence",
        "ReferencedSeriesSequence",
        "ContentLabel",
        "ContentDate",
        "ContentTime",
        "PixelData",
    ),
    Comprehensive3DSRStorage: (
        "CompletionFlag",
        "VerificationFlag",
        "ContentDate",
        "ContentTime",
        "ValueType",
        "ConceptNameCodeSequence",
        "ContinuityOfContent",
        "ContentSequence",
    ),
    EncapsulatedPDFStorage: (
        "ConversionType",
        "BurnedInAnnotation",
        "DocumentTitle",
        "SourceInstanceSequence",
        "MIMETypeOfEncapsulatedDocument",
        "EncapsulatedDocument",
        "EncapsulatedDocumentLength",
        "ConceptNameCodeSequence",
        "ContentDate",
        "ContentTime",
    ),
    SecondaryCaptureImageStorage: ("ConversionType", "Rows", "Columns", "BurnedInAnnotation", "PixelData"),
}
"""With a value, by SOP class. Source: PS3.3 A.51, A.35.13, A.45.1, A.8.1."""


_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
"""Zeros before a number, which PS3.5 9.1 forbids, pass: they come with the study, which is referred to as it is."""
_UID_LIMIT: Final = 64
_REFERENCED_INSTANCE: Final = Tag("ReferencedSOPInstanceUID")


def validate_object(path: Path, *, study_instance_uid: str, known_uids: frozenset[str]) -> Dataset:
    """Returns the object read back from its file, after every check.

    Args:
        path: a DICOM file written by this product.
        study_instance_uid: the study it must belong to.
        known_uids: SOP Instance UIDs that its references may name.

    Raises:
        ObjectInvalid: every fault that was found, with the object's UID.
    """
    try:
        dataset = pydicom.dcmread(path)
    except (InvalidDicomError, OSError) as error:
        raise ObjectInvalid(f"{path.name} cannot be read back: {error}") from error
    faults = list(list_faults(dataset, study_instance_uid=study_instance_uid, known_uids=known_uids))
    if faults:
        uid = dataset.get("SOPInstanceUID", "without UID")
        raise ObjectInvalid(f"{path.name}, instance {uid}: {'; '.join(faults)}")
    return dataset


def list_faults(dataset: Dataset, *, study_instance_uid: str, known_uids: frozenset[str]) -> Iterator[str]:
    """Yields what is wrong with a result object, one sentence a fault.

    Args:
        dataset: object with its file meta group.
        study_instance_uid: the study it must belong to.
        known_uids: SOP Instance UIDs that its references may name.
    """
    sop_class = str(dataset.get("SOPClassUID", ""))
    specific = _TYPE_1.get(
        Comprehensive3DSRStorage if sop_class == ComprehensiveSRStorage else UID(sop_class)
    )
    if specific is None:
        yield f"SOP class {sop_class or 'missing'} is none of this product's"
        return
    for keyword in (*_COMMON_TYPE_1, *specific):
        if keyword not in dataset or dataset[keyword].is_empty:
            yield f"{keyword} has no value"
    for keyword in _COMMON_TYPE_2:
        if keyword not in dataset:
            yield f"{keyword} is absent"
    yield from _identity_faults(dataset, study_instance_uid)
    yield from _uid_faults(dataset, known_uids)
    if sop_class == SegmentationStorage:
        yield from _segmentation_faults(dataset)
    elif sop_class == EncapsulatedPDFStorage:
        yield from _document_faults(dataset)
    elif sop_class == SecondaryCaptureImageStorage:
        yield from _capture_faults(dataset)
    else:
        yield from _report_faults(dataset)


def _identity_faults(dataset: Dataset, study_instance_uid: str) -> Iterator[str]:
    meta = dataset.file_meta
    if meta.TransferSyntaxUID != ExplicitVRLittleEndian:
        yield f"transfer syntax {meta.TransferSyntaxUID}, expected Explicit VR Little Endian"
    if meta.MediaStorageSOPInstanceUID != dataset.get("SOPInstanceUID"):
        yield "the file meta group names another instance"
    if meta.MediaStorageSOPClassUID != dataset.get("SOPClassUID"):
        yield "the file meta group names another SOP class"
    if dataset.get("StudyInstanceUID") != study_instance_uid:
        yield f"belongs to study {dataset.get('StudyInstanceUID')}, expected {study_instance_uid}"
    equipment = dataset.get("ContributingEquipmentSequence") or []
    if not any(item.get("ManufacturerModelName") == PRODUCT_NAME for item in equipment):
        yield "this product does not stand among the contributing equipment"
    if "RESEARCH USE ONLY" not in str(dataset.get("SeriesDescription", "")):
        yield "the series description does not say research use only"


def _uid_faults(dataset: Dataset, known_uids: frozenset[str]) -> Iterator[str]:
    """Every UID is one, and every instance that is referred to is known."""
    strangers: set[str] = set()
    for element in dataset.iterall():
        if element.VR != "UI":
            continue
        for value in element.value if element.VM > 1 else [element.value]:
            if value and not (_UID.fullmatch(value) and len(value) <= _UID_LIMIT):
                yield f"{element.keyword} holds {value!r}, no UID"
        if element.tag == _REFERENCED_INSTANCE and str(element.value) not in known_uids:
            strangers.add(str(element.value))
    for uid in sorted(strangers):
        yield f"refers to instance {uid}, which is neither of the study's used slices nor of this result"


def _referenced(dataset: Dataset, *keywords: str) -> frozenset[str]:
    """The SOP Instance UIDs that the named sequences refer to, at any depth."""
    return frozenset(
        str(element.value)
        for keyword in keywords
        for item in dataset.get(keyword) or []
        for element in item.iterall()
        if element.tag == _REFERENCED_INSTANCE
    )


def _segmentation_faults(dataset: Dataset) -> Iterator[str]:
    """Source: PS3.3 C.8.20.2: bits of all frames packed without padding between them."""
    frames, rows, columns = (int(dataset.get(key, 0)) for key in ("NumberOfFrames", "Rows", "Columns"))
    expected = (frames * rows * columns + 7) // 8
    found = len(dataset.get("PixelData", b""))
    if found != expected + expected % 2:
        yield f"pixel data of {found} bytes, expected {expected} for {frames} frames of {rows} x {columns} bits"
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if len(groups) != frames:
        yield f"{len(groups)} frame descriptions for {frames} frames"
    numbers = [int(item.SegmentNumber) for item in dataset.get("SegmentSequence") or []]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"segment numbers {numbers}, expected 1, 2, ..."


def _report_faults(dataset: Dataset) -> Iterator[str]:
    """Every image in the content tree stands in the evidence. Source: PS3.3 C.17.2 (0040,A375)."""
    evidence = _referenced(
        dataset, "CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence"
    )
    cited = _referenced(dataset, "ContentSequence")
    for uid in sorted(cited - evidence):
        yield f"cites instance {uid}, which the evidence does not list"
    if dataset.get("VerificationFlag") != "UNVERIFIED":
        yield f"verification flag {dataset.get('VerificationFlag')}, expected UNVERIFIED"


def _capture_faults(dataset: Dataset) -> Iterator[str]:
    """Source: PS3.3 C.7.6.3: three samples of one byte a pixel, uncompressed."""
    expected = 3 * int(dataset.get("Rows", 0)) * int(dataset.get("Columns", 0))
    found = len(dataset.get("PixelData", b""))
    if found != expected + expected % 2:
        yield f"pixel data of {found} bytes, expected {expected}"
    if dataset.get("BurnedInAnnotation") != "YES":
        yield "the picture shows the patient's name, but Burned In Annotation is not YES"


def _document_faults(dataset: Dataset) -> Iterator[str]:
    """The document opens, has pages, and its length is the one that is said."""
    import pypdfium2

    length = int(dataset.get("EncapsulatedDocumentLength", 0))
    document = bytes(dataset.get("EncapsulatedDocument", b""))
    if length + length % 2 != len(document):
        yield f"encapsulated document of {len(document)} bytes, length said {length}"
    try:
        opened = pypdfium2.PdfDocument(document[:length])
    except pypdfium2.PdfiumError as error:
        yield f"the encapsulated document is no PDF: {error}"
        return
    if len(opened) < 1:
        yield "the encapsulated document has no page"
    opened.close()
