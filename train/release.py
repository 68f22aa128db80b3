"""Writes a model folder from fitted parts, and loads it again before anyone else does."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save as save_arrays

from engines.case import hash_file, replaced
from engines.endpoint import Endpoint
from engines.ensemble import Ensemble
from engines.errors import ModelRefused
from engines.forest import Forest
from engines.mmf import ModelName, RiskModel
from engines.models.card import (
    ComparatorCard,
    ConcordanceCard,
    CoxCard,
    EnsembleCard,
    ForestCard,
    ModelCard,
    NetworkCard,
    TrainingCard,
    write_card,
)
from engines.models.comparator import Comparator, ComparatorName
from engines.models.cox_file import write_cox
from engines.models.model import Model
from engines.models.reference import Reference, write_reference
from engines.models.store import CARD, MANIFEST, REFERENCE, load_model, verify_folder
from engines.network_input import Preprocessing
from engines.networks.settings import NetworkName
from train.clinical_model import RiskFit
from train.errors import FitRefused
from train.fit_folder import Fit

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
        comparators: Radiomic and mRECIST, where the cohort had what they need.
    """

    preprocessing: Preprocessing
    networks: Mapping[tuple[NetworkName, Endpoint], "RiskNetwork"]
    half: bool
    ensembles: Mapping[Endpoint, Ensemble]
    risk_fits: tuple[RiskFit, ...]
    reference: Reference
    comparators: tuple[Comparator, ...] = ()


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
    _check_radiomic(parts)
    network_cards = _write_networks(folder, parts)
    ensemble_cards = tuple(_write_ensemble(folder, ensemble) for ensemble in parts.ensembles.values())
    cox_cards = tuple(_write_cox_model(folder, fit) for fit in parts.risk_fits)
    comparator_cards = tuple(_write_comparator(folder, comparator) for comparator in parts.comparators)
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
        comparators=comparator_cards,
    )
    _write_text(folder / CARD, write_card(card))
    seal_model(folder)
    model = load_model(folder, allow_demonstration=True)
    _compare(model, parts, probe)
    return model


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseWords:
    """What the person who releases a model says of it.

    Attributes:
        limits: beside those that the fit states itself.
        created: aware time.
        concordance: beside what the fit has measured.
    """

    name: str
    version: str
    intended_use: str
    limits: tuple[str, ...]
    created: datetime
    concordance: tuple[ConcordanceCard, ...] = ()


def release_fit(fit: Fit, folder: Path, words: ReleaseWords) -> Model:
    """Copies the model of a fit under its final name, loads it, compares it with the fit's, and returns it.

    Args:
        fit: a finished fit.
        folder: must be absent or empty.
        words: of the card.

    Raises:
        FitRefused: the model in the fit is another than its record tells.
        ModelRefused: the folder is not empty, the fit's model is damaged, or a word does not fit the card.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ModelRefused(f"{folder} is not empty; a release never overwrites another")
    source = verify_folder(fit.paths.model)
    candidate = load_model(fit.paths.model, allow_demonstration=True).card
    if (candidate.demonstration, candidate.created) != (fit.record.cohort.synthetic, fit.record.created):
        raise FitRefused(
            f"{fit.paths.model} is not the model of {fit.paths.record}; run `mmf-train fit` again"
        )
    card = replace(
        candidate,
        name=words.name,
        version=words.version,
        intended_use=words.intended_use,
        limits=(*words.limits, *candidate.limits),
        created=words.created,
        concordance=(*candidate.concordance, *words.concordance),
    )
    text = write_card(card)
    for name in source.files:
        if name != CARD:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            copyfile(fit.paths.model / name, folder / name)
    _write_text(folder / CARD, text)
    seal_model(folder)
    released = verify_folder(folder)
    changed = [name for name in source.files if name != CARD and released.files[name] != source.files[name]]
    if changed:
        raise ModelRefused(f"{folder}: {', '.join(changed)} changed while it was copied; release again")
    return load_model(folder, allow_demonstration=True)


def seal_model(folder: Path) -> None:
    """Writes manifest.json: SHA-256 and size of every file that is in the folder now."""
    files = {
        path.relative_to(folder).as_posix(): {"sha256": hash_file(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    content = {"schema": "mmf-model-manifest", "schema_version": 1, "files": files}
    _write_text(folder / MANIFEST, json.dumps(content, indent=1) + "\n")


def _check_radiomic(parts: FittedParts) -> None:
    """An MMF that takes the Radiomic score needs its model, and how the features were measured, in the same folder."""
    known = {
        one.endpoint
        for one in parts.comparators
        if one.name is ComparatorName.RADIOMIC and one.origin is not None
    }
    lacking = [one.model.endpoint for one in parts.risk_fits if one.model.needs_radiomic]
    lacking = [endpoint for endpoint in lacking if endpoint not in known]
    if lacking:
        raise ModelRefused(
            f"MMF {', '.join(lacking)} takes the Radiomic score, but there is no Radiomic model that says how its features"
            " were measured"
        )


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
    file = _write_forest(folder, f"forests/{ensemble.endpoint.value.lower()}.safetensors", ensemble.forest)
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
        forest=_write_front(folder, model),
    )


def _write_front(folder: Path, model: RiskModel) -> ForestCard | None:
    if model.front is None:
        return None
    file = f"forests/{model.name.value.lower()}-{model.endpoint.value.lower()}.safetensors"
    return ForestCard(
        file=_write_forest(folder, file, model.front.forest),
        names=model.front.names,
        mean_contributions=tuple(model.front.mean_contributions.tolist()),
    )


def _write_forest(folder: Path, file: str, forest: Forest) -> str:
    arrays = {name: np.ascontiguousarray(array) for name, array in forest.arrays().items()}
    with replaced(folder / file) as draft:
        draft.write_bytes(save_arrays(arrays))
    return file


def _write_comparator(folder: Path, comparator: Comparator) -> ComparatorCard:
    word = {
        ComparatorName.RADIOMIC: "radiomic",
        ComparatorName.MRECIST: "mrecist",
        ComparatorName.MRECIST_FROM_START: "mrecist-no-landmark",
    }[comparator.name]
    file = f"cox/{word}-{comparator.endpoint.value.lower()}.json"
    _write_text(folder / file, write_cox(comparator.cox))
    return ComparatorCard(
        endpoint=comparator.endpoint,
        model=comparator.name,
        file=file,
        cutoff=comparator.cutoff,
        cutoff_rule=comparator.cutoff_rule,
        origin=comparator.origin,
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
