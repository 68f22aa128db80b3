"""A loaded model: from the network input and the clinical variables of one patient to scores and risks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from engines.clinical.variables import DEFINITIONS, ClinicalVariables, Variable
from engines.endpoint import Endpoint
from engines.ensemble import DISPLAY_SCALE, Ensemble, score_of_mortality
from engines.errors import InvalidInput, ModelRefused
from engines.mmf import ModelName, Risk, RiskModel
from engines.models.card import ModelCard
from engines.models.comparator import Comparator, ComparatorName
from engines.models.radiomic_score import RadiomicScore, score_features
from engines.models.reference import Reference
from engines.networks.settings import NetworkName

if TYPE_CHECKING:
    from engines.networks.heads import RiskNetwork
    from engines.radiomics.feature_file import FeatureLine

LogRisks = Mapping[Endpoint, Mapping[NetworkName, float]]
"""Raw log-risk of each network for each endpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointScores:
    """Everything the model says of one endpoint.

    Attributes:
        log_risks: raw output of each network; a scale of its own, never compared across models or refits.
        mortality: Ensemble-DL for display: expected events / 100; depends on the training cohort.
        ensemble_score: log(mortality / number of event times), the score that feeds the Cox models.
        risk: MMF where every variable is known, else Ensemble-DL with its own calibrated curve.
        others: the other models that could be computed: Ensemble-DL beside MMF, Benchmark.
        radiomic: the Radiomic score; None where MMF does not take it.
    """

    endpoint: Endpoint
    log_risks: tuple[tuple[str, float], ...]
    mortality: float
    ensemble_score: float
    risk: Risk
    others: tuple[Risk, ...]
    radiomic: RadiomicScore | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a model says of one patient.

    Attributes:
        missing: variables that MMF needs and that were not given; never imputed.
        outside: variables whose value lies outside the population of the method, in words.
    """

    name: str
    version: str
    sha256: str
    demonstration: bool
    endpoints: tuple[EndpointScores, ...]
    missing: tuple[Variable, ...]
    outside: tuple[str, ...]

    def of(self, endpoint: Endpoint) -> EndpointScores:
        """Returns the scores of one endpoint."""
        return next(scores for scores in self.endpoints if scores.endpoint == endpoint)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFile:
    """Where the weights of a network lie, and the hash that is checked again before they are read."""

    path: Path
    sha256: str


class Model:
    """A model folder in memory. ``engines.models.store.load_model`` makes it; networks are read on first use."""

    def __init__(
        self,
        *,
        card: ModelCard,
        sha256: str,
        reference: Reference,
        ensembles: Mapping[Endpoint, Ensemble],
        risk_models: Mapping[tuple[Endpoint, ModelName], RiskModel],
        weights: Mapping[tuple[NetworkName, Endpoint], WeightsFile],
        comparators: Mapping[tuple[Endpoint, ComparatorName], Comparator] = MappingProxyType({}),
    ) -> None:
        self.card = card
        self.sha256 = sha256
        self.reference = reference
        self.ensembles = ensembles
        self.risk_models = risk_models
        self.comparators = comparators
        self._weights = weights
        self._networks: dict[str, RiskNetwork] = {}

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape (channel, z, y, x) of the network input."""
        side = self.card.preprocessing.side
        return (len(self.card.preprocessing.phases), side, side, side)

    def network(self, name: NetworkName, endpoint: Endpoint) -> "RiskNetwork":
        """Returns the network whose checkpoint serves ``endpoint``, in evaluation mode, float32, on the CPU, weights frozen.

        Raises:
            ModelRefused: the model has no such network, or its weights are damaged or of another size than the card says.
        """
        import torch

        from engines.networks.weights import read_network

        weights = self._weights.get((name, endpoint))
        if weights is None:
            raise ModelRefused(f"model {self.card.name} {self.card.version} has no {name} for {endpoint}")
        if weights.sha256 not in self._networks:
            with torch.inference_mode(mode=False):  # weights made in that mode could never explain a risk
                found, network = read_network(weights.path, sha256=weights.sha256)
            settings = network.settings
            expected = (name, self.card.preprocessing.side, self.card.preprocessing.phases)
            if (found, settings.side, settings.phases) != expected:
                raise ModelRefused(
                    f"{weights.path.name} holds {found} of side {settings.side}; the card says {name} of side {expected[1]}"
                )
            self._networks[weights.sha256] = network.requires_grad_(False)
        return self._networks[weights.sha256]

    def log_risks(self, network_input: npt.NDArray[np.float16]) -> LogRisks:
        """Returns the raw log-risk of every network for every endpoint.

        Args:
            network_input: float16, shape ``input_shape``, 0 to 1.

        Raises:
            InvalidInput: another shape, or values outside 0 to 1.
            ModelRefused: the weights of a network are damaged.
        """
        import torch

        self._check_input(network_input)
        batch = torch.from_numpy(network_input.astype(np.float32))[None]
        found: dict[Endpoint, dict[NetworkName, float]] = {}
        with torch.inference_mode():
            for endpoint, ensemble in self.ensembles.items():
                row: dict[NetworkName, float] = {}
                for name in map(NetworkName, ensemble.networks):
                    output = self.network(name, endpoint)(batch)
                    log_risk = output.os_log_risk if endpoint == Endpoint.OS else output.pfs_log_risk
                    row[name] = float(log_risk[0])
                found[endpoint] = row
        return found

    def radiomic_score(
        self, endpoint: Endpoint, features: "Sequence[FeatureLine] | None"
    ) -> RadiomicScore | None:
        """Returns the Radiomic score, or why there is none; None where the MMF of this endpoint does not take it.

        Args:
            endpoint: OS or PFS.
            features: of the patient; None when none was extracted.
        """
        fused = self.risk_models.get((endpoint, ModelName.MMF))
        if fused is None or not fused.needs_radiomic:
            return None
        return score_features(self.comparators.get((endpoint, ComparatorName.RADIOMIC)), features)

    def score(
        self,
        network_input: npt.NDArray[np.float16],
        clinical: ClinicalVariables | None,
        features: "Sequence[FeatureLine] | None" = None,
    ) -> Scores:
        """Returns what the model says of one patient.

        Args:
            network_input: float16, shape ``input_shape``, 0 to 1.
            clinical: None when nothing is known: Ensemble-DL alone is given.
            features: radiomic features, which an MMF fitted with the Radiomic score needs.

        Raises:
            InvalidInput: another shape, or values outside 0 to 1.
            ModelRefused: the weights of a network are damaged.
        """
        return self.assess(self.log_risks(network_input), clinical, features)

    def assess(
        self,
        log_risks: LogRisks,
        clinical: ClinicalVariables | None,
        features: "Sequence[FeatureLine] | None" = None,
    ) -> Scores:
        """Returns what the model says of one patient whose networks have been run.

        Args:
            log_risks: as ``log_risks`` gives them.
            clinical: None when nothing is known.
            features: radiomic features, which an MMF fitted with the Radiomic score needs.

        Raises:
            InvalidInput: a network's log-risk is missing or not finite.
        """
        needed = {
            variable
            for (_, name), model in self.risk_models.items()
            if name == ModelName.MMF
            for variable in model.variables
        }
        known = clinical if clinical is not None else ClinicalVariables(values={})
        return Scores(
            name=self.card.name,
            version=self.card.version,
            sha256=self.sha256,
            demonstration=self.card.demonstration,
            endpoints=tuple(
                self._assess_endpoint(
                    endpoint, log_risks, known, radiomic=self.radiomic_score(endpoint, features)
                )
                for endpoint in self.ensembles
            ),
            missing=tuple(variable for variable in known.missing() if variable in needed),
            outside=tuple(
                f"{DEFINITIONS[variable].title} {value.category}"
                for variable in known.outside_population()
                if (value := known.get(variable)) is not None
            ),
        )

    def _assess_endpoint(
        self,
        endpoint: Endpoint,
        log_risks: LogRisks,
        clinical: ClinicalVariables,
        *,
        radiomic: RadiomicScore | None,
    ) -> EndpointScores:
        ensemble = self.ensembles[endpoint]
        given = log_risks.get(endpoint, {})
        absent = [name for name in ensemble.networks if NetworkName(name) not in given]
        if absent:
            raise InvalidInput(f"no {endpoint} log-risk of {', '.join(absent)}")
        row = np.array([[given[NetworkName(name)] for name in ensemble.networks]])
        mortality = ensemble.mortalities(row)
        score = float(score_of_mortality(mortality, ensemble.forest.event_times)[0])
        radiomic_score = None if radiomic is None else radiomic.log_hazard
        risks = {
            name: model.assess(score, clinical, radiomic_score)
            for (of, name), model in self.risk_models.items()
            if of == endpoint
            and not model.lacking(clinical)
            and not (model.needs_radiomic and radiomic_score is None)
        }
        chosen = ModelName.MMF if ModelName.MMF in risks else ModelName.ENSEMBLE_DL
        return EndpointScores(
            endpoint=endpoint,
            log_risks=tuple(
                (name, float(value)) for name, value in zip(ensemble.networks, row[0], strict=True)
            ),
            mortality=float(mortality[0]) / DISPLAY_SCALE,
            ensemble_score=score,
            risk=risks[chosen],
            others=tuple(risk for name, risk in risks.items() if name != chosen),
            radiomic=radiomic,
        )

    def _check_input(self, network_input: npt.NDArray[np.float16]) -> None:
        if network_input.shape != self.input_shape or network_input.dtype != np.float16:
            raise InvalidInput(
                f"network input is {network_input.dtype} of shape {network_input.shape}; model {self.card.name}"
                f" {self.card.version} needs float16 of shape {self.input_shape}"
            )
        low, high = float(network_input.min()), float(network_input.max())
        if not (low >= 0.0 and high <= 1.0):
            raise InvalidInput(f"network input reaches from {low:g} to {high:g}; expected 0 to 1")
