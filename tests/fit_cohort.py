"""Synthetic cohorts for the tests of fit: small inputs that show the hazard, clinical variables, features, responses, centres."""

import csv

import numpy as np

from engines.acquisition import CtProtocol, PhaseProtocol, write_protocol
from engines.case import Case, CaseIdentity, seal_case, write_array, write_json
from engines.clinical.examinations import Examination, first_response, write_examinations
from engines.clinical.regimen import parse_regimen
from engines.clinical.response import Lesion
from engines.clinical.treatment import Treatment, write_treatment
from engines.clinical.variables import Variable, encode_variables
from engines.endpoint import Endpoint
from engines.network_input import Preprocessing
from engines.networks.heads import LABELS
from engines.phantom.cohort import LATENT_EFFECTS, draw_cohort
from engines.phase import Phase
from engines.radiomics.feature_file import COLUMNS
from engines.radiomics.origin import FeatureOrigin
from train.clinical_model import CoxSettings
from train.data import Follow, Split, TrainingData
from train.fit_cohort import FitCohort
from train.fit_models import fit_models
from train.fit_plan import FitPlan, draw_cohort_folds
from train.fusion import ForestSettings
from train.radiomic_model import FIXED_FEATURES, FeatureMatrix
from train.recipes import Recipe
from train.response_model import collect_responses

NOISE_FEATURES = 4
NOISE = [f"liver ARTERIAL original_noise_{number}" for number in range(NOISE_FEATURES)]
NAMES = tuple(dict.fromkeys([*FIXED_FEATURES[Endpoint.OS], *FIXED_FEATURES[Endpoint.PFS], *NOISE]))
ORIGIN = FeatureOrigin(
    extractor="fast", settings_sha256="5" * 64, mask_provider="synthetic", mask_version="1"
)
SPLITS = {Split.TRAINING: 40, Split.VALIDATION: 10, Split.TESTING: 12}

FIT_PLAN = FitPlan(
    recipe=Recipe(name="none"),
    folds=2,
    forest=ForestSettings(trees=8),
    clinical=CoxSettings(forest=ForestSettings(trees=8, depth=3)),
)
FIT_SPLITS = {Split.TRAINING: 90, Split.VALIDATION: 20, Split.TESTING: 30}


def make_fit_cohort(splits=None, *, seed=0, side=32, unlabelled=0, images=True):
    """A synthetic FitCohort; ``splits`` maps a split to its number of cases. Without images the inputs are empty."""
    parts = splits or SPLITS
    words = [split for split, count in parts.items() for _ in range(count)] + [Split.UNLABELLED] * unlabelled
    n = len(words)
    patients = draw_cohort(n, seed, measured=False)
    random = np.random.default_rng([seed, 5])
    known = np.array([word is not Split.UNLABELLED for word in words])
    follow = {
        endpoint: Follow(
            months=np.where(known, [p.follow_up[endpoint].months for p in patients], np.nan),
            event=np.where(known, [float(p.follow_up[endpoint].event) for p in patients], np.nan),
        )
        for endpoint in Endpoint
    }
    labels = [[p.clinical.indicator(Variable(label)) for label in LABELS] for p in patients]
    examinations = [_examine(p, random) for p in patients]
    return FitCohort(
        name="synthetic",
        digest=f"{seed:064d}",
        synthetic=True,
        data=TrainingData(
            inputs=render_balls(patients, side, random) if images else np.zeros((n, 3, 1, 1, 1), np.float16),
            case_ids=[f"case-{row:04d}" for row in range(n)],
            patient_keys=[f"patient-{row:04d}" for row in range(n)],
            splits=words,
            os=follow[Endpoint.OS],
            pfs=follow[Endpoint.PFS],
            age_years=np.array([p.clinical.get(Variable.AGE).number for p in patients]),
            labels=np.array(labels, dtype=float),
        ),
        clinical=tuple(p.clinical for p in patients),
        features=FeatureMatrix(names=NAMES, values=_features(patients, random)),
        responses=collect_responses([first_response(one, "case") for one in examinations]),
        groups={
            "centre": tuple("AB"[row % 2] for row in range(n)),
            "regimen": ("camrelizumab+apatinib",) * n,
        },
        preprocessing=Preprocessing(side=side),
        feature_origin=ORIGIN,
    ), examinations


def true_hazards(n, seed, endpoint):
    """The log hazards of the patients of ``make_fit_cohort``."""
    return np.array([p.log_hazard[endpoint] for p in draw_cohort(n, seed, measured=False)])


def render_balls(patients, side, random):
    """A ball in noise: its size is the burden, its three grey values the other latents."""
    axes = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"))
    inputs = np.empty((len(patients), 3, side, side, side), np.float16)
    for row, patient in enumerate(patients):
        traits = patient.traits
        volume = 0.5 + random.normal(0, 0.03, (3, side, side, side))
        radius = side * float(np.clip(0.2 + 0.06 * traits.burden, 0.08, 0.4))
        ball = ((axes - side / 2 + 0.5) ** 2).sum(0) < radius**2
        volume[0][ball] += 0.15 + 0.08 * traits.enhancement
        volume[1][ball] -= 0.15 + 0.08 * traits.heterogeneity
        volume[2][ball] -= 0.15 + 0.08 * traits.washout
        inputs[row] = np.clip(volume, 0, 1)
    return inputs


def write_fit_cohort(folder, cohort, examinations):
    """Writes a cohort of ``make_fit_cohort`` as sealed case folders with splits.csv."""
    for row, case_id in enumerate(cohort.data.case_ids):
        case = Case(folder=folder / case_id)
        write_array(cohort.data.inputs[row], case.network_input_path)
        write_json(encode_variables(cohort.clinical[row]), case.folder / "clinical.json")
        if np.isfinite(cohort.data.os.months[row]):
            outcomes = {
                word: {"months": float(follow.months[row]), "event": bool(follow.event[row])}
                for word, follow in (("os", cohort.data.os), ("pfs", cohort.data.pfs))
            }
            write_json(outcomes, case.folder / "outcomes.json")
        _write_features(case.features_path, cohort.features.values[row])
        write_examinations(examinations[row], case.folder)
        write_treatment(Treatment(regimen=parse_regimen("camrelizumab+apatinib")), case.folder)
        protocol = PhaseProtocol(manufacturer="SYNTHETIC", model="PHANTOM")
        centre = cohort.groups["centre"][row]
        write_protocol(CtProtocol(centre=centre, phases={Phase.PORTAL_VENOUS: protocol}), case.folder)
        seal(folder, case_id, cohort.data.patient_keys[row])
    lines = [
        f"{one},{split.value}" for one, split in zip(cohort.data.case_ids, cohort.data.splits, strict=True)
    ]
    (folder / "splits.csv").write_text("case_id,split\n" + "\n".join(lines) + "\n")


def seal(folder, case_id, patient_key, synthetic=True):
    """Seals a case again after a test has changed it."""
    identity = CaseIdentity(
        case_id=case_id, patient_key=patient_key, study=f"study-{case_id}", synthetic=synthetic, phases={}
    )
    seal_case(Case(folder=folder / case_id), identity)


def imaginary_networks(cohort, seed, unit_names):
    """What networks would say: the imaging part of the true hazard through independent noise, another in each unit."""
    patients = draw_cohort(cohort.n, seed, measured=False)
    said = {}
    for place, unit in enumerate(unit_names):
        random = np.random.default_rng([seed, 9, place])
        said[unit] = {}
        for endpoint in Endpoint:
            effects = LATENT_EFFECTS[endpoint].items()
            seen = np.array([sum(e * getattr(p.traits, name) for name, e in effects) for p in patients])
            said[unit][endpoint] = seen[:, None] + random.normal(0, 0.7, (cohort.n, 3))
    return said


def units_of(plan):
    """Names of the units of a plan."""
    return ["whole", *(f"fold-{number}" for number in range(plan.folds))]


def fit_imaginary(cohort, plan=FIT_PLAN, said=None):
    """Fits everything but the networks of a cohort of seed 4, on what imaginary networks say."""
    fold = draw_cohort_folds(cohort, plan)
    return fit_models(cohort, plan, fold, said or imaginary_networks(cohort, 4, units_of(plan)))


def _examine(patient, random):
    """A baseline and a follow-up whose shrinkage depends on the hazard."""
    before = 40.0 + 20.0 * random.random()
    factor = float(np.clip(0.75 + 0.3 * patient.log_hazard[Endpoint.PFS] + random.normal(0, 0.3), 0.0, 2.0))
    return tuple(
        Examination(
            months=months,
            lesions=(Lesion(name="L1", organ="liver", viable_diameter_mm=diameter),),
        )
        for months, diameter in ((-0.3, before), (2.0, before * factor))
    )


def _features(patients, random):
    """Every listed feature sees a latent through noise, the others are noise."""
    latents = np.array([[p.traits.burden, p.traits.heterogeneity, p.traits.enhancement] for p in patients])
    listed = len(NAMES) - NOISE_FEATURES
    columns = [latents[:, place % 3] + random.normal(0, 1.0, len(patients)) for place in range(listed)]
    return np.column_stack([*columns, random.normal(size=(len(patients), NOISE_FEATURES))])


def _write_features(path, values):
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for name, value in zip(NAMES, values, strict=True):
            region, phase, feature = name.split(" ")
            measured = (ORIGIN.extractor, ORIGIN.mask_provider, ORIGIN.mask_version)
            rows.writerow(
                [region, phase, feature, repr(float(value)), ORIGIN.settings_sha256, "g", *measured]
            )
