"""Pictures of the report as Secondary Capture images, for the many viewers that show neither SR nor SEG."""

from io import BytesIO
from typing import Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import SecondaryCaptureImageStorage

from node.report import codes
from node.report.header import Envelope, SeriesPlace, stamp
from node.report.sources import ReportSources

PLACE: Final = SeriesPlace(kind="SC", modality="OT", series_number=9812, title="MMF report pages")
"""Where the pictures stand in the study (number OURS)."""

CAPTURED_PAGES: Final = 2
"""The summary and the key slices (dicom notes, section 6)."""


def capture_pages(
    envelope: Envelope, sources: ReportSources, pictures: tuple[bytes, ...]
) -> tuple[Dataset, ...]:
    """Returns one Secondary Capture image per page, colour, uncompressed, all in one series.

    Args:
        envelope: what the result's objects share.
        sources: the instance that stands for the study.
        pictures: PNG of each page, in order; the first two are taken.

    Source: PS3.3 A.8.1 (Secondary Capture Image IOD), C.8.6.1, C.7.6.1, C.7.6.3.
    """
    return tuple(
        _capture(envelope, sources, picture, number)
        for number, picture in enumerate(pictures[:CAPTURED_PAGES], start=1)
    )


def _capture(envelope: Envelope, sources: ReportSources, picture: bytes, number: int) -> Dataset:
    from PIL import Image

    pixels = np.asarray(Image.open(BytesIO(picture)).convert("RGB"))
    image = Dataset()
    image.SOPClassUID = SecondaryCaptureImageStorage
    stamp(image, envelope, PLACE, sop_instance_uid=envelope.uid("instance", PLACE.kind, str(number)))
    image.InstanceNumber = number
    image.BodyPartExamined = "ABDOMEN"
    image.ConversionType = "WSD"
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.PatientOrientation = ""
    image.BurnedInAnnotation = "YES"
    image.RecognizableVisualFeatures = "NO"
    image.DerivationDescription = f"{codes.RESEARCH_USE}: page {number} of the report"
    image.LossyImageCompression = "00"
    reference = Dataset()
    reference.ReferencedSOPClassUID = sources.instance.sop_class_uid
    reference.ReferencedSOPInstanceUID = sources.instance.sop_instance_uid
    reference.PurposeOfReferenceCodeSequence = Sequence([codes.item(codes.SOURCE_IMAGE)])
    image.SourceInstanceSequence = Sequence([reference])
    image.SamplesPerPixel = 3
    image.PhotometricInterpretation = "RGB"
    image.PlanarConfiguration = 0
    image.Rows, image.Columns = pixels.shape[:2]
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 8, 8, 7, 0
    encoded = pixels.tobytes()
    image.PixelData = encoded + b"\x00" * (len(encoded) % 2)
    return image
