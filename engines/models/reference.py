"""What a released model keeps of its training cohort: curves, quantiles, shares and covariances, never a patient's row."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from engines.clinical.variables import DEFINITIONS, ClinicalVariables, Variable
from engines.endpoint import Endpoint
from engines.errors import InvalidInput, ModelRefused
from engines.mmf import PERCENTILES, Group, ModelName
from engines.models.schema import check_schema
from engines.phase import Phase
from engines.survival.kaplan_meier import estimate_survival, survival_at
from engines.survival.outcome import Outcome

FEWEST_PATIENTS = 10
"""A share of fewer known patients than this is not stated (validity: groups under 10 patients are not shown)."""

FEWEST_AT_RISK = 5
"""A curve is kept as long as this many patients are under observation (OURS: beyond, steps are single patients)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortCurve:
    """Kaplan-Meier curve of one risk group at whole months, with its 95 % interval and the number at risk."""

    months: tuple[float, ...]
    survival: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    at_risk: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReference:
    """The training cohort as one model sees it.

    Attributes:
        rows: which scores these are, e.g. "out-of-fold".
        quantiles: (99,), log hazards at 1, 2 ... 99 per cent.
        low_curve: of the patients at or below the cut-off.
        high_curve: of those above.
    """

    endpoint: Endpoint
    model: ModelName
    rows: str
    patients: int
    events: int
    quantiles: tuple[float, ...]
    low_curve: CohortCurve
    high_curve: CohortCurve

    def curve(self, group: Group) -> CohortCurve:
        """Returns the curve of a risk group."""
        return self.low_curve if group == Group.LOW else self.high_curve


@dataclass(frozen=True, slots=True, kw_only=True)
class InputReference:
    """One channel of the training network inputs: mean over patients, and spread between them, of mean and SD of voxels."""

    phase: Phase
    mean: float
    mean_sd: float
    sd: float
    sd_sd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NoveltyReference:
    """What the training inputs look like together: a probabilistic principal component model of their descriptions.

    Aggregates only. ``engines.novelty`` makes and reads it.

    Attributes:
        inputs: how many training inputs it was made of.
        mean: of each of the d numbers of a description.
        deviation: standard deviation of each, > 0.
        components: k directions of d standardised numbers in which the inputs differ most, orthonormal rows.
        variances: (k,) variance of the inputs along each, > 0.
        rest: variance along each remaining direction, > 0.
        level: share of training inputs that lie nearer than ``threshold`` when a model of the others judges them.
        threshold: distance beyond which an input is unlike them.
    """

    inputs: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    components: tuple[tuple[float, ...], ...]
    variances: tuple[float, ...]
    rest: float
    level: float
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRiskReference:
    """Mean and covariance of the networks' standardised log-risks in the training cohort, out-of-fold."""

    endpoint: Endpoint
    networks: tuple[str, ...]
    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClinicalReference:
    """How often a variable was known, and the share of its non-reference category among those (None: too few)."""

    variable: Variable
    known: int
    other_share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """reference.json, version 1. ``novelty`` is None in older folders and where the training inputs were too few."""

    models: tuple[ModelReference, ...]
    network_input: tuple[InputReference, ...]
    log_risks: tuple[LogRiskReference, ...]
    clinical: tuple[ClinicalReference, ...]
    novelty: NoveltyReference | None = None

    def of(self, endpoint: Endpoint, model: ModelName) -> ModelReference:
        """Returns the reference of one model.

        Raises:
            ModelRefused: there is none.
        """
        for entry in self.models:
            if (entry.endpoint, entry.model) == (endpoint, model):
                return entry
        raise ModelRefused(f"reference.json has nothing of {model} {endpoint}")


def describe_scores(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns the quantiles of training scores at 1, 2 ... 99 per cent, shape (99,).

    Args:
        scores: (n,), finite.
    """
    return np.asarray(np.quantile(scores, np.asarray(PERCENTILES) / 100.0), dtype=np.float64)


def describe_curve(outcome: Outcome) -> CohortCurve:
    """Returns the Kaplan-Meier curve at whole months from 0, as long as ``FEWEST_AT_RISK`` patients are under observation.

    Args:
        outcome: of the patients of one group, in months.
    """
    curve = estimate_survival(outcome)
    points = []
    for month in range(int(outcome.time.max()) + 1):
        point = survival_at(curve, float(month))
        if point.at_risk < FEWEST_AT_RISK or point.survival <= 0.0:
            break
        points.append(point)
    return CohortCurve(
        months=tuple(point.time for point in points),
        survival=tuple(point.survival for point in points),
        low=tuple(point.low for point in points),
        high=tuple(point.high for point in points),
        at_risk=tuple(point.at_risk for point in points),
    )


def describe_inputs(
    means: npt.NDArray[np.float64], sds: npt.NDArray[np.float64], phases: Sequence[Phase]
) -> tuple[InputReference, ...]:
    """Returns the reference of each channel.

    Args:
        means: (patients, channels), mean voxel of each channel of each training input.
        sds: (patients, channels), standard deviation of its voxels.
        phases: the channels.

    Raises:
        InvalidInput: fewer than two patients, or another number of channels.
    """
    if means.shape != sds.shape or means.ndim != 2 or means.shape[0] < 2 or means.shape[1] != len(phases):
        raise InvalidInput(
            f"input statistics of shapes {means.shape} and {sds.shape} for {len(phases)} channels"
        )
    return tuple(
        InputReference(
            phase=phase,
            mean=float(means[:, channel].mean()),
            mean_sd=float(means[:, channel].std(ddof=1)),
            sd=float(sds[:, channel].mean()),
            sd_sd=float(sds[:, channel].std(ddof=1)),
        )
        for channel, phase in enumerate(phases)
    )


def describe_log_risks(
    endpoint: Endpoint, networks: Sequence[str], standardised: npt.NDArray[np.float64]
) -> LogRiskReference:
    """Returns mean and covariance of standardised log-risks.

    Args:
        endpoint: whose heads.
        networks: names of the columns.
        standardised: (patients, networks), out-of-fold.
    """
    covariance = np.atleast_2d(np.cov(standardised, rowvar=False))
    return LogRiskReference(
        endpoint=endpoint,
        networks=tuple(networks),
        mean=tuple(standardised.mean(axis=0).tolist()),
        covariance=tuple(tuple(row) for row in covariance.tolist()),
    )


def describe_clinical(patients: Sequence[ClinicalVariables]) -> tuple[ClinicalReference, ...]:
    """Returns how often each variable was known and how often it had its non-reference category."""
    entries: list[ClinicalReference] = []
    for variable in DEFINITIONS:
        known = [one for patient in patients if (one := patient.indicator(variable)) is not None]
        share = float(np.mean(known)) if len(known) >= FEWEST_PATIENTS else None
        entries.append(ClinicalReference(variable=variable, known=len(known), other_share=share))
    return tuple(entries)


def write_reference(reference: Reference) -> str:
    """Returns reference.json as text, floats unrounded."""
    content = {"schema": "mmf-reference", "schema_version": 1, **asdict(reference)}
    if reference.novelty is None:
        del content["novelty"]
    return json.dumps(content, allow_nan=False, indent=1) + "\n"


def read_reference(text: str) -> Reference:
    """Returns the reference of a reference.json.

    Raises:
        ModelRefused: not JSON, or not of the schema; or curves or a novelty reference whose columns differ in length.
    """
    try:
        content: Mapping[str, Any] = json.loads(text)
    except json.JSONDecodeError as error:
        raise ModelRefused(f"reference.json is not JSON: {error}") from error
    check_schema("model-reference", content, "reference.json")
    body = {key: value for key, value in content.items() if key not in ("schema", "schema_version")}
    try:
        reference: Reference = TypeAdapter(Reference).validate_python(body)
    except ValueError as error:
        raise ModelRefused(f"reference.json: {error}") from error
    for entry in reference.models:
        for curve in (entry.low_curve, entry.high_curve):
            lengths = {len(column) for column in asdict(curve).values()}
            if len(lengths) != 1:
                raise ModelRefused(
                    f"reference.json: a curve of {entry.model} {entry.endpoint} has ragged columns"
                )
    novelty = reference.novelty
    if novelty is not None:
        lengths = {len(novelty.mean), len(novelty.deviation), *(len(row) for row in novelty.components)}
        if len(lengths) != 1 or len(novelty.components) != len(novelty.variances):
            raise ModelRefused("reference.json: the novelty reference has ragged columns")
    return reference
