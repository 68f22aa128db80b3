"""A three-phase study from the real pixels of one portal venous series: enhancement changed per phase, own UIDs and times.

The anatomy is real, the arterial and delayed enhancement is not: the objects say SYNTHETIC, as all of the scanner's do.
"""

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from engines.anatomy import find_anatomy
from engines.phase import Phase
from engines.volume import Volume, resample
from node.dicom.headers import read_folder
from node.dicom.scanner import SeriesPlan, StudyPlan, write_series
from node.dicom.volumes import read_volume
from node.phases.acquisitions import split_acquisitions
from node.study import Patient

INJECTED_AT = datetime(2026, 4, 7, 14, 20, 0)
SECONDS = {Phase.ARTERIAL: 35.0, Phase.PORTAL_VENOUS: 72.0, Phase.DELAYED: 185.0}
CHANGE_HU = {
    Phase.ARTERIAL: {
        "aorta": 170,
        "portal_vein": -45,
        "vena_cava": -35,
        "liver": -45,
        "spleen": 10,
        "kidneys": -20,
    },
    Phase.PORTAL_VENOUS: {},
    Phase.DELAYED: {
        "aorta": -35,
        "portal_vein": -40,
        "vena_cava": -15,
        "liver": -15,
        "spleen": -20,
        "kidneys": -20,
    },
}
"""Added to the real HU in each organ: the arterial phase as physiology has it, the delayed phase washed out."""
PATIENT = Patient(
    patient_id="REALPIXELS-1",
    issuer_of_patient_id="MMF-SYNTHETIC",
    patient_name="Wang^XiaoDong=王^小东",
    patient_birth_date=date(1961, 5, 4),
    patient_sex="M",
)


@dataclass(frozen=True)
class RealPixels:
    folder: Path
    clinical_table: Path
    study_instance_uid: str
    phase_of_series: dict[str, Phase]


def write_real_pixels(source: Path, folder: Path) -> RealPixels:
    """Writes the three-phase study made of the series in ``source``."""
    instances, _ = read_folder(source)
    (acquisition,) = split_acquisitions(instances)
    volume = read_volume(acquisition)
    softness = _organs(volume)
    study = StudyPlan(seed="real pixels of CRLM-CT-1006", study_at=INJECTED_AT, patient=PATIENT)
    phases = {}
    for number, (phase, seconds) in enumerate(SECONDS.items(), start=2):
        array = volume.array.astype(np.float32)
        for organ, change in CHANGE_HU[phase].items():
            array += softness[organ] * change
        plan = SeriesPlan(
            study=study,
            series_number=number,
            acquisition_number=number,
            acquired_at=INJECTED_AT + timedelta(seconds=seconds),
            bolus_start_at=INJECTED_AT,
            contrast_bolus_agent="Iohexol",
            series_description=f"SYNTHETIC {phase.value.lower().replace('_', ' ')}",
        )
        write_series(replace(volume, array=np.rint(array).astype(np.int16)), plan, folder / "scanner")
        phases[plan.series_instance_uid] = phase
    table = folder / "clinical.csv"
    table.write_text(
        "patient_id,issuer,birth_date,sex,treatment_start,bclc,child_pugh,cirrhosis,afp_ng_ml,line_of_ici,pvtt,"
        "lung_metastasis,bone_metastasis,lymph_node_metastasis,max_tumour_diameter_cm,number_of_tumours,ecog\n"
        "REALPIXELS-1,MMF-SYNTHETIC,1961-05-04,male,2026-04-20,C,A,absent,35,1,absent,present,absent,absent,6.1,3,0\n"
    )
    return RealPixels(folder / "scanner", table, study.study_instance_uid, phases)


def _organs(volume: Volume) -> dict[str, np.ndarray]:
    """Soft masks of the coarse organs on the native grid, 0 to 1."""
    anatomy = find_anatomy(volume)
    found = {}
    for organ in ("aorta", "portal_vein", "vena_cava", "liver", "spleen", "kidneys"):
        coarse = getattr(anatomy, organ).astype(np.float32)
        if organ in ("aorta", "portal_vein", "vena_cava"):  # what is found lies well inside the vessel
            coarse = ndimage.grey_dilation(coarse, footprint=ndimage.generate_binary_structure(3, 1))
        soft = resample(
            Volume(array=ndimage.gaussian_filter(coarse, 0.5), grid=anatomy.grid),
            volume.grid,
            interpolator=sitk.sitkLinear,
            outside=0.0,
        )
        found[organ] = soft.array
    return found
