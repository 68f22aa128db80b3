"""A small synthetic three-phase study (no patient): coarse enough to be assessed in seconds by the real pipeline."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from engines.phantom.anatomy import abdomen_grid, draw_anatomy, render_phase
from engines.phantom.cohort import draw_cohort
from engines.phase import ASSESSED_PHASES
from node.demo.patient import BREATHING_SHIFT_MM, CONTRAST_AGENT, INJECTED_AT, SECONDS_AFTER_INJECTION
from node.dicom.scanner import SeriesPlan, StudyPlan, write_series
from node.study import Patient

COHORT_SEED = 77
COLUMNS, SLICES, PIXEL_MM, SLICE_MM = 112, 40, 3.2, 5.0


@dataclass(frozen=True)
class SmallStudy:
    """Where the files lie, and which study they are."""

    study_instance_uid: str
    folder: Path
    paths: tuple[Path, ...]


def write_small_study(folder: Path, number: int) -> SmallStudy:
    """Writes study ``number``: arterial, portal venous and delayed series of 40 slices of 112 x 112."""
    patient = draw_cohort(number + 1, COHORT_SEED)[number]
    anatomy = draw_anatomy(patient.traits)
    grid = abdomen_grid(pixel_mm=PIXEL_MM, slice_mm=SLICE_MM, columns=COLUMNS, slices=SLICES)
    study = StudyPlan(
        seed=f"small study {COHORT_SEED} {number}",
        study_at=INJECTED_AT - timedelta(minutes=10),
        accession_number=f"SMALL{number:04d}",
        patient=Patient(
            patient_id=f"SMALL-{number:04d}",
            issuer_of_patient_id="MMF-SYNTHETIC",
            patient_name="Synthetic^Small",
            patient_birth_date=None,
            patient_sex="O",
        ),
    )
    paths = []
    for index, phase in enumerate(ASSESSED_PHASES):
        volume = render_phase(anatomy, phase, grid, breathing_shift_mm=BREATHING_SHIFT_MM[phase])
        plan = SeriesPlan(
            study=study,
            series_number=2 + index,
            acquisition_number=2 + index,
            acquired_at=INJECTED_AT + timedelta(seconds=SECONDS_AFTER_INJECTION[phase]),
            series_description=f"SYNTHETIC liver {phase.value.lower().replace('_', ' ')} 5.0",
            contrast_bolus_agent=CONTRAST_AGENT,
            bolus_start_at=INJECTED_AT,
        )
        paths += write_series(volume, plan, folder)
    return SmallStudy(study_instance_uid=study.study_instance_uid, folder=folder, paths=tuple(paths))
