"""All objects of one result, written, read back and checked: SEG, SR, PDF, page pictures and report.json."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from engines.phase import Phase
from engines.plots import SurvivalCurve
from node.report.header import Envelope, list_undecoded, localise, read_source
from node.report.json_form import write_json
from node.report.record import ObjectEntry, Report
from node.report.segments import PhaseMasks, draw_masks, list_segments
from node.report.sources import ReportSources
from node.report.uids import digest_report
from node.report.validate import validate_object

REPORT_NAME: Final = "report.json"
PDF_NAME: Final = "report.pdf"
OBJECTS_FOLDER: Final = "dicom"
PAGES_FOLDER: Final = "pages"

_FILE_MODE: Final = 0o640
"""Results hold patient data: nobody outside the group reads them (dicom notes, section 5)."""


def write_objects(report: Report, sources: ReportSources, out: Path, *, capture: bool = True) -> Report:
    """Returns the report with its objects, after writing all of them under ``out``.

    Written are ``dicom/SEG_<PHASE>.dcm`` for each acquisition used (where something was outlined), ``dicom/SR.dcm``,
    ``dicom/PDF.dcm``, ``dicom/SC_<n>.dcm``, ``report.pdf``, ``pages/page-<n>.png`` and ``report.json``. The same report
    and sources give the same UIDs and bytes; a report that says the same at another time gives the same UIDs. A patient
    attribute that cannot be decoded adds a flag to the report.

    Args:
        report: the conclusion; its ``objects`` are replaced.
        sources: what the objects are drawn from.
        out: folder, made when absent; files of an earlier run are replaced.
        capture: also write pictures of the first pages as Secondary Capture images.

    Raises:
        GeometryMismatch: a volume or mask does not lie on its slices.
        ObjectInvalid: an object did not pass its checks; report.json is not written.
        InvalidInput: the report does not fit its schema.
    """
    from node.report.capture import capture_pages
    from node.report.pdf.document import picture_pages, write_pdf
    from node.report.pdf.encapsulate import encapsulate_pdf
    from node.report.seg import build_segmentation
    from node.report.sr.document import build_document

    source = read_source(sources.instance)
    report = replace(report, flags=tuple(dict.fromkeys((*report.flags, *list_undecoded(source)))))
    segments = list_segments(report) if sources.liver is not None else ()
    masks = {used.phase: draw_masks(segments, sources, used) for used in sources.used} if segments else {}
    envelope = Envelope(
        report=report,
        source=source,
        digest=digest_report(report, *_source_digests(sources, source, masks)),
        concluded=localise(report.concluded_at, source),
    )
    segmentations = {
        used.phase: build_segmentation(envelope, used, masks[used.phase])
        for used in sources.used
        if used.phase in masks and not masks[used.phase].empty
    }
    document = build_document(envelope, sources, masks, segmentations)
    pdf = write_pdf(envelope, sources, masks)
    objects = [("SEG", f"SEG_{phase.value}", dataset) for phase, dataset in segmentations.items()]
    objects += [("SR", "SR", document), ("PDF", "PDF", encapsulate_pdf(envelope, sources, pdf))]
    pictures = picture_pages(pdf)
    if capture:
        captured = capture_pages(envelope, sources, pictures)
        objects += [("SC", f"SC_{number}", image) for number, image in enumerate(captured, start=1)]
    entries = _write_checked(objects, report, sources, out)
    _write_bytes(out / PDF_NAME, pdf)
    for stale in (out / PAGES_FOLDER).glob("page-*.png"):
        stale.unlink()
    for number, picture in enumerate(pictures, start=1):
        _write_bytes(out / PAGES_FOLDER / f"page-{number}.png", picture)
    complete = replace(report, objects=entries)
    _write_bytes(out / REPORT_NAME, write_json(complete).encode("utf-8"))
    _sync(out)
    return complete


def _source_digests(sources: ReportSources, source: Dataset, masks: dict[Phase, PhaseMasks]) -> list[str]:
    """What the objects hold beyond the report, as digests: patient, slices by UID, masks, curves, activation maps."""
    patient = [
        str(source.get(key, "")) for key in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
    ]
    digests = [_digest("\x00".join(patient).encode("utf-8"))]
    for used in sources.used:
        uids = " ".join(instance.sop_instance_uid for instance in used.acquisition.instances)
        digests.append(_digest(used.phase.value.encode(), uids.encode()))
        drawn = masks.get(used.phase)
        for array in () if drawn is None else (drawn.liver, drawn.lesions):
            digests.append("" if array is None else _digest(np.ascontiguousarray(array).data))
    for cohort in sources.cohort_curves:
        digests.append(_digest(cohort.endpoint.encode(), cohort.group.encode(), *_curve_bytes(cohort.curve)))
    for own in sources.patient_curves:
        digests.append(_digest(own.endpoint.encode(), *_curve_bytes(own.curve)))
    digests += [_digest(" ".join(place).encode()) for place in sources.predecessors]
    if sources.standing is not None:
        digests.append(_digest(b"standing", " ".join(sources.standing).encode()))
    for entry in sources.saliency:
        digests.append(_digest(entry.endpoint.encode(), entry.network.encode(), entry.volume.array.tobytes()))
    return digests


def _curve_bytes(curve: SurvivalCurve) -> list[bytes]:
    arrays = (curve.months, curve.probability, curve.low, curve.high)
    return [np.asarray(array, dtype="<f8").tobytes() for array in arrays if array is not None]


def _digest(*parts: bytes | memoryview) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(memoryview(part).nbytes.to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _write_checked(
    objects: list[tuple[str, str, Dataset]], report: Report, sources: ReportSources, out: Path
) -> tuple[ObjectEntry, ...]:
    known = {instance.sop_instance_uid for used in sources.used for instance in used.acquisition.instances}
    known |= {sources.instance.sop_instance_uid}
    known |= {str(dataset.SOPInstanceUID) for _, _, dataset in objects}
    known |= {document for document, _ in sources.predecessors}
    known |= set() if sources.standing is None else {sources.standing[0]}
    folder = out / OBJECTS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.dcm"):
        stale.unlink()
    entries: list[ObjectEntry] = []
    for kind, name, dataset in objects:
        path = folder / f"{name}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        path.chmod(_FILE_MODE)
        validate_object(path, study_instance_uid=report.study_instance_uid, known_uids=frozenset(known))
        entries.append(
            ObjectEntry(
                kind=kind,
                sop_class_uid=str(dataset.SOPClassUID),
                sop_instance_uid=str(dataset.SOPInstanceUID),
                path=path.relative_to(out).as_posix(),
            )
        )
    return tuple(entries)


def _sync(out: Path) -> None:
    """Brings every file of the result to the disk: a job that says it is built must not lose them in a power cut."""
    folders = [out, out / OBJECTS_FOLDER, out / PAGES_FOLDER]
    files = [path for folder in folders for path in folder.glob("*") if path.is_file()]
    for path in [*files, *folders]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_bytes(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(_FILE_MODE)
