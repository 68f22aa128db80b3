"""A small synthetic cohort with everything that evaluation reads of a case folder: no patient, images are noise with a ball."""

import csv

import numpy as np

from engines.acquisition import CtProtocol, PhaseProtocol, write_protocol
from engines.case import Case, CaseIdentity, PhaseSource, seal_case, write_array, write_image, write_json
from engines.clinical.regimen import parse_regimen
from engines.clinical.response import Response
from engines.clinical.treatment import Treatment, write_treatment
from engines.clinical.variables import encode_variables
from engines.endpoint import Endpoint
from engines.phantom.cohort import draw_cohort
from engines.phase import ASSESSED_PHASES, Phase
from engines.radiomics.feature_file import COLUMNS
from engines.volume import Grid, Volume

REGIMENS = ("camrelizumab+apatinib", "sintilimab+lenvatinib", "atezolizumab+bevacizumab")
FEATURES = (
    ("liver", Phase.ARTERIAL, "original_glrlm_GrayLevelNonUniformity"),
    ("liver", Phase.PORTAL_VENOUS, "original_firstorder_InterquartileRange"),
    ("tumour", Phase.ARTERIAL, "original_glszm_ZoneEntropy"),
    ("tumour", Phase.DELAYED, "original_glcm_Imc1"),
    ("tumour", None, "original_shape_MeshVolume"),
)


def write_evaluation_cohort(folder, n, *, seed=0, side=32, parts=(0.55, 0.2), centres=("c1", "c2")):
    """Writes n sealed cases, splits.csv and exclusions.csv; returns the synthetic patients.

    ``parts`` are the shares of training and validation, the rest is testing.
    """
    patients = draw_cohort(n, seed, measured=False)
    random = np.random.default_rng([seed, 5])
    axes = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"))
    words = []
    for number, patient in enumerate(patients):
        case = Case(folder=folder / f"case-{seed}-{number:03d}")
        risk = patient.log_hazard[Endpoint.OS]
        volume = 0.5 + random.normal(0, 0.05, (3, side, side, side))
        ball = ((axes - side / 2) ** 2).sum(0) < (side * np.clip(0.12 + 0.05 * risk, 0.04, 0.4)) ** 2
        volume[:, ball] += np.array([0.2, -0.1, -0.15])[:, None]
        write_array(np.clip(volume, 0, 1).astype(np.float16), case.network_input_path)
        write_json(encode_variables(patient.clinical), case.folder / "clinical.json")
        follow = {
            endpoint.value.lower(): {"months": entry.months, "event": entry.event}
            for endpoint, entry in patient.follow_up.items()
        }
        write_json(follow, case.folder / "outcomes.json")
        _write_features(case, risk, random)
        _write_context(case, centres[number % len(centres)], risk, random)
        liver = np.zeros((10, 12, 14), dtype=np.uint8)
        liver[2 : 6 + number % 3, 3:9, 4:10] = 1
        grid = Grid(shape=liver.shape, spacing_mm=(5.0, 20.0, 20.0), origin_mm=(0.0, 0.0, 0.0))
        write_image(Volume(array=liver, grid=grid), case.mask_path("liver"))
        share = number / n
        words.append("training" if share < parts[0] else "validation" if share < sum(parts) else "testing")
        identity = CaseIdentity(
            case_id=case.folder.name,
            patient_key=f"patient-{seed}-{number:03d}",
            study=f"study-{seed}-{number}",
            synthetic=True,
            mask_provider="phantom 1",
            phases={
                phase: PhaseSource(series=f"series-{number}-{phase.value}", seconds_after_injection=seconds)
                for phase, seconds in zip(ASSESSED_PHASES, (30.0, 70.0, 170.0), strict=True)
            },
        )
        seal_case(case, identity)
    names = sorted(path.parent.name for path in folder.glob("*/case.json"))
    lines = [f"{name},{word}" for name, word in zip(names, words, strict=True)]
    (folder / "splits.csv").write_text("\n".join(["case_id,split", *lines]) + "\n")
    (folder / "exclusions.csv").write_text(
        "study,reason\ns1,no delayed phase\ns2,no delayed phase\ns3,scan too old\n"
    )
    return patients


def _write_features(case, risk, random):
    """features.csv, of which the first two follow the hazard and the rest are noise."""
    with case.features_path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for place, (region, phase, name) in enumerate(FEATURES):
            value = random.normal() + (risk if place < 2 else 0.0)
            rows.writerow(
                [
                    region,
                    phase.value if phase else "",
                    name,
                    repr(float(value)),
                    "0" * 64,
                    "grid",
                    "fast",
                    "phantom",
                    "1",
                ]
            )


def _write_context(case, centre, risk, random):
    """acquisition.json (a quarter of the delayed phases at 80 kV) and treatment.json."""
    phases = {
        phase: PhaseProtocol(
            manufacturer="MAKER",
            model=f"Scanner {centre}",
            kvp=80.0 if phase is Phase.DELAYED and random.random() < 0.25 else 120.0,
            tube_current_ma=300.0,
            slice_thickness_mm=5.0 if centre == "c1" else 2.5,
            matrix=(512, 512),
            field_of_view_mm=(400.0, 400.0),
        )
        for phase in ASSESSED_PHASES
    }
    write_protocol(CtProtocol(centre=centre, phases=phases), case.folder)
    response = Response.PARTIAL if risk + random.normal() < 0 else Response.STABLE
    treatment = Treatment(
        regimen=parse_regimen(str(random.choice(REGIMENS))), response=response, aetiology="HBV"
    )
    write_treatment(treatment, case.folder)
