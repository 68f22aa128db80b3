"""The Segmentation objects: one per acquisition used, with the masks on that acquisition's own grid."""

import warnings
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from engines.errors import GeometryMismatch
from engines.phase import Phase
from node.report import codes
from node.report.header import Envelope, SeriesPlace, stamp
from node.report.segments import PhaseMasks, Segment
from node.report.slices import SourceSlice, locate_slices
from node.report.sources import UsedAcquisition
from node.study import Instance

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription

SERIES_NUMBERS: Final = {
    Phase.ARTERIAL: 9801,
    Phase.PORTAL_VENOUS: 9802,
    Phase.DELAYED: 9803,
    Phase.PRE_CONTRAST: 9804,
}
"""Series numbers of the segmentations, above what scanners use (OURS)."""


def build_segmentation(envelope: Envelope, used: UsedAcquisition, masks: PhaseMasks) -> Dataset:
    """Returns the Segmentation of one acquisition, binary, encoded Explicit VR Little Endian.

    Args:
        envelope: what the result's objects share.
        used: the acquisition whose slices the frames lie on.
        masks: at least one segment, on the acquisition's native grid, not all empty.

    Raises:
        GeometryMismatch: the volume's grid is not that of the slices.

    Source: PS3.3 A.51 (Segmentation IOD), C.8.20.2 (Segmentation Image Module).
    """
    from highdicom.seg import Segmentation, SegmentationTypeValues

    images, planes = _source_images(used, _outlined_slices(used, masks))
    place = seg_place(used.phase)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # highdicom's notes on empty slices and names left out on purpose
        segmentation: Dataset = Segmentation(
            source_images=images,
            pixel_array=_frames(masks, planes),
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=[_describe(segment) for segment in masks.segments],
            series_instance_uid=envelope.uid("series", place.kind),
            series_number=place.series_number,
            sop_instance_uid=envelope.uid("instance", place.kind),
            instance_number=1,
            manufacturer=codes.MANUFACTURER,
            manufacturer_model_name=codes.PRODUCT,
            software_versions=envelope.report.software_version or "unknown",
            device_serial_number=envelope.serial_number,
            content_description=f"{codes.RESEARCH_USE}: liver and tumour, {used.phase.value}",
            content_label="LIVER_TUMOUR",
            transfer_syntax_uid=ExplicitVRLittleEndian,
        )
    stamp(segmentation, envelope, place, sop_instance_uid=envelope.uid("instance", place.kind))
    segmentation.ContentCreatorName = ""
    _settle_dimension_organization(segmentation, envelope.uid("dimensions", place.kind))
    return segmentation


def seg_place(phase: Phase) -> SeriesPlace:
    """Returns where the segmentation of ``phase`` stands in the study."""
    return SeriesPlace(
        kind=f"SEG_{phase.value}",
        modality="SEG",
        series_number=SERIES_NUMBERS[phase],
        title=f"MMF masks {phase.letter}",
    )


def _describe(segment: Segment) -> "SegmentDescription":
    """Source: PS3.3 C.8.20.4 (Segment Description Macro)."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription

    name, version = split_provider(segment.structure.provider)
    return SegmentDescription(
        segment_number=segment.number,
        segment_label=segment.label,
        segmented_property_category=segment.category,
        segmented_property_type=segment.property_type,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=name, family=codes.ARTIFICIAL_INTELLIGENCE, version=version
        ),
        tracking_uid=segment.tracking_uid,
        tracking_id=segment.label,
        anatomic_regions=None if segment.property_type == codes.LIVER else [codes.LIVER],
        display_color=CIELabColor.from_rgb(*(255 * part for part in segment.rgb)),
    )


def split_provider(provider: str) -> tuple[str, str]:
    """Returns name and version of a mask's maker, e.g. ``baseline 1`` or ``baseline/1``; an unnamed one says so."""
    text = provider.replace("/", " ").strip()
    name, _, version = text.rpartition(" ")
    return (name[:64], version[:64]) if name else (text[:64] or "unnamed", "not stated")


def _source_images(
    used: UsedAcquisition, slices: tuple[SourceSlice, ...]
) -> tuple[list[Dataset], list[int | None]]:
    """The images as highdicom wants them, and the plane of the volume that each of their frames fills (None: none)."""
    first = used.acquisition.first
    if not first.frame_number:
        return [_source_image(source.instance, used) for source in slices], [source.z for source in slices]
    if len({source.instance.sop_instance_uid for source in slices}) > 1:
        raise GeometryMismatch(
            f"series {used.acquisition.label}: frames of several multi-frame images in one volume"
        )
    plane = {source.instance.frame_number: source.z for source in slices}
    header = pydicom.dcmread(first.path, stop_before_pixels=True)
    return [header], [plane.get(number) for number in range(1, first.number_of_frames + 1)]


def _source_image(instance: Instance, used: UsedAcquisition) -> Dataset:
    """Identity and geometry of a slice; patient and study are stamped afterwards."""
    spacing_mm = used.volume.grid.spacing_mm
    image = blank_reference(instance)
    image.FrameOfReferenceUID = instance.frame_of_reference_uid
    image.PositionReferenceIndicator = ""
    image.Rows, image.Columns = instance.rows, instance.columns
    image.PixelSpacing = list(instance.pixel_spacing_mm or spacing_mm[1:])
    image.SliceThickness = instance.slice_thickness_mm or spacing_mm[0]
    image.SpacingBetweenSlices = spacing_mm[0]
    image.ImagePositionPatient = list(instance.position_mm or ())
    image.ImageOrientationPatient = list(instance.orientation or ())
    return image


def _outlined_slices(used: UsedAcquisition, masks: PhaseMasks) -> tuple[SourceSlice, ...]:
    """The slices that show any segment: the object holds no frame for the others."""
    drawn = np.zeros(masks.shape[0], dtype=np.bool_)
    for array in (masks.liver, masks.lesions):
        if array is not None:
            drawn |= array.any(axis=(1, 2))
    return tuple(source for source in locate_slices(used) if drawn[source.z])


def _frames(masks: PhaseMasks, planes: list[int | None]) -> npt.NDArray[np.uint8]:
    """The segments' planes in the order of the source's frames, uint8 (frames, rows, columns, segments)."""
    pixels = np.zeros((len(planes), *masks.shape[1:], len(masks.segments)), dtype=np.uint8)
    for number, segment in enumerate(masks.segments):
        mask = masks.of(segment)
        for frame, z in enumerate(planes):
            if z is not None:
                pixels[frame, :, :, number] = mask[z]
    return pixels


def blank_reference(instance: Instance) -> Dataset:
    """Returns a dataset with the instance's UIDs and an empty patient: enough to refer to it."""
    image = Dataset()
    image.SOPClassUID = instance.sop_class_uid
    image.SOPInstanceUID = instance.sop_instance_uid
    image.StudyInstanceUID = instance.study_instance_uid
    image.SeriesInstanceUID = instance.series_instance_uid
    image.Modality = instance.modality
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex"):
        setattr(image, keyword, "")
    for keyword in ("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"):
        setattr(image, keyword, "")
    return image


def _settle_dimension_organization(segmentation: Dataset, uid: str) -> None:
    """Replaces the random UID that highdicom gives the dimensions. Source: PS3.3 C.7.6.17."""
    organization = Dataset()
    organization.DimensionOrganizationUID = uid
    segmentation.DimensionOrganizationSequence = Sequence([organization])
    for index in segmentation.DimensionIndexSequence:
        index.DimensionOrganizationUID = uid
