"""Synthetic cohorts: imaging traits, clinical variables that hang together, and survival times from known hazards."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from engines.clinical.variables import (
    DEFINITIONS,
    ClinicalVariables,
    Value,
    Variable,
    categorise,
)
from engines.endpoint import Endpoint
from engines.phantom.anatomy import draw_anatomy
from engines.phantom.traits import PhantomTraits

SHAPE = 1.15
"""Weibull shape of both baseline hazards (OURS): the hazard rises slowly."""

OS_SCALE_MONTHS = 52.0
"""Weibull scale of OS at log hazard 0; with the follow-up below about 63 % die (validity: event rates like the paper's)."""

PROGRESSION_FACTOR = 4.8
"""Hazard of progression or death over that of death at equal log hazards; about 90 % have the event."""

FOLLOW_UP_MONTHS = (12.0, 48.0)
"""Last contact is uniform between these: accrual over three years, last follow-up at 48 months (validity).
The last imaging is on the same day, so that both endpoints are censored without regard to their hazards."""

DAYS_A_MONTH = 30.4375
"""Mean length of a month; times are whole days."""

LATENT_EFFECTS: Mapping[Endpoint, Mapping[str, float]] = {
    Endpoint.OS: {"burden": 0.75, "heterogeneity": 0.40, "enhancement": -0.40, "washout": 0.30},
    Endpoint.PFS: {"burden": 0.60, "heterogeneity": 0.35, "enhancement": -0.35, "washout": 0.25},
}
"""Log hazard per standard deviation of what the images show (OURS)."""

CLINICAL_EFFECTS: Mapping[Endpoint, Mapping[Variable, float]] = {
    Endpoint.OS: {
        Variable.CHILD_PUGH: 0.45,
        Variable.AFP: 0.30,
        Variable.LINE_OF_ICI: 0.35,
        Variable.PVTT: 0.30,
        Variable.LUNG_METASTASIS: 0.45,
        Variable.BONE_METASTASIS: 0.50,
        Variable.LYMPH_NODE_METASTASIS: 0.35,
        Variable.UP_TO_SEVEN: 0.25,
        Variable.ECOG: 0.25,
    },
    Endpoint.PFS: {
        Variable.CHILD_PUGH: 0.25,
        Variable.AFP: 0.20,
        Variable.LINE_OF_ICI: 0.40,
        Variable.PVTT: 0.20,
        Variable.LUNG_METASTASIS: 0.40,
        Variable.BONE_METASTASIS: 0.30,
        Variable.LYMPH_NODE_METASTASIS: 0.25,
        Variable.UP_TO_SEVEN: 0.30,
        Variable.ECOG: 0.15,
    },
}
"""Log hazard of the non-reference category (OURS, of the size of supplementary Tables 6 and 7)."""

READER_SPREAD = 0.06
"""Relative standard deviation of a reader's diameter of a lesion."""

SMALL_NODULES = 0.7
"""Mean number of nodules that the clinic counts and the phantom, which draws none under 14 mm, does not show."""

_LEAST_PROGRESSION = 1.05
"""Progression or death is at least this much more frequent than death: one is part of the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp:
    """Observed time and event of one endpoint: months from the first dose, > 0."""

    months: float
    event: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticPatient:
    """One synthetic patient; no patient.

    Attributes:
        traits: what the images are drawn from.
        follow_up: by endpoint; PFS never exceeds OS.
        log_hazard: the truth by endpoint, relative to a patient at latents 0 with every reference category.
    """

    traits: PhantomTraits
    clinical: ClinicalVariables
    follow_up: Mapping[Endpoint, FollowUp]
    log_hazard: Mapping[Endpoint, float]


def draw_cohort(size: int, seed: int, *, measured: bool = True) -> tuple[SyntheticPatient, ...]:
    """Returns a synthetic cohort; the same arguments give the same patients, and a longer cohort begins with them.

    Args:
        size: number of patients, >= 1.
        seed: of the cohort; patients of different seeds share nothing.
        measured: diameter and number of tumours are read from the patient's phantom (5 ms each); without, they are those
            that its burden asks for, which is enough where no image is made.
    """
    return tuple(_draw_patient(seed, index, measured=measured) for index in range(size))


def true_log_hazard(traits: PhantomTraits, clinical: ClinicalVariables, endpoint: Endpoint) -> float:
    """Returns the true log hazard of a synthetic patient, 0 at latents 0 with every reference category.

    OS and PFS are proportional hazards with one Weibull shape. The hazard of PFS (progression or death) is kept above that
    of OS (death alone): where the effects ask for less, it is the hazard of death times ``_LEAST_PROGRESSION``.

    Args:
        traits: latents.
        clinical: every variable with an effect must be known.
        endpoint: OS or PFS.
    """
    asked = _asked_log_hazard(traits, clinical, endpoint)
    if endpoint == Endpoint.OS:
        return asked
    death = _asked_log_hazard(traits, clinical, Endpoint.OS)
    return max(asked, death + math.log(_LEAST_PROGRESSION / PROGRESSION_FACTOR))


def true_survival(log_hazard: float, endpoint: Endpoint, months: float) -> float:
    """Returns the true survival probability at a time.

    Args:
        log_hazard: as ``true_log_hazard`` gives it.
        endpoint: OS or PFS.
        months: >= 0.
    """
    factor = PROGRESSION_FACTOR if endpoint == Endpoint.PFS else 1.0
    return math.exp(-factor * math.exp(log_hazard) * (months / OS_SCALE_MONTHS) ** SHAPE)


def _draw_patient(seed: int, index: int, *, measured: bool) -> SyntheticPatient:
    rng = np.random.default_rng([seed, index])
    latents = rng.standard_normal(4)
    traits = PhantomTraits(
        seed=int(rng.integers(2**31)),
        burden=float(latents[0]),
        heterogeneity=float(latents[1]),
        enhancement=float(latents[2]),
        washout=float(latents[3]),
    )
    clinical = _draw_clinical(traits, rng, measured=measured)
    log_hazard = {endpoint: true_log_hazard(traits, clinical, endpoint) for endpoint in Endpoint}
    return SyntheticPatient(
        traits=traits,
        clinical=clinical,
        follow_up=_draw_follow_up(log_hazard, rng),
        log_hazard=log_hazard,
    )


def _draw_clinical(traits: PhantomTraits, rng: np.random.Generator, *, measured: bool) -> ClinicalVariables:
    """Returns all 16 variables; stage C follows from vascular invasion, metastasis or performance status."""
    diameter_cm, count = _measured_tumours(traits) if measured else _asked_tumours(traits)
    diameter_cm = float(np.clip(diameter_cm * math.exp(rng.normal(0.0, READER_SPREAD)), 1.0, 20.0))
    count += int(rng.poisson(SMALL_NODULES))

    def present(log_odds: float) -> bool:
        return bool(rng.random() < 1.0 / (1.0 + math.exp(-log_odds)))

    pvtt = present(-0.6 + 0.7 * traits.burden + 0.5 * traits.washout)
    lung = present(-1.6 + 0.5 * traits.burden)
    bone = present(-3.0 + 0.3 * traits.burden)
    nodes = present(-1.0 + 0.4 * traits.burden)
    ecog = present(-0.3 + 0.3 * traits.burden)
    sides = {
        Variable.SEX: present(-1.9),
        Variable.HBV: present(1.5),
        Variable.BCLC: not (pvtt or lung or bone or nodes or ecog),
        Variable.CHILD_PUGH: present(-1.6),
        Variable.CIRRHOSIS: present(0.9),
        Variable.PREVIOUS_LOCAL_THERAPY: present(0.2),
        Variable.PVTT: pvtt,
        Variable.LUNG_METASTASIS: lung,
        Variable.BONE_METASTASIS: bone,
        Variable.LYMPH_NODE_METASTASIS: nodes,
        Variable.ECOG: ecog,
    }
    numbers = {
        Variable.AGE: round(float(np.clip(rng.normal(54.0, 11.0), 20.0, 85.0))),
        Variable.AFP: round(
            float(np.clip(math.exp(rng.normal(5.6 + 0.8 * traits.heterogeneity, 2.4)), 1.0, 5e5)), 1
        ),
        Variable.LINE_OF_ICI: 1 + int(present(-1.7)),
        Variable.UP_TO_SEVEN: round(diameter_cm, 1) + count,
        Variable.MAX_TUMOUR_DIAMETER: round(diameter_cm, 1),
    }
    values = {
        variable: Value(category=DEFINITIONS[variable].other if side else DEFINITIONS[variable].reference)
        for variable, side in sides.items()
    }
    for variable, number in numbers.items():
        values[variable] = Value(category=categorise(variable, float(number)), number=float(number))
    return ClinicalVariables(values=values)


def _measured_tumours(traits: PhantomTraits) -> tuple[float, int]:
    """Returns the longest diameter in cm and the number of the tumours of this patient's phantom."""
    tumours = draw_anatomy(traits).tumours
    return tumours[0].longest_diameter_mm / 10.0, len(tumours)


def _asked_tumours(traits: PhantomTraits) -> tuple[float, int]:
    """Returns the longest diameter in cm and the number that the burden asks for, as the phantom's tumours are drawn."""
    radius_mm = float(np.clip(23.0 * math.exp(0.42 * traits.burden), 10.0, 55.0))
    return 2.0 * radius_mm / 10.0, int(np.clip(round(2.2 + 1.1 * traits.burden), 1, 5))


def _asked_log_hazard(traits: PhantomTraits, clinical: ClinicalVariables, endpoint: Endpoint) -> float:
    latents = {
        "burden": traits.burden,
        "heterogeneity": traits.heterogeneity,
        "enhancement": traits.enhancement,
        "washout": traits.washout,
    }
    imaging = sum(effect * latents[name] for name, effect in LATENT_EFFECTS[endpoint].items())
    known = sum(
        effect
        for variable, effect in CLINICAL_EFFECTS[endpoint].items()
        if clinical.indicator(variable) == 1.0
    )
    return imaging + known


def _draw_follow_up(
    log_hazard: Mapping[Endpoint, float], rng: np.random.Generator
) -> dict[Endpoint, FollowUp]:
    """Returns observed times. Progression alone has the hazard of PFS less that of OS, so that both are exactly as stated."""
    death_rate = math.exp(log_hazard[Endpoint.OS])
    progression_rate = PROGRESSION_FACTOR * math.exp(log_hazard[Endpoint.PFS]) - death_rate
    death, progression = (
        OS_SCALE_MONTHS * (rng.standard_exponential() / rate) ** (1.0 / SHAPE)
        for rate in (death_rate, progression_rate)
    )
    contact = rng.uniform(*FOLLOW_UP_MONTHS)
    first = min(death, progression)
    return {
        Endpoint.OS: FollowUp(months=_whole_days(min(death, contact)), event=death <= contact),
        Endpoint.PFS: FollowUp(months=_whole_days(min(first, contact)), event=first <= contact),
    }


def _whole_days(months: float) -> float:
    """Returns the time rounded up to whole days, at least one, in months."""
    return max(1, math.ceil(months * DAYS_A_MONTH)) / DAYS_A_MONTH
