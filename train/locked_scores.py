"""What two models say of the locked cases, as the gate compares it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.case import Case
from engines.clinical.variables import ClinicalVariables, decode_variables
from engines.endpoint import Endpoint
from engines.mmf import ModelName
from engines.models.model import EndpointScores, Model
from engines.network_input import network_input
from engines.radiomics.feature_file import FeatureLine, read_features
from engines.survival.outcome import Outcome
from engines.volume import Volume
from train.errors import CohortRefused
from train.gate import LockedRows
from train.night_cohort import NightCase

LEAST_COMPLETE = 0.5
"""Share of the locked cases with every variable of MMF; below it Ensemble-DL is compared on all of them (OURS)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LockedScores:
    """The rows of the gate, and what was compared.

    Attributes:
        rows: by endpoint.
        compared: MMF, or Ensemble-DL where too few cases have every variable.
        left_out: cases without the variables that MMF needs.
    """

    rows: dict[Endpoint, LockedRows]
    compared: ModelName
    left_out: int


def count_compared(cases: Sequence[NightCase], candidate: Model, running: Model | None) -> int:
    """Returns how many cases ``score_locked`` will compare, from their clinical variables and features: no outcome is read.

    Args:
        cases: with both outcomes known.
        candidate: the new model.
        running: the model in service, None when there is none.

    Raises:
        CaseRefused: a case's features.csv is no such file.
    """
    models = [candidate] if running is None else [candidate, running]
    known = [(_read_clinical(one), _read_features(one)) for one in cases]
    complete = sum(all(_gives_mmf(*one, model) for model in models) for one in known)
    return complete if _are_enough(complete, len(cases)) else len(cases)


def score_locked(cases: Sequence[NightCase], candidate: Model, running: Model | None) -> LockedScores:
    """Returns log hazards of both models for every locked case.

    Args:
        cases: with both outcomes known.
        candidate: the new model.
        running: the model in service, None when there is none.

    Raises:
        CohortRefused: a case gives no input that a model can read.
        CaseRefused: a case's features.csv is no such file.
    """
    models = [candidate] if running is None else [candidate, running]
    found = [[_score_case(one, model) for one in cases] for model in models]
    complete = [
        place
        for place in range(len(cases))
        if all(
            _log_hazard(scores[place][endpoint], ModelName.MMF) is not None
            for scores in found
            for endpoint in Endpoint
        )
    ]
    enough = _are_enough(len(complete), len(cases))
    compared = ModelName.MMF if enough else ModelName.ENSEMBLE_DL
    kept = complete if enough else list(range(len(cases)))
    rows: dict[Endpoint, LockedRows] = {}
    for endpoint in Endpoint:
        columns = [
            np.array([_require(_log_hazard(scores[place][endpoint], compared)) for place in kept])
            for scores in found
        ]
        follow = [cases[place].follow_up[endpoint] for place in kept]
        rows[endpoint] = LockedRows(
            outcome=Outcome(
                np.array([months for months, _ in follow]), np.array([event for _, event in follow])
            ),
            candidate=columns[0],
            running=columns[1] if running is not None else None,
            centres=[cases[place].centre for place in kept],
        )
    return LockedScores(rows=rows, compared=compared, left_out=len(cases) - len(kept))


def _are_enough(complete: int, cases: int) -> bool:
    return complete >= LEAST_COMPLETE * cases


def _gives_mmf(clinical: ClinicalVariables, features: Sequence[FeatureLine] | None, model: Model) -> bool:
    """Whether a model can give MMF for both endpoints."""
    fitted = [model.risk_models.get((endpoint, ModelName.MMF)) for endpoint in Endpoint]
    radiomic = [model.radiomic_score(endpoint, features) for endpoint in Endpoint]
    return all(one is not None and not one.lacking(clinical) for one in fitted) and all(
        one is None or one.log_hazard is not None for one in radiomic
    )


def _read_clinical(one: NightCase) -> ClinicalVariables:
    return decode_variables(one.case.read_json("clinical") if one.case.has("clinical") else {})


def _read_features(one: NightCase) -> tuple[FeatureLine, ...] | None:
    path = one.case.features_path
    return read_features(path) if path.is_file() else None


def _score_case(one: NightCase, model: Model) -> dict[Endpoint, EndpointScores]:
    array = _read_input(one.case, model, one.identity.case_id)
    scores = model.score(array, _read_clinical(one), _read_features(one))
    return {entry.endpoint: entry for entry in scores.endpoints}


def _read_input(case: Case, model: Model, case_id: str) -> npt.NDArray[np.float16]:
    """The case's input where it is the one the model wants, else one made from the volumes as the model's card says."""
    if case.network_input_path.is_file():
        array = case.read_network_input()
        if array.shape == model.input_shape:
            return array
    wanted = model.card.preprocessing
    if not case.mask_path("liver").is_file() or any(
        not case.volume_path(phase).is_file() for phase in wanted.phases
    ):
        raise CohortRefused(
            f"case {case_id} has no input of shape {model.input_shape} for model {model.card.version}, and no volumes to"
            " make it from"
        )
    liver = case.read_mask("liver")
    return network_input(
        {phase: case.read_volume(phase) for phase in wanted.phases},
        {phase: case.read_transform(phase) for phase in wanted.phases},
        Volume(array=liver.array.astype(bool), grid=liver.grid),
        wanted,
    )


def _log_hazard(scores: EndpointScores, model: ModelName) -> float | None:
    for risk in (scores.risk, *scores.others):
        if risk.model == model:
            return risk.log_hazard
    return None


def _require(value: float | None) -> float:
    if value is None:
        raise CohortRefused("a model gives no log hazard that can be compared")
    return value
