"""The model card: card.toml, what a person reads and the node needs to run a released model."""

import json
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import tomli_w
from pydantic import TypeAdapter

from engines.endpoint import Endpoint
from engines.errors import InvalidInput, ModelRefused
from engines.mmf import ModelName
from engines.models.comparator import ComparatorName
from engines.models.schema import check_schema
from engines.network_input import Preprocessing
from engines.networks.settings import NetworkName
from engines.radiomics.origin import FeatureOrigin

CARD_SCHEMA = "mmf-model"
CARD_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCard:
    """How the model came to be.

    Attributes:
        trained_on: the cohort in one sentence, shown on every report.
        patients: training patients.
        events_os: deaths among them.
        events_pfs: progressions or deaths among them.
        description: recipe, seeds, epochs, hardware, folds.
        software_version: of this product.
    """

    trained_on: str
    patients: int
    events_os: int
    events_pfs: int
    description: str
    software_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkCard:
    """Weights of one network; two endpoints may name the same file.

    Attributes:
        endpoint: whose checkpoint this is: the best epoch is chosen for each endpoint apart.
        file: path in the model folder, safetensors with the network's settings in its header.
    """

    name: NetworkName
    endpoint: Endpoint
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleCard:
    """Ensemble-DL of one endpoint.

    Attributes:
        networks: order of the forest's inputs.
        mean: mean log-risk of the training rows by network.
        sd: standard deviation by network.
        forest: path of the forest's arrays, safetensors.
    """

    endpoint: Endpoint
    networks: tuple[NetworkName, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    forest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestCard:
    """The survival forest of an MMF that was fitted as one (option).

    Attributes:
        file: path of its arrays, safetensors.
        names: its inputs in order.
        mean_contributions: mean share of each input in the log score over the training rows.
    """

    file: str
    names: tuple[str, ...]
    mean_contributions: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoxCard:
    """One Cox model.

    Attributes:
        file: path of its numbers, JSON.
        cutoff: log hazard between low and high.
        cutoff_rule: how it was found, on which rows.
        forest: of MMF where it is a survival forest whose score the Cox model takes; None where it takes the inputs.
    """

    endpoint: Endpoint
    model: ModelName
    file: str
    cutoff: float
    cutoff_rule: str
    forest: ForestCard | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparatorCard:
    """One comparator: Radiomic or mRECIST.

    Attributes:
        file: path of its numbers, JSON, as of a Cox model.
        cutoff: log hazard between low and high.
        cutoff_rule: how it was found, on which rows.
        origin: how the features of Radiomic were measured; features of another origin give no score.
    """

    endpoint: Endpoint
    model: ComparatorName
    file: str
    cutoff: float
    cutoff_rule: str
    origin: FeatureOrigin | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcordanceCard:
    """Harrell's C of one model.

    Attributes:
        model: a risk model or a network.
        rows: on which rows, e.g. "out-of-fold, 240 training phantoms".
        low: lower end of the 95 % bootstrap interval, None when not computed.
    """

    endpoint: Endpoint
    model: str
    rows: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """card.toml, version 1.

    Attributes:
        name: of the model, e.g. ``mmf``.
        version: unique among the models of this name; the name of its folder in a store.
        created: aware time of the release.
        demonstration: trained on phantoms; of no clinical meaning, refused unless allowed.
        intended_use: in a sentence.
        limits: what a user must know, one sentence each.
        comparators: Radiomic and mRECIST where the cohort had features and responses; no report on a patient shows them but
            as an input of an MMF that takes the Radiomic score.
    """

    name: str
    version: str
    created: datetime
    demonstration: bool
    intended_use: str
    limits: tuple[str, ...]
    preprocessing: Preprocessing
    training: TrainingCard
    networks: tuple[NetworkCard, ...]
    ensembles: tuple[EnsembleCard, ...]
    cox: tuple[CoxCard, ...]
    concordance: tuple[ConcordanceCard, ...] = ()
    comparators: tuple[ComparatorCard, ...] = ()

    def c_index_sentence(self) -> str:
        """Returns the C-indices of the reported models in one sentence, with the rows they were measured on."""
        parts: dict[str, list[str]] = {}
        for entry in self.concordance:
            if entry.model in set(ModelName):
                stated = f"{entry.model} {entry.endpoint} {entry.value:.2f}"
                if entry.low is not None and entry.high is not None:
                    stated += f" ({entry.low:.2f} to {entry.high:.2f})"
                parts.setdefault(entry.rows, []).append(stated)
        return "; ".join(f"{', '.join(stated)}, {rows}" for rows, stated in parts.items()) or "not stated"

    def ensemble(self, endpoint: Endpoint) -> EnsembleCard:
        """Returns the ensemble of ``endpoint``."""
        return next(entry for entry in self.ensembles if entry.endpoint == endpoint)

    def files(self) -> tuple[str, ...]:
        """Returns every path the card names, once each."""
        weights = [entry.file for entry in self.networks]
        coefficients = [entry.file for entry in self.cox] + [entry.file for entry in self.comparators]
        forests = [entry.forest for entry in self.ensembles]
        forests += [entry.forest.file for entry in self.cox if entry.forest is not None]
        return tuple(dict.fromkeys((*weights, *forests, *coefficients)))


def write_card(card: ModelCard) -> str:
    """Returns card.toml as text.

    Raises:
        ModelRefused: the card does not stand by itself (see ``read_card``).
    """
    if card.created.tzinfo is None:
        raise ModelRefused("card.toml: created must carry a time zone")
    content = json.loads(json.dumps(asdict(card), default=_as_text))
    for entry in content["concordance"]:
        for bound in ("low", "high"):
            if entry[bound] is None:
                del entry[bound]
    for entry in content["cox"]:
        if entry["forest"] is None:
            del entry["forest"]
    for entry in content["comparators"]:
        if entry["origin"] is None:
            del entry["origin"]
    table = {"schema": CARD_SCHEMA, "schema_version": CARD_VERSION, **content}
    text = tomli_w.dumps(table)
    read_card(text)
    return text


def read_card(text: str) -> ModelCard:
    """Returns the card of a card.toml.

    Raises:
        ModelRefused: not TOML, another schema or version, unknown or missing keys, values of the wrong kind, an endpoint
            without ensemble, Ensemble-DL or MMF; all faults are listed.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ModelRefused(f"card.toml is not TOML: {error}") from error
    version = (table.get("schema"), table.get("schema_version"))
    if version != (CARD_SCHEMA, CARD_VERSION):
        raise ModelRefused(
            f"card.toml: schema {version[0]} version {version[1]}, expected {CARD_SCHEMA} version {CARD_VERSION}"
        )
    check_schema("model-card", table, "card.toml")
    try:
        card = _decode(table)
    except (ValueError, InvalidInput) as error:
        raise ModelRefused(f"card.toml: {error}") from error
    faults = _faults(card)
    if faults:
        raise ModelRefused("card.toml: " + "; ".join(faults))
    return card


def _decode(table: Mapping[str, Any]) -> ModelCard:
    content = {key: value for key, value in table.items() if key not in ("schema", "schema_version")}
    card: ModelCard = TypeAdapter(ModelCard).validate_python(content)
    return card


def _faults(card: ModelCard) -> list[str]:
    faults: list[str] = []
    if card.created.tzinfo is None:
        faults.append("created has no time zone")
    for endpoint in Endpoint:
        ensembles = [entry for entry in card.ensembles if entry.endpoint == endpoint]
        models = Counter(entry.model for entry in card.cox if entry.endpoint == endpoint)
        networks = Counter(entry.name for entry in card.networks if entry.endpoint == endpoint)
        comparators = Counter(entry.model for entry in card.comparators if entry.endpoint == endpoint)
        faults += [f"{n} comparators {name} for {endpoint}" for name, n in comparators.items() if n > 1]
        if len(ensembles) != 1:
            faults.append(f"{len(ensembles)} ensembles for {endpoint}, expected 1")
        faults += [f"{n} models {name} for {endpoint}" for name, n in models.items() if n > 1]
        faults += [
            f"no model {name} for {endpoint}"
            for name in (ModelName.MMF, ModelName.ENSEMBLE_DL)
            if name not in models
        ]
        faults += [
            f"network {name} is named {n} times for {endpoint}" for name, n in networks.items() if n > 1
        ]
        faults += [
            f"the ensemble of {endpoint} needs {name}, which has no weights"
            for entry in ensembles
            for name in entry.networks
            if name not in networks
        ]
    return faults


def _as_text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a model card")
