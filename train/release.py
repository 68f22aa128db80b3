"""Writes a model folder from fitted parts, and loads it again before anyone else does."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save as save_arrays

from engines.case import hash_file, replaced
from engines.endpoint import Endpoint
from engines.ensemble import Ensemble
from engines.errors import ModelRefused
from engines.mmf import ModelName
from engines.models.card import (
    ConcordanceCard,
    CoxCard,
    EnsembleCard,
    ModelCard,
    NetworkCard,
    TrainingCard,
    write_card,
)
from engines.models.cox_file import write_cox
from engines.models.model import Model
from engines.models.reference import Reference, write_reference
from engines.models.store import CARD, MANIFEST, REFERENCE, load_model
from engines.network_input import Preprocessing
from engines.networks.settings import NetworkName
from train.clinical_model import RiskFit

if TYPE_CHECKING:
    from engines.networks.heads import RiskNetwork

LARGEST_DIFFERENCE = 1e-4
"""Of a log-risk between a network in memory and its released weights, in training standard deviations: rounding only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What the card says in words.

    Attributes:
        created: aware time.
        demonstration: trained on phantoms.
    """

    name: str
    version: str
    created: datetime
    demonstration: bool
    intended_use: str
    limits: tuple[str, ...]
    training: TrainingCard
    concordance: tuple[ConcordanceCard, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedParts:
    """Everything fitted that a release holds.

    Attributes:
        networks: checkpoint of each network for each endpoint; the same object may serve both.
        half: store kernels of the networks as float16; round them first with ``engines.networks.weights.round_weights``.
        ensembles: by endpoint, fitted on the log-risks of these networks.
        risk_fits: every Cox model, at least MMF and Ensemble-DL of both endpoints.
    """

    preprocessing: Preprocessing
    networks: Mapping[tuple[NetworkName, Endpoint], "RiskNetwork"]
    half: bool
    ensembles: Mapping[Endpoint, Ensemble]
    risk_fits: tuple[RiskFit, ...]
    reference: Reference


def write_release(
    folder: Path,
    statement: Statement,
    parts: FittedParts,
    probe: npt.NDArray[np.float16],
) -> Model:
    """Writes a model folder, version 1, loads it, compares it with what was fitted, and returns it.

    Args:
        folder: must not exist, or be empty.
        statement: words of the card.
        parts: what was fitted.
        probe: one network input; the released networks must say of it what those in memory say.

    Raises:
        ModelRefused: the folder is not empty, the parts do not fit together, or the released model differs.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ModelRefused(f"{folder} is not empty; a release never overwrites another")
    network_cards = _write_networks(folder, parts)
    ensemble_cards = tuple(_write_ensemble(folder, ensemble) for ensemble in parts.ensembles.values())
    cox_cards = tuple(_write_cox_model(folder, fit) for fit in parts.risk_fits)
    _write_text(folder / REFERENCE, write_reference(parts.reference))
    card = ModelCard(
        name=statement.name,
        version=statement.version,
        created=statement.created,
        demonstration=statement.demonstration,
        intended_use=statement.intended_use,
        limits=statement.limits,
        preprocessing=parts.preprocessing,
        training=statement.training,
        networks=network_cards,
        ensembles=ensemble_cards,
        cox=cox_cards,
        concordance=statement.concordance,
    )
    _write_text(folder / CARD, write_card(card))
    seal_model(folder)
    model = load_model(folder, allow_demonstration=True)
    _compare(model, parts, probe)
    return model


def seal_model(folder: Path) -> None:
    """Writes manifest.json: SHA-256 and size of every file that is in the folder now."""
    files = {
        path.relative_to(folder).as_posix(): {"sha256": hash_file(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    content = {"schema": "mmf-model-manifest", "schema_version": 1, "files": files}
    _write_text(folder / MANIFEST, json.dumps(content, indent=1) + "\n")


def _write_networks(folder: Path, parts: FittedParts) -> tuple[NetworkCard, ...]:
    from engines.networks.weights import write_weights

    written: dict[int, str] = {}
    cards: list[NetworkCard] = []
    (folder / "networks").mkdir(parents=True, exist_ok=True)
    for (name, endpoint), network in parts.networks.items():
        shared = sum(other is network for other in parts.networks.values()) > 1
        file = written.setdefault(
            id(network), f"networks/{name.value}{'' if shared else '-' + endpoint.value.lower()}.safetensors"
        )
        if not (folder / file).is_file():
            write_weights(folder / file, name, network, half=parts.half)
        cards.append(NetworkCard(name=name, endpoint=endpoint, file=file))
    return tuple(cards)


def _write_ensemble(folder: Path, ensemble: Ensemble) -> EnsembleCard:
    file = f"forests/{ensemble.endpoint.value.lower()}.safetensors"
    arrays = {name: np.ascontiguousarray(array) for name, array in ensemble.forest.arrays().items()}
    with replaced(folder / file) as draft:
        draft.write_bytes(save_arrays(arrays))
    return EnsembleCard(
        endpoint=ensemble.endpoint,
        networks=tuple(map(NetworkName, ensemble.networks)),
        mean=tuple(ensemble.mean.tolist()),
        sd=tuple(ensemble.sd.tolist()),
        forest=file,
    )


def _write_cox_model(folder: Path, fit: RiskFit) -> CoxCard:
    model = fit.model
    file = f"cox/{model.name.value.lower()}-{model.endpoint.value.lower()}.json"
    _write_text(folder / file, write_cox(model.cox))
    return CoxCard(
        endpoint=model.endpoint,
        model=ModelName(model.name),
        file=file,
        cutoff=model.cutoff,
        cutoff_rule=model.cutoff_rule,
    )


def _write_text(path: Path, text: str) -> None:
    with replaced(path) as draft:
        draft.write_text(text, encoding="utf-8")


def _compare(model: Model, parts: FittedParts, probe: npt.NDArray[np.float16]) -> None:
    import torch

    released = model.log_risks(probe)
    batch = torch.from_numpy(probe.astype(np.float32))[None]
    for endpoint, ensemble in parts.ensembles.items():
        for place, name in enumerate(map(NetworkName, ensemble.networks)):
            network = parts.networks[name, endpoint].eval()
            with torch.inference_mode():
                output = network(batch)
            fitted = float((output.os_log_risk if endpoint == Endpoint.OS else output.pfs_log_risk)[0])
            difference = abs(released[endpoint][name] - fitted) / ensemble.sd[place]
            if not difference <= LARGEST_DIFFERENCE:
                raise ModelRefused(
                    f"released {name} differs from the fitted one by {difference:.3g} standard deviations of {endpoint}"
                    " log-risk; round its weights before anything is fitted on them"
                )
