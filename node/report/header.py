"""What all objects of one result share: patient, study, equipment, dates, and who contributed."""

import copy
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pydicom
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_description
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from node.dicom.values import GB_2312_DESIGNATION, drop_designations
from node.report import codes
from node.report.record import Report
from node.report.uids import derive_uid
from node.study import Instance

CHARACTER_SET: Final = "ISO_IR 192"
"""Every object is written in UTF-8, whatever the source used. Source: PS3.3 C.12.1.1.2."""

_REQUIRED_EMPTY: Final = (
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
"""Type 2 of the Patient and General Study modules: present, empty where not known. Source: PS3.3 C.7.1.1, C.7.2.1."""

_COPIED: Final = (
    *_REQUIRED_EMPTY,
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "OtherPatientIDsSequence",
    "PatientBirthTime",
    "QualityControlSubject",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "IssuerOfAccessionNumberSequence",
    "StudyDescription",
    "ProcedureCodeSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "TimezoneOffsetFromUTC",
)
"""Patient, clinical trial and study attributes that are the same in every object of a study."""

_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"

_NAME_LIMIT: Final = 64
"""Length of LO in characters. Source: PS3.5 section 6.2."""

_IMPLEMENTATION_CLASS_UID: Final = "2.25.129371843216604927153385046278915627043"
"""This product, in the file meta group. Source: PS3.10 section 7.1; a UUID of our own, PS3.5 B.2."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Envelope:
    """What every object of one result is stamped with.

    Attributes:
        source: header of an instance of the study, pixels left out.
        digest: what the result says, as SHA-256 hex; new content makes new UIDs.
        concluded: the report's time in the study's time zone (or the node's where the study names none).
    """

    report: Report
    source: Dataset
    digest: str
    concluded: datetime

    def uid(self, *parts: str) -> str:
        """Returns the UID of the part of this result that ``parts`` name."""
        return derive_uid(self.report.study_instance_uid, self.digest, *parts)

    @property
    def device_uid(self) -> str:
        """UID of this software with these models: retrained models make another device."""
        models = [f"{model.name} {model.version} {model.sha256}" for model in self.report.models]
        return derive_uid("device", self.report.software_version, *models)

    @property
    def serial_number(self) -> str:
        """Serial number of the device: the first letters of the models' hashes, or the version alone."""
        hashes = [model.sha256[:12] for model in self.report.models]
        return "-".join(hashes)[:_NAME_LIMIT] or self.report.software_version or "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesPlace:
    """Where an object stands in the study: its series, and the number and words that a PACS lists it under."""

    kind: str
    modality: str
    series_number: int
    title: str


def read_source(instance: Instance) -> Dataset:
    """Returns the header of a stored instance, pixels left out."""
    return pydicom.dcmread(instance.path, stop_before_pixels=True)


def list_undecoded(source: Dataset) -> tuple[str, ...]:
    """Returns a warning for each patient or study attribute whose bytes its own character set does not know.

    Args:
        source: header of an instance; pydicom puts U+FFFD where a byte could not be read.
    """
    said = source.get("SpecificCharacterSet", None) or "none"
    ascii_alone = isinstance(said, str) and (said in ("none", "ISO_IR 6") or said not in python_encoding)
    spoiled = [
        keyword
        for keyword in _COPIED
        if keyword in source
        and (_REPLACEMENT in (text := str(source[keyword].value)) or (ascii_alone and not text.isascii()))
    ]
    return tuple(
        f"{dictionary_description(keyword)} holds bytes that the declared character set ({said}) does not know; "
        f"compare it with the archive"
        for keyword in spoiled
    )


def localise(concluded_at: datetime, source: Dataset) -> datetime:
    """Returns the time of conclusion in the study's time zone.

    Args:
        concluded_at: aware UTC.
        source: header of the study; its Timezone Offset From UTC (0008,0201) counts, else the node's own zone does.
    """
    offset = str(source.get("TimezoneOffsetFromUTC", "") or "").strip()
    try:
        zone = datetime.strptime(offset, "%z").tzinfo
    except ValueError:
        zone = None
    return concluded_at.astimezone(zone)


def series_description(title: str, report: Report) -> str:
    """Returns the Series Description: the title, research use, and whether models or study are artificial.

    Args:
        title: at most 20 characters.
        report: the report.
    """
    words = [title, codes.RESEARCH_USE.upper()]
    if report.demonstration:
        words.append("DEMO MODEL")
    if report.synthetic:
        words.append("SYNTHETIC")
    return " - ".join(words)[:_NAME_LIMIT]


def stamp(dataset: Dataset, envelope: Envelope, place: SeriesPlace, *, sop_instance_uid: str) -> None:
    """Writes patient, study, series, equipment, dates and contributing equipment on ``dataset``, whatever stood there.

    Args:
        dataset: an object whose SOP Class UID is set.
        envelope: what the result's objects share.
        place: where the object stands in the study.
        sop_instance_uid: UID of the object.

    Source: PS3.3 C.7.1.1 (Patient), C.7.2.1 (General Study), C.7.3.1 (General Series), C.7.5.1 (General Equipment),
    C.12.1 (SOP Common).
    """
    report = envelope.report
    dataset.SpecificCharacterSet = CHARACTER_SET
    _copy_patient_and_study(dataset, envelope.source)
    dataset.StudyInstanceUID = report.study_instance_uid
    dataset.Modality = place.modality
    dataset.SeriesInstanceUID = envelope.uid("series", place.kind)
    dataset.SeriesNumber = place.series_number
    dataset.SeriesDescription = series_description(place.title, report)
    dataset.InstanceNumber = 1
    dataset.Manufacturer = codes.MANUFACTURER
    dataset.ManufacturerModelName = codes.PRODUCT
    dataset.DeviceSerialNumber = envelope.serial_number
    dataset.SoftwareVersions = report.software_version or "unknown"
    dataset.SOPInstanceUID = sop_instance_uid
    date, time = envelope.concluded.strftime("%Y%m%d"), envelope.concluded.strftime("%H%M%S")
    for keyword in ("InstanceCreation", "Series", "Content"):
        setattr(dataset, f"{keyword}Date", date)
        setattr(dataset, f"{keyword}Time", time)
    dataset.ContributingEquipmentSequence = Sequence([_contributing_equipment(envelope)])
    _identify_coding_scheme(dataset)
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = sop_instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = "MMFNODE_1"
    dataset.file_meta = meta


def _copy_patient_and_study(dataset: Dataset, source: Dataset) -> None:
    for keyword in _COPIED:
        if keyword not in source:
            if keyword in dataset and keyword not in _REQUIRED_EMPTY:
                delattr(dataset, keyword)
            continue
        element = copy.deepcopy(source[keyword])
        _respell(dataset, element)
        dataset[keyword] = element
        if element.VR == "SQ":
            for item in element.value:
                item.walk(_respell)
    for keyword in _REQUIRED_EMPTY:
        if keyword not in source:
            setattr(dataset, keyword, "")


def _respell(_: Dataset, element: DataElement) -> None:
    """Lets go of the source's own bytes and escape sequences: this object is UTF-8."""
    if element.VR == "SQ" or (element.VR != "PN" and GB_2312_DESIGNATION not in str(element.value)):
        return
    if element.VM > 1:
        element.value = [drop_designations(str(one)) for one in element.value]
    else:
        element.value = drop_designations(str(element.value or ""))


def _contributing_equipment(envelope: Envelope) -> Dataset:
    """Source: PS3.3 C.12.1.1.5; purpose from CID 7005."""
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = Sequence([codes.item(codes.PROCESSING_EQUIPMENT)])
    equipment.Manufacturer = codes.MANUFACTURER
    equipment.ManufacturerModelName = codes.PRODUCT
    equipment.DeviceSerialNumber = envelope.serial_number
    equipment.SoftwareVersions = envelope.report.software_version or "unknown"
    equipment.DeviceUID = envelope.device_uid
    equipment.ContributionDateTime = envelope.concluded.strftime("%Y%m%d%H%M%S%z")
    equipment.ContributionDescription = f"{codes.RESEARCH_USE}: survival risk from multiphase liver CT"
    return equipment


def _identify_coding_scheme(dataset: Dataset) -> None:
    """Source: PS3.3 C.12.1.1.1.9 (Coding Scheme Identification Sequence)."""
    scheme = Dataset()
    scheme.CodingSchemeDesignator = codes.SCHEME
    scheme.CodingSchemeName = codes.SCHEME_NAME
    scheme.CodingSchemeResponsibleOrganization = codes.MANUFACTURER
    dataset.CodingSchemeIdentificationSequence = Sequence([scheme])
