"""MMF, Benchmark and Ensemble-DL as Cox models: from inputs to log hazard, group, percentile and survival with intervals."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy import special

from engines.clinical.variables import (
    ALL_VARIABLES,
    STANDARD_VARIABLES,
    ClinicalVariables,
    Variable,
)
from engines.endpoint import HORIZONS_MONTHS, Endpoint
from engines.ensemble import score_of_mortality
from engines.errors import InvalidInput, ModelRefused
from engines.forest import Forest
from engines.survival.cox import CoxFit, log_hazard, predict_survival

CONFIDENCE = 0.95
"""Of every interval of a risk."""

ENSEMBLE_INPUT = "ensemble_dl"
"""Name of the Ensemble-DL score among the inputs of a Cox model; the other names are words of ``Variable``."""

RADIOMIC_INPUT = "radiomic"
"""Name of the Radiomic model's log hazard among the inputs of an MMF that was fitted with it (option)."""

FOREST_INPUT = "mmf_forest"
"""Name of the one input of a Cox model that gives an MMF forest its survival curve: log(mortality / event times)."""

PERCENTILES = tuple(range(1, 100))
"""Per cent at which the quantiles of the training scores are kept; never the smallest or largest, which are one patient's."""


class ModelName(StrEnum):
    """The models that give a risk for one patient, as the reports name them."""

    MMF = "MMF"
    ENSEMBLE_DL = "Ensemble-DL"
    BENCHMARK = "Benchmark"


class Preset(StrEnum):
    """Which clinical variables enter MMF and Benchmark (method, section 7)."""

    STANDARD13 = "standard13"
    ALL16 = "all16"
    UNIVARIABLE = "univariable"


PRESET_VARIABLES: Mapping[Preset, tuple[Variable, ...]] = {
    Preset.STANDARD13: STANDARD_VARIABLES,
    Preset.ALL16: ALL_VARIABLES,
    Preset.UNIVARIABLE: ALL_VARIABLES,
}
"""Candidates of each preset; UNIVARIABLE keeps those with p < 0.05 in the training cohort alone."""


class Group(StrEnum):
    """Risk group by the cut-off of the discovery cohort."""

    LOW = "low"
    HIGH = "high"


@dataclass(frozen=True, slots=True, kw_only=True)
class SurvivalPoint:
    """Survival probability at one time with the interval of the model's average for such inputs."""

    months: float
    probability: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What one input adds to the log hazard against the training mean; over all inputs they sum to it.

    Attributes:
        name: ``ensemble_dl``, ``radiomic`` or a word of ``Variable``.
        value: the input as given, for a reader.
    """

    name: str
    value: str
    log_hazard: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """One model's estimate of one endpoint for one patient.

    Attributes:
        log_hazard: natural logarithm of the hazard relative to the training mean.
        low: lower end of its 95 % interval.
        high: upper end.
        cutoff: log hazard above which the group is high.
        percentile: share of the training cohort with a lower log hazard, 1 to 99; 1 and 99 mean "at most" and "at least".
        survival: at the endpoint's horizons, those beyond the training follow-up left out.
        not_estimable: horizons beyond the training follow-up, months.
    """

    endpoint: Endpoint
    model: ModelName
    log_hazard: float
    low: float
    high: float
    group: Group
    cutoff: float
    percentile: float
    survival: tuple[SurvivalPoint, ...]
    contributions: tuple[Contribution, ...]
    not_estimable: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ForestFront:
    """A survival forest over the inputs of MMF (option); a Cox model of its score alone follows it.

    Attributes:
        names: of the inputs, in the order of the forest's columns.
        forest: fitted on the training rows.
        mean_contributions: (p,), mean over the training rows of each input's share in the log score, so that the shares of
            a patient, less these, sum to the score less its training mean.

    Raises:
        ModelRefused: the parts do not fit together.
    """

    names: tuple[str, ...]
    forest: Forest
    mean_contributions: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        count = len(self.names)
        if self.forest.features != count or self.mean_contributions.shape != (count,):
            raise ModelRefused(
                f"MMF forest: {count} names, a forest of {self.forest.features} inputs, mean contributions of shape"
                f" {self.mean_contributions.shape}"
            )
        if not np.isfinite(self.mean_contributions).all() or len(set(self.names)) != count:
            raise ModelRefused("MMF forest: an input is named twice, or a mean contribution is not finite")

    def scores(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Returns log(mortality / event times), shape (n,), of inputs (n, p)."""
        return score_of_mortality(self.forest.mortalities(rows), self.forest.event_times)

    def shares(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Returns what each input adds to the log score against the training mean, shape (n, p).

        The changes of mortality along the trees' paths, each times the logarithmic mean that turns a difference of
        mortalities into one of their logarithms: exact for the sum.

        Source: Ang BW, Energy Policy 2015;86:233 (logarithmic mean decomposition).
        """
        return log_shares(self.forest, rows) - self.mean_contributions


def log_shares(forest: Forest, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns each input's share in log(mortality / root mortality) of inputs (n, p), shape (n, p)."""
    mortality, root = forest.mortalities(rows), forest.root_mortality
    ratio = mortality / root
    flat = np.isclose(ratio, 1.0, rtol=0.0, atol=1e-9)
    weight = np.where(flat, 1.0, np.log(ratio)) / np.where(flat, root, mortality - root)
    shares: npt.NDArray[np.float64] = forest.path_contributions(rows) * weight[:, np.newaxis]
    return shares


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RiskModel:
    """A fitted Cox model with what turns its log hazard into a statement; released and stored as one unit.

    Attributes:
        cox: inputs named ``ensemble_dl``, ``radiomic`` or by ``Variable``; indicators of the clinical categories, reference = 0.
        cutoff: log hazard; above it the group is high. From the discovery cohort alone.
        cutoff_rule: how the cut-off was found, in words.
        quantiles: (99,), log hazards of the training cohort at 1, 2 ... 99 per cent, ascending.
        front: of an MMF forest; None where the Cox model takes the inputs themselves.

    Raises:
        ModelRefused: an unknown input, a wrong number of quantiles, inputs that do not fit the model's name, a covariance
            that is none.
    """

    name: ModelName
    endpoint: Endpoint
    cox: CoxFit
    cutoff: float
    cutoff_rule: str
    quantiles: npt.NDArray[np.float64]
    front: ForestFront | None = None

    def __post_init__(self) -> None:
        faults = [f"unknown input '{name}'" for name in self.names if name not in _KNOWN_INPUTS]
        if len(set(self.names)) != len(self.names):
            faults.append("an input is named twice")
        if (ENSEMBLE_INPUT in self.names) == (self.name == ModelName.BENCHMARK):
            faults.append(f"{self.name} has the inputs {', '.join(self.names)}")
        if self.name == ModelName.ENSEMBLE_DL and self.names != (ENSEMBLE_INPUT,):
            faults.append(f"Ensemble-DL has one input, got {', '.join(self.names)}")
        if self.name != ModelName.MMF and (RADIOMIC_INPUT in self.names or self.front is not None):
            faults.append(f"{self.name} has neither a forest nor the Radiomic score; MMF alone may")
        if self.front is not None and self.cox.names != (FOREST_INPUT,):
            faults.append(f"the Cox model behind a forest has one input, got {', '.join(self.cox.names)}")
        quantiles = self.quantiles
        if (
            quantiles.shape != (len(PERCENTILES),)
            or not np.isfinite(quantiles).all()
            or (np.diff(quantiles) < 0).any()
        ):
            faults.append(f"quantiles must be {len(PERCENTILES)} ascending numbers")
        if not np.isfinite(self.cutoff):
            faults.append(f"the cut-off is {self.cutoff}")
        faults += _faults_of_fit(self.cox)
        if faults:
            raise ModelRefused(f"{self.name} {self.endpoint}: " + "; ".join(faults))

    @property
    def names(self) -> tuple[str, ...]:
        """Inputs of the model, in order."""
        return self.cox.names if self.front is None else self.front.names

    @property
    def variables(self) -> tuple[Variable, ...]:
        """Clinical variables this model needs."""
        return tuple(Variable(name) for name in self.names if name not in _SCORE_INPUTS)

    @property
    def needs_radiomic(self) -> bool:
        """Whether the Radiomic model's log hazard is one of the inputs."""
        return RADIOMIC_INPUT in self.names

    def lacking(self, clinical: ClinicalVariables | None) -> tuple[Variable, ...]:
        """Returns the variables without which this model cannot be computed: missing, or outside the population."""
        if clinical is None:
            return self.variables
        return tuple(variable for variable in self.variables if clinical.indicator(variable) is None)

    def inputs(
        self,
        ensemble_score: float | None,
        clinical: ClinicalVariables | None,
        radiomic_score: float | None = None,
    ) -> npt.NDArray[np.float64]:
        """Returns the row of inputs, shape (p,).

        Args:
            ensemble_score: log(mortality / event times) of this endpoint; may be None for Benchmark.
            clinical: may be None for Ensemble-DL.
            radiomic_score: log hazard of the Radiomic model; None unless the model was fitted with it.

        Raises:
            InvalidInput: an input is missing; nothing is imputed.
        """
        lacking = self.lacking(clinical)
        if lacking:
            raise InvalidInput(f"{self.name} {self.endpoint} cannot be computed without {', '.join(lacking)}")
        scores = {ENSEMBLE_INPUT: ensemble_score, RADIOMIC_INPUT: radiomic_score}
        for name, title in _SCORE_INPUTS.items():
            value = scores[name]
            if name in self.names and (value is None or not np.isfinite(value)):
                raise InvalidInput(
                    f"{self.name} {self.endpoint} cannot be computed without the {title} score"
                )
        row = [
            scores[name] if name in scores else _indicator(clinical, Variable(name)) for name in self.names
        ]
        return np.asarray(row, dtype=np.float64)

    def log_hazards(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Returns the log hazard of inputs (n, p) as ``inputs`` gives them, shape (n,)."""
        return log_hazard(self.cox, self._cox_rows(rows))

    def assess(
        self,
        ensemble_score: float | None,
        clinical: ClinicalVariables | None,
        radiomic_score: float | None = None,
    ) -> Risk:
        """Returns the risk of one patient.

        Args:
            ensemble_score: log(mortality / event times) of this endpoint; may be None for Benchmark.
            clinical: may be None for Ensemble-DL.
            radiomic_score: log hazard of the Radiomic model; None unless the model was fitted with it.

        Raises:
            InvalidInput: an input is missing; nothing is imputed.
        """
        row = self.inputs(ensemble_score, clinical, radiomic_score)
        centred = self._cox_rows(row[np.newaxis])[0] - self.cox.means
        log_hazard = float(centred @ self.cox.coefficients)
        half = float(special.ndtri(0.5 + CONFIDENCE / 2) * np.sqrt(centred @ self.cox.covariance @ centred))
        horizons = HORIZONS_MONTHS[self.endpoint]
        known = tuple(months for months in horizons if months <= self.cox.baseline.last_time)
        return Risk(
            endpoint=self.endpoint,
            model=self.name,
            log_hazard=log_hazard,
            low=log_hazard - half,
            high=log_hazard + half,
            group=Group.HIGH if log_hazard > self.cutoff else Group.LOW,
            cutoff=self.cutoff,
            percentile=float(np.interp(log_hazard, self.quantiles, PERCENTILES)),
            survival=self.survival(row, known),
            contributions=tuple(
                Contribution(name=name, value=_text(name, value, clinical), log_hazard=float(share))
                for name, value, share in zip(self.names, row, self._contributions(row), strict=True)
            ),
            not_estimable=tuple(months for months in horizons if months not in known),
        )

    def survival(self, row: npt.NDArray[np.float64], months: tuple[float, ...]) -> tuple[SurvivalPoint, ...]:
        """Returns S(t | row) with its interval, which holds the uncertainty of coefficients and baseline hazard.

        Args:
            row: (p,), as ``inputs`` gives it.
            months: times, none beyond the training follow-up.

        Raises:
            InvalidInput: a time beyond the training follow-up.
        """
        beyond = [time for time in months if time > self.cox.baseline.last_time]
        if beyond:
            raise InvalidInput(
                f"{self.name} {self.endpoint}: {beyond[0]:g} months is beyond the follow-up of the training cohort"
                f" ({self.cox.baseline.last_time:g}): not estimable"
            )
        if not months:
            return ()
        predicted = predict_survival(self.cox, self._cox_rows(row[np.newaxis])[0], months, CONFIDENCE)
        return tuple(
            SurvivalPoint(months=float(time), probability=float(middle), low=float(low), high=float(high))
            for time, middle, low, high in zip(
                months, predicted.survival[0], predicted.low[0], predicted.high[0], strict=True
            )
        )

    def _cox_rows(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """What the Cox model takes: the inputs themselves, or the forest's score of them."""
        return rows if self.front is None else self.front.scores(rows)[:, np.newaxis]

    def _contributions(self, row: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if self.front is None:
            return np.asarray(self.cox.coefficients * (row - self.cox.means), dtype=np.float64)
        return np.asarray(self.cox.coefficients[0] * self.front.shares(row[np.newaxis])[0], dtype=np.float64)


_SCORE_INPUTS = {ENSEMBLE_INPUT: "Ensemble-DL", RADIOMIC_INPUT: "Radiomic"}

_KNOWN_INPUTS = frozenset((*_SCORE_INPUTS, *Variable))


def _faults_of_fit(cox: CoxFit) -> list[str]:
    count = len(cox.names)
    if (
        cox.coefficients.shape != (count,)
        or cox.means.shape != (count,)
        or cox.covariance.shape != (count, count)
    ):
        return ["coefficients, means and covariance do not have one row for each input"]
    base = cox.baseline
    times = base.time.shape[0] if base.time.ndim == 1 else 0
    if times == 0 or base.cumulative_hazard.shape != (times,) or base.variance.shape != (times,):
        return ["the baseline hazard has no time, or not one value for each time"]
    if base.mean_hazard.shape != (times, count):
        return [f"the baseline's mean hazard has shape {base.mean_hazard.shape}, expected {(times, count)}"]
    faults: list[str] = []
    arrays = (cox.coefficients, cox.means, cox.covariance, base.time, base.cumulative_hazard, base.variance)
    if not all(np.isfinite(array).all() for array in (*arrays, base.mean_hazard)):
        faults.append("a number of the Cox model is not finite")
    elif (np.diff(base.time) <= 0).any() or (np.diff(base.cumulative_hazard) < 0).any():
        faults.append("the baseline hazard does not rise with time")
    elif not np.allclose(cox.covariance, cox.covariance.T) or np.linalg.eigvalsh(cox.covariance).min() < 0:
        faults.append("the covariance is not symmetric and positive")
    return faults


def _indicator(clinical: ClinicalVariables | None, variable: Variable) -> float | None:
    return None if clinical is None else clinical.indicator(variable)


def _text(name: str, value: float, clinical: ClinicalVariables | None) -> str:
    known = None if name in _SCORE_INPUTS or clinical is None else clinical.get(Variable(name))
    return f"{value:.4f}" if known is None else known.text()
