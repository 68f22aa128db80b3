"""Is a study one patient's CT, and is every image of it there in one version alone? From headers; files are only hashed."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from engines.case import hash_file
from node.report.record import NotAssessable, ReasonCode
from node.study import CT_STORAGE, Instance


def judge_study(received: Sequence[Instance]) -> NotAssessable | None:
    """Returns why the instances of one Study Instance UID are no study that could be assessed, None when they are.

    Args:
        received: every instance but results of ours; multi-frame CT frame by frame.
    """
    images = [instance for instance in received if instance.sop_class_uid in CT_STORAGE]
    if not images:
        return NotAssessable(code=ReasonCode.NO_CT, reason=_tell_others(received))
    return _judge_patients(images) or _judge_versions(images)


def flag_names(images: Sequence[Instance]) -> tuple[str, ...]:
    """Returns a flag when one patient identifier goes with several names: often one spelt twice, sometimes two people.

    Args:
        images: the CT images of the study. Case, spaces and the scripts beside the first are not compared.
    """
    names = {
        " ".join(image.patient.patient_name.partition("=")[0].replace("^", " ").casefold().split())
        for image in images
    }
    count = len(names - {""})
    if count < 2:
        return ()
    return (f"the images carry {count} different patient names under one identifier: are all of one person?",)


def _tell_others(received: Sequence[Instance]) -> str:
    kinds = Counter(
        (instance.modality or "no modality", instance.sop_class_uid, instance.number_of_frames)
        for instance in received
    )
    told = ", ".join(
        f"{count} of {modality} (SOP class {sop_class}{f', {frames} frames' if frames > 1 else ''})"
        for (modality, sop_class, frames), count in sorted(kinds.items())
    )
    return f"the study holds no CT image{f': {told}' if told else ''}"


def _judge_patients(images: Sequence[Instance]) -> NotAssessable | None:
    """One patient has one identifier, and one birth date and sex where they are told; without identifiers, one name."""
    patients = {image.patient for image in images}
    identifiers = {patient.patient_id for patient in patients}
    faults = [
        f"{len(values)} different {name}"
        for name, values in (
            ("patient identifiers", identifiers),
            (
                "issuers of the patient identifier",
                _known(patient.issuer_of_patient_id for patient in patients),
            ),
            ("birth dates", _known(patient.patient_birth_date for patient in patients)),
            ("sexes", _known(patient.patient_sex for patient in patients)),
            (
                "patient names without an identifier",
                set() if any(identifiers) else _known(patient.patient_name for patient in patients),
            ),
        )
        if len(values) > 1
    ]
    if not faults:
        return None
    return NotAssessable(
        code=ReasonCode.SEVERAL_PATIENTS, reason=f"{', '.join(faults)} under one Study Instance UID"
    )


def _known(values: Iterable[object]) -> set[object]:
    return {value for value in values if value}


def _judge_versions(images: Sequence[Instance]) -> NotAssessable | None:
    """Two files of one SOP Instance UID are two versions of an image, unless they are the same to the byte."""
    files: dict[str, set[Path]] = {}
    for image in images:
        files.setdefault(image.sop_instance_uid, set()).add(image.path)
    split = [
        uid for uid, paths in files.items() if len(paths) > 1 and len({hash_file(path) for path in paths}) > 1
    ]
    if not split:
        return None
    more = f" and {len(split) - 1} more" if len(split) > 1 else ""
    return NotAssessable(
        code=ReasonCode.CONFLICTING_INSTANCES,
        reason=f"SOP Instance UID {split[0]}{more} was received with different content; all versions are kept",
    )
