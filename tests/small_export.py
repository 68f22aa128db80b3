"""Small finished studies for the export's tests: true names and dates in the headers, cubes of noise as volumes."""

from datetime import date, datetime

import numpy as np
import SimpleITK as sitk

from engines.case import Case, CaseIdentity, PhaseSource, check_case, seal_case, write_image, write_transform
from engines.clinical.table import ClinicalRow
from engines.clinical.variables import ClinicalVariables, Value, Variable
from engines.phase import ASSESSED_PHASES, REFERENCE_PHASE
from engines.volume import Grid, Volume
from node.cohort.case import ResultUse
from node.cohort.sources import FoundStudy, Prepared
from node.study import CT_IMAGE_STORAGE, Instance, Patient, Study

SIDE = 12


def make_patient(number, issuer="HOSPITAL-EAST"):
    return Patient(
        patient_id=f"MRN-00{number}-4711",
        issuer_of_patient_id=issuer,
        patient_name=f"Mustermann^Erika{number}",
        patient_birth_date=date(1950 + number, 3, 17),
        patient_sex="F",
    )


def make_row(number, start=date(2024, 5, 20), **changes):
    known = {
        "row": number + 1,
        "patient_id": f"MRN-00{number}-4711",
        "issuer": "HOSPITAL-EAST",
        "birth_date": date(1950 + number, 3, 17),
        "treatment_start": start,
        "laboratory_dates": {},
        "variables": ClinicalVariables(
            values={
                Variable.AGE: Value(category=">50", number=97.0),
                Variable.SEX: Value(category="female"),
                Variable.CHILD_PUGH: Value(category="A"),
            }
        ),
    }
    return ClinicalRow(**{**known, **changes})


def make_study(folder, number, *, study=1, day=date(2024, 5, 6), seed=None, patient=None, refusal=""):
    """A study that was assessed: its images' headers, and its case folder, which ``make`` gives."""
    uid = f"1.2.840.99999.{number}.{study}"
    patient = patient or make_patient(number)
    files = folder / f"dicom-{number}-{study}"
    files.mkdir(parents=True)
    images = []
    for index, phase in enumerate(ASSESSED_PHASES):
        path = files / f"{phase.value}.dcm"
        path.write_bytes(f"{patient.patient_name} {uid} {phase}".encode())
        images.append(
            Instance(
                path=path,
                sop_class_uid=CT_IMAGE_STORAGE,
                sop_instance_uid=f"{uid}.{index}.1",
                study_instance_uid=uid,
                series_instance_uid=f"{uid}.{index}",
                modality="CT",
                manufacturer="SYNTHETIC",
                kvp=120.0,
                rows=SIDE,
                columns=SIDE,
                pixel_spacing_mm=(2.0, 2.0),
                acquired_at=datetime.combine(day, datetime.min.time()),
                patient=patient,
            )
        )

    def make(row, progress):
        progress("check")
        if refusal:
            return Prepared(refusal=refusal)
        case = Case(folder=folder / f"case-{number}-{study}")
        write_small_case(case, uid, seed if seed is not None else number * 100 + study)
        _, identity = check_case(case.folder)
        return Prepared(case=case, identity=identity)

    return FoundStudy(
        name=f"job {number}{study}",
        study=Study(study_instance_uid=uid, instances=tuple(images)),
        images=tuple(images),
        make=make,
        discard=lambda: None,
        result=ResultUse(shown=True, model="mmf 1"),
    )


def write_small_case(case, uid, seed):
    """A case as the pipeline leaves it, in miniature."""
    random = np.random.default_rng(seed)
    grid = Grid(shape=(SIDE, SIDE, SIDE), spacing_mm=(4.0, 2.0, 2.0), origin_mm=(0.0, 0.0, 0.0))
    for phase in ASSESSED_PHASES:
        volume = Volume(array=random.normal(60, 20, grid.shape).astype(np.int16), grid=grid)
        write_image(volume, case.volume_path(phase))
        if phase != REFERENCE_PHASE:
            write_transform(sitk.TranslationTransform(3), case.transform_path(phase))
    liver = np.zeros(grid.shape, np.uint8)
    liver[3:9, 3:9, 3:9] = 1
    write_image(Volume(array=liver, grid=grid), case.mask_path("liver"))
    write_image(Volume(array=np.zeros_like(liver), grid=grid), case.mask_path("lesions"))
    (case.folder / "steps").mkdir(exist_ok=True)
    (case.folder / "steps" / "enhancement.json").write_text(f'{{"step": "{uid}"}}')
    identity = CaseIdentity(
        case_id="unkeyed",
        patient_key="unkeyed",
        study=uid,
        synthetic=True,
        mask_provider="baseline 1",
        phases={phase: PhaseSource(series=f"{uid}.{i}") for i, phase in enumerate(ASSESSED_PHASES)},
    )
    seal_case(case, identity)
