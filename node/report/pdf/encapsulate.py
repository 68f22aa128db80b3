"""The Encapsulated PDF object."""

from typing import Final

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EncapsulatedPDFStorage

from node.report import codes
from node.report.header import Envelope, SeriesPlace, stamp
from node.report.pdf.document import TITLE
from node.report.sources import ReportSources
from node.study import Instance

PLACE: Final = SeriesPlace(kind="PDF", modality="DOC", series_number=9811, title="MMF report")
"""Where the PDF stands in the study (number OURS)."""


def encapsulate_pdf(envelope: Envelope, sources: ReportSources, pdf: bytes) -> Dataset:
    """Returns the Encapsulated PDF object.

    Args:
        envelope: what the result's objects share.
        sources: its acquisitions are the document's source instances.
        pdf: the document.

    Source: PS3.3 A.45.1 (Encapsulated PDF IOD), C.24.1, C.24.2. The name stands on the page, so Burned In Annotation
    is YES. The title's code is private: a LOINC report code would file it as the radiology report.
    """
    document = Dataset()
    document.SOPClassUID = EncapsulatedPDFStorage
    stamp(document, envelope, PLACE, sop_instance_uid=envelope.uid("instance", PLACE.kind))
    document.ConversionType = "WSD"
    document.AcquisitionDateTime = ""
    document.BurnedInAnnotation = "YES"
    document.RecognizableVisualFeatures = "NO"
    document.VerificationFlag = "UNVERIFIED"
    document.DocumentTitle = f"{TITLE} ({codes.RESEARCH_USE})"
    document.ConceptNameCodeSequence = Sequence([codes.item(codes.REPORT_DOCUMENT)])
    instances = [instance for used in sources.used for instance in used.acquisition.instances]
    document.SourceInstanceSequence = Sequence(
        [_reference(instance) for instance in instances or [sources.instance]]
    )
    document.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document.EncapsulatedDocumentLength = len(pdf)
    document.EncapsulatedDocument = pdf + b"\x00" * (len(pdf) % 2)
    return document


def _reference(instance: Instance) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = instance.sop_class_uid
    reference.ReferencedSOPInstanceUID = instance.sop_instance_uid
    return reference
