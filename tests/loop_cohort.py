"""Synthetic patients as exported cases, as a clinical table and as an outcomes table: the bulk of the loop's cohort."""

import csv
from datetime import date, timedelta

import numpy as np

from engines.acquisition import CtProtocol, write_protocol
from engines.case import Case, CaseIdentity, seal_case, write_array, write_json
from engines.clinical.variables import encode_variables
from engines.endpoint import Endpoint
from engines.network_input import Preprocessing
from engines.phantom.cohort import draw_cohort
from node.cohort.linkage import Linkage, LinkedCase
from node.cohort.outcomes import COLUMNS, DAYS_PER_MONTH

CUT = date(2026, 4, 1)
LAG_DAYS = 30
FREEZE = CUT + timedelta(days=LAG_DAYS)
ISSUER = "SYNTHETIC-HOSPITAL"
CENTRES = ("site-a", "site-b")
LONGEST_MONTHS = 48.0


def draw_patients(n, seed):
    """n synthetic patients with the day of their first dose, so that who is alive was seen at the cut."""
    random = np.random.default_rng([seed, 99])
    patients = []
    for patient in draw_cohort(n, seed, measured=False):
        survival = patient.follow_up[Endpoint.OS]
        potential = survival.months
        if survival.event:
            potential = random.uniform(max(12.0, survival.months), LONGEST_MONTHS)
        start = CUT - timedelta(days=round(potential * DAYS_PER_MONTH))
        patients.append((patient, start))
    return patients


def add_cases(cohort, linkage_folder, patients, inputs):
    """Writes sealed cases as an export leaves them, without volumes, and links them in the site's register."""
    linkage = Linkage.open(linkage_folder)
    for number, ((patient, start), array) in enumerate(zip(patients, inputs, strict=True)):
        name = name_patient(patient)
        linked = linkage.patient(name, ISSUER)
        linkage.note_start(linked, start)
        uid = f"2.25.{patient.traits.seed}"
        case_id = linkage.pseudonyms.case_id(uid)
        case = Case(folder=cohort / case_id)
        write_array(array, case.network_input_path)
        write_json(encode_variables(patient.clinical), case.folder / "clinical.json")
        write_protocol(CtProtocol(centre=CENTRES[number % len(CENTRES)]), case.folder)
        seal_case(
            case,
            CaseIdentity(
                case_id=case_id,
                patient_key=linked.key,
                study=linkage.pseudonyms.uid(uid),
                synthetic=True,
                phases={},
            ),
        )
        linkage.cases[case_id] = LinkedCase(
            case_id=case_id,
            patient_key=linked.key,
            study_instance_uid=uid,
            examined_on=start - timedelta(days=14),
        )
    linkage.save()


def write_cohort_record(cohort, side):
    """cohort.json as an export writes it."""
    from engines.clinical.table import ClinicalTable
    from node.cohort.export import ExportPlan, open_cohort

    open_cohort(
        ExportPlan(cohort=cohort, preprocessing=Preprocessing(side=side), table=ClinicalTable(rows=()))
    )


def write_outcomes(path, patients, extra=()):
    """The outcomes table of these patients; whoever is alive was seen at the cut. ``extra`` rows are added."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS)
        writer.writeheader()
        for patient, start in patients:
            days = {
                endpoint: start + timedelta(days=round(follow.months * DAYS_PER_MONTH))
                for endpoint, follow in patient.follow_up.items()
            }
            died = patient.follow_up[Endpoint.OS].event
            first = patient.follow_up[Endpoint.PFS]
            progressed = first.event and not (died and days[Endpoint.PFS] == days[Endpoint.OS])
            row = {"patient_id": name_patient(patient), "issuer": ISSUER, "treatment_start": start}
            if died:
                row["death"] = days[Endpoint.OS]
            else:
                row["last_contact"] = days[Endpoint.OS]
            if progressed:
                row["progression"] = days[Endpoint.PFS]
            if not first.event:
                row["last_imaging"] = days[Endpoint.PFS]
            writer.writerow(row)
        for row in extra:
            writer.writerow(row)


def name_patient(patient):
    return f"PHANTOM-{patient.traits.seed}"


def draw_balls(patients, side, seed=0):
    """Inputs that show the latents crudely and cost nothing: a bright ball whose size and texture are the patient's."""
    random = np.random.default_rng(seed)
    axes = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij")) - side / 2
    radius = np.sqrt((axes**2).sum(0))
    inputs = np.empty((len(patients), 3, side, side, side), dtype=np.float16)
    for row, (patient, _) in enumerate(patients):
        traits = patient.traits
        ball = radius < side * (0.2 + 0.06 * np.clip(traits.burden, -2, 2))
        volume = np.full((3, side, side, side), 0.5) + random.normal(0, 0.02, (3, side, side, side))
        volume[0][ball] += 0.15 + 0.08 * traits.enhancement
        volume[1][ball] -= 0.1 + 0.1 * traits.heterogeneity * random.choice([-1, 1], ball.sum())
        volume[2][ball] -= 0.15 + 0.08 * traits.washout
        inputs[row] = np.clip(volume, 0, 1)
    return inputs
