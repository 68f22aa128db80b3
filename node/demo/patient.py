"""The synthetic patient of the demonstration: images as a scanner makes them, a clinical row, and the truth."""

import csv
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from engines.clinical.table import VARIABLE_COLUMNS
from engines.clinical.variables import Variable
from engines.phantom.anatomy import abdomen_grid, draw_anatomy, render_masks, render_phase
from engines.phantom.cohort import SyntheticPatient, draw_cohort
from engines.phase import Phase
from node.dicom.scanner import SeriesPlan, StudyPlan, write_dose_report, write_scout, write_series
from node.study import Patient

COHORT_SEED = 20250923
"""Of the cohort the demonstration's patients are drawn from; the demonstration models never saw it."""
INJECTED_AT = datetime(2026, 3, 2, 9, 30, 0)
TREATMENT_START = date(2026, 3, 16)
SECONDS_AFTER_INJECTION = {Phase.ARTERIAL: 32.0, Phase.PORTAL_VENOUS: 68.0, Phase.DELAYED: 180.0}
"""Source: supplement, CT imaging protocol (portal venous 60-75 s, delayed 150-180 s; arterial by bolus tracking)."""
NATIVE_BEFORE_SECONDS = 95.0
BREATHING_SHIFT_MM = {
    Phase.PRE_CONTRAST: (0.0, 1.0, -4.0),
    Phase.ARTERIAL: (1.0, -1.5, 7.0),
    Phase.PORTAL_VENOUS: (0.0, 0.0, 0.0),
    Phase.DELAYED: (-1.0, 1.0, -6.0),
}
"""How far the breath moved the organs against the portal venous phase, (x, y, z) LPS, mm (OURS)."""
CONTRAST_AGENT = "SYNTHETIC Iohexol 300"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoStudy:
    """What the scanner will send, and what is true of it.

    Attributes:
        liver_ml: true liver volume, tumours included.
        tumours_ml: true volume of all tumours.
        tumours: true number of tumours.
        longest_diameter_mm: of the largest tumour.
    """

    folder: Path
    clinical_table: Path
    study_instance_uid: str
    patient: SyntheticPatient
    phase_of_series: dict[str, Phase]
    liver_ml: float
    tumours_ml: float
    tumours: int
    longest_diameter_mm: float


def write_demo_study(folder: Path, number: int) -> DemoStudy:
    """Writes the study of one synthetic patient: native, three phases, a bone-kernel duplicate, a scout, a dose report.

    Args:
        folder: made when missing; gets ``scanner/*.dcm`` and ``clinical.csv``.
        number: which patient of the demonstration's cohort, from 0; the same number gives the same study.
    """
    patient = draw_cohort(number + 1, COHORT_SEED)[number]
    anatomy = draw_anatomy(patient.traits)
    grid = abdomen_grid()
    study = StudyPlan(
        seed=f"demonstration {COHORT_SEED} {number}",
        study_at=INJECTED_AT - timedelta(minutes=10),
        accession_number=f"DEMO{number:04d}",
        patient=Patient(
            patient_id=f"PHANTOM-{number:04d}",
            issuer_of_patient_id="MMF-SYNTHETIC",
            patient_name="Wang^XiaoDong=王^小东",
            patient_birth_date=_birth_date(patient),
            patient_sex="M" if _category(patient, Variable.SEX) == "male" else "F",
        ),
    )
    scanner = folder / "scanner"
    phases: dict[str, Phase] = {}
    for index, phase in enumerate(Phase):
        volume = render_phase(anatomy, phase, grid, breathing_shift_mm=BREATHING_SHIFT_MM[phase])
        after = SECONDS_AFTER_INJECTION.get(phase, -NATIVE_BEFORE_SECONDS)
        plan = SeriesPlan(
            study=study,
            series_number=3 + index,
            acquisition_number=2 + index,
            acquired_at=INJECTED_AT + timedelta(seconds=after),
            series_description=f"SYNTHETIC {_DESCRIPTIONS[phase]} 4.0",
            contrast_bolus_agent=CONTRAST_AGENT,
            bolus_start_at=None if phase == Phase.PRE_CONTRAST else INJECTED_AT,
        )
        write_series(volume, plan, scanner)
        phases[plan.series_instance_uid] = phase
        if phase == Phase.PRE_CONTRAST:
            write_scout(volume, _scout_plan(study), scanner)
        if phase == Phase.PORTAL_VENOUS:
            write_series(volume, _bone_plan(plan), scanner)
    write_dose_report(
        SeriesPlan(
            study=study,
            series_number=999,
            acquired_at=INJECTED_AT + timedelta(minutes=5),
            series_description="SYNTHETIC dose report",
        ),
        scanner,
    )
    table = folder / "clinical.csv"
    _write_clinical_row(patient, study.patient, table)
    liver, lesions = render_masks(anatomy, grid)
    return DemoStudy(
        folder=scanner,
        clinical_table=table,
        study_instance_uid=study.study_instance_uid,
        patient=patient,
        phase_of_series=phases,
        liver_ml=float(liver.array.astype(bool).sum()) * grid.voxel_volume_ml,
        tumours_ml=float((lesions.array > 0).sum()) * grid.voxel_volume_ml,
        tumours=len(anatomy.tumours),
        longest_diameter_mm=anatomy.tumours[0].longest_diameter_mm,
    )


_DESCRIPTIONS = {
    Phase.PRE_CONTRAST: "Liver native",
    Phase.ARTERIAL: "Liver arterial",
    Phase.PORTAL_VENOUS: "Liver portal venous",
    Phase.DELAYED: "Liver delayed 3 min",
}


def _scout_plan(study: StudyPlan) -> SeriesPlan:
    return SeriesPlan(
        study=study,
        series_number=1,
        acquisition_number=1,
        acquired_at=INJECTED_AT - timedelta(minutes=4),
        series_description="SYNTHETIC scout",
    )


def _bone_plan(portal: SeriesPlan) -> SeriesPlan:
    return SeriesPlan(
        study=portal.study,
        series_number=20,
        acquisition_number=portal.acquisition_number,
        acquired_at=portal.acquired_at,
        series_description="SYNTHETIC bone 4.0",
        contrast_bolus_agent=portal.contrast_bolus_agent,
        bolus_start_at=portal.bolus_start_at,
        convolution_kernel="BONE",
        reconstructed_after_seconds=60.0,
    )


def _birth_date(patient: SyntheticPatient) -> date:
    age = patient.clinical.get(Variable.AGE)
    years = int(age.number) if age is not None and age.number is not None else 60
    return date(TREATMENT_START.year - years, 1, 15)


def _category(patient: SyntheticPatient, variable: Variable) -> str:
    value = patient.clinical.get(variable)
    return "" if value is None else value.category


def _write_clinical_row(synthetic: SyntheticPatient, identity: Patient, path: Path) -> None:
    """Writes the documented clinical CSV; a cell holds the measured number where there is one."""
    row = {
        "patient_id": identity.patient_id,
        "issuer": identity.issuer_of_patient_id,
        "birth_date": identity.patient_birth_date.isoformat() if identity.patient_birth_date else "",
        "treatment_start": TREATMENT_START.isoformat(),
    }
    for variable, column in VARIABLE_COLUMNS.items():
        value = synthetic.clinical.get(variable)
        row[column] = "" if value is None else value.text()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        writer.writeheader()
        writer.writerow(row)
