"""Model folders on disk: verify, load, and keep versions of which one is in service.

A model folder, version 1:

    manifest.json               SHA-256 and size of every other file; its own SHA-256 names the model
    card.toml                   name, version, preprocessing, training, cut-offs, which file is what
    networks/*.safetensors      weights of each network (and endpoint, where the checkpoints differ)
    forests/*.safetensors       arrays of the survival forest of each endpoint, and of an MMF that is one
    cox/*.json                  Cox models and comparators: coefficients, covariance, baseline hazard with its variance
    reference.json              aggregates of the training cohort: curves, quantiles, shares

A store is a folder of such folders, ``VERSION/``, with ``current.json`` that says which is in service.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays

from engines.case import write_json
from engines.endpoint import Endpoint
from engines.ensemble import Ensemble
from engines.errors import ModelRefused
from engines.forest import Forest, forest_of_arrays
from engines.lock import hold_lock
from engines.mmf import ForestFront, ModelName, RiskModel
from engines.models.card import ComparatorCard, CoxCard, EnsembleCard, ModelCard, read_card
from engines.models.comparator import Comparator, ComparatorName
from engines.models.cox_file import read_cox
from engines.models.model import Model, WeightsFile
from engines.models.reference import Reference, read_reference
from engines.models.schema import check_schema
from engines.novelty import count_numbers
from engines.phase import Phase

MANIFEST = "manifest.json"
CARD = "card.toml"
REFERENCE = "reference.json"
CURRENT = "current.json"
_LOCK = ".lock"

MOST_BYTES = 4 << 30
"""Largest file of a model folder; the three networks at full size, float32, take 0.6 GB together."""

_MOST_MANIFEST_BYTES = 1 << 20
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedFolder:
    """A model folder whose files are exactly those of its manifest.

    Attributes:
        sha256: of manifest.json, hence of the whole folder.
        files: SHA-256 by relative path.
    """

    folder: Path
    sha256: str
    files: Mapping[str, str]

    def read(self, name: str) -> bytes:
        """Returns the content of a file after checking the hash of these very bytes.

        Raises:
            ModelRefused: the manifest does not name it, or it has changed.
        """
        if name not in self.files:
            raise ModelRefused(f"model {self.folder.name}: {MANIFEST} does not name {name}")
        content = (self.folder / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != self.files[name]:
            raise ModelRefused(
                f"model {self.folder.name}: {name} is not the file that was released (SHA-256 differs)"
            )
        return content

    def text(self, name: str) -> str:
        """Returns the content of a UTF-8 file.

        Raises:
            ModelRefused: as ``read``, or it is not UTF-8.
        """
        try:
            return self.read(name).decode("utf-8")
        except UnicodeDecodeError as error:
            raise ModelRefused(f"model {self.folder.name}: {name} is not UTF-8") from error


def verify_folder(folder: Path) -> VerifiedFolder:
    """Returns the folder after checking the SHA-256 of every file; nothing of them has been interpreted.

    Raises:
        ModelRefused: no manifest, or a file is missing, changed, too large, unexpected, or a link; all are named.
    """
    path = folder / MANIFEST
    if not path.is_file() or path.stat().st_size > _MOST_MANIFEST_BYTES:
        raise ModelRefused(f"{folder} is not a model folder: no {MANIFEST} of plausible size")
    content = path.read_bytes()
    try:
        manifest = json.loads(content)
    except ValueError as error:
        raise ModelRefused(f"model {folder.name}: {MANIFEST} is not JSON: {error}") from error
    check_schema("model-manifest", manifest, f"model {folder.name}: {MANIFEST}")
    expected = manifest["files"]
    present = {
        entry.relative_to(folder).as_posix()
        for entry in folder.rglob("*")
        if entry.is_symlink() or not entry.is_dir()
    }
    faults = [f"{name} is missing" for name in sorted(set(expected) - present)]
    faults += [f"{name} is not in {MANIFEST}" for name in sorted(present - set(expected) - {MANIFEST})]
    for name in sorted(set(expected) & present):
        faults += _faults_of_file(folder / name, name, expected[name])
    if faults:
        raise ModelRefused(f"model {folder.name}: " + "; ".join(faults))
    return VerifiedFolder(
        folder=folder,
        sha256=hashlib.sha256(content).hexdigest(),
        files={name: entry["sha256"] for name, entry in expected.items()},
    )


def load_model(folder: Path, *, allow_demonstration: bool) -> Model:
    """Returns the model of a folder, everything but the networks read and checked; those are read on first use.

    Args:
        folder: a model folder.
        allow_demonstration: whether a model trained on phantoms may be used; every result then says so.

    Raises:
        ModelRefused: the folder is damaged, of another version, does not fit together, or is a demonstration model that is
            not allowed.
    """
    verified = verify_folder(folder)
    card = read_card(verified.text(CARD))
    if card.demonstration and not allow_demonstration:
        raise ModelRefused(
            f"model {card.name} {card.version} is a demonstration model, trained on phantoms and of no clinical meaning;"
            " it is used only where demonstration models are allowed (--allow-demo-models)"
        )
    unnamed = set(verified.files) - set(card.files()) - {CARD, REFERENCE}
    if unnamed:
        raise ModelRefused(f"model {folder.name}: the card does not name {', '.join(sorted(unnamed))}")
    reference = read_reference(verified.text(REFERENCE))
    _check_inputs(reference, card.preprocessing.phases, folder.name)
    return Model(
        card=card,
        sha256=verified.sha256,
        reference=reference,
        ensembles={entry.endpoint: _read_ensemble(verified, entry) for entry in card.ensembles},
        risk_models={
            (entry.endpoint, entry.model): _read_risk_model(verified, entry, reference) for entry in card.cox
        },
        comparators={
            (entry.endpoint, entry.model): _read_comparator(verified, entry) for entry in card.comparators
        },
        weights={
            (entry.name, entry.endpoint): _weights_file(verified, entry.file) for entry in card.networks
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Which version is in service: one line of the store's history.

    Attributes:
        since: when it was put into service, aware.
        by: who did it.
        note: why, where that needs a word.
        returned: put back by a rollback, not promoted.
    """

    version: str
    since: datetime
    by: str
    note: str = ""
    returned: bool = False


class ModelStore:
    """Versions of one model under a folder, and which one is in service. Every change is one atomic replacement."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def versions(self) -> tuple[str, ...]:
        """Returns the versions that are installed, in the order of their names."""
        if not self.root.is_dir():
            return ()
        return tuple(
            sorted(path.parent.name for path in self.root.glob(f"*/{MANIFEST}") if path.parent.name[0] != ".")
        )

    def folder(self, version: str) -> Path:
        """Returns the folder of an installed version.

        Raises:
            ModelRefused: it is not installed; the message lists those that are.
        """
        if not _VERSION.fullmatch(version) or version not in self.versions():
            known = ", ".join(self.versions()) or "none"
            raise ModelRefused(
                f"model version '{version}' is not installed in {self.root}; there are: {known}"
            )
        return self.root / version

    def history(self) -> tuple[Service, ...]:
        """Returns what has been in service, the present one last; empty when nothing ever was.

        Raises:
            ModelRefused: current.json is damaged.
        """
        path = self.root / CURRENT
        if not path.is_file():
            return ()
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))["history"]
            return tuple(
                Service(
                    version=entry["version"],
                    since=datetime.fromisoformat(entry["since"]),
                    by=entry["by"],
                    note=entry.get("note", ""),
                    returned=entry.get("returned", False),
                )
                for entry in entries
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ModelRefused(f"{path} is damaged: {error}") from error

    def current(self) -> Path:
        """Returns the folder of the version in service.

        Raises:
            ModelRefused: none is in service, or it is not installed any more.
        """
        history = self.history()
        if not history:
            raise ModelRefused(
                f"no model is in service in {self.root}; promote one of: {', '.join(self.versions())}"
            )
        return self.folder(history[-1].version)

    def install(self, folder: Path) -> str:
        """Copies a verified model folder into the store and returns its version; it is not yet in service.

        Raises:
            ModelRefused: the folder is damaged, or another model of this version is installed.
        """
        verified = verify_folder(folder)
        card: ModelCard = read_card(verified.text(CARD))
        self.root.mkdir(parents=True, exist_ok=True)
        target = self.root / card.version
        if target.exists():
            if verify_folder(target).sha256 == verified.sha256:
                return card.version
            raise ModelRefused(f"another model of version {card.version} is installed in {self.root}")
        with _drafted_folder(target) as draft:
            for name in (*verified.files, MANIFEST):
                (draft / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, draft / name)
            verify_folder(draft)
        return card.version

    def promote(self, version: str, *, since: datetime, by: str, note: str = "") -> None:
        """Puts an installed version into service after verifying it.

        Raises:
            ModelRefused: it is not installed, damaged, or already in service.
            Busy: another process changes the version in service.
        """
        verify_folder(self.folder(version))
        with self._changing():
            history = self.history()
            if history and history[-1].version == version:
                raise ModelRefused(f"model version {version} is already in service")
            self._write((*history, Service(version=version, since=since, by=by, note=note)))

    def earlier(self) -> str:
        """Returns the version that a rollback puts back: the one that was promoted before the one in service.

        Versions that were rolled back from do not count: two rollbacks go two promotions back.

        Raises:
            ModelRefused: there was none before.
        """
        promoted: list[str] = []
        for entry in self.history():
            if entry.returned and entry.version in promoted:
                while promoted[-1] != entry.version:
                    promoted.pop()
            else:
                promoted.append(entry.version)
        if len(promoted) < 2:
            raise ModelRefused(f"no earlier model version has been in service in {self.root}")
        return promoted[-2]

    def rollback(self, *, since: datetime, by: str) -> str:
        """Puts the version before the present one back into service and returns it; the step is kept in the history.

        Raises:
            ModelRefused: there was none before, or it is not installed any more or damaged.
            Busy: another process changes the version in service.
        """
        with self._changing():
            version, history = self.earlier(), self.history()
            verify_folder(self.folder(version))
            note = f"rollback from {history[-1].version}"
            self._write((*history, Service(version=version, since=since, by=by, note=note, returned=True)))
        return version

    def _changing(self) -> AbstractContextManager[None]:
        """The lock of whoever changes the version in service."""
        return hold_lock(self.root / _LOCK, f"a change of the model in service in {self.root}")

    def _write(self, history: tuple[Service, ...]) -> None:
        entries = [
            {
                "version": entry.version,
                "since": entry.since.isoformat(),
                "by": entry.by,
                "note": entry.note,
                "returned": entry.returned,
            }
            for entry in history
        ]
        write_json(
            {"schema": "mmf-model-service", "schema_version": 1, "history": entries}, self.root / CURRENT
        )


@contextmanager
def _drafted_folder(target: Path) -> Iterator[Path]:
    """Gives an empty hidden folder beside ``target``; when the block ends well it takes the name, else it vanishes."""
    draft = target.with_name(f".draft-{os.getpid()}-{target.name}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        yield draft
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _check_inputs(reference: Reference, phases: Sequence[Phase], name: str) -> None:
    """Refuses a reference of other training inputs than the card's: no study could be judged by it.

    Raises:
        ModelRefused: other channels, or another number of them behind the novelty reference.
    """
    known = [entry.phase for entry in reference.network_input]
    if known != list(phases):
        raise ModelRefused(
            f"model {name}: {REFERENCE} describes inputs of {', '.join(known) or 'no phase'};"
            f" the card's channels are {', '.join(phases)}"
        )
    novelty, expected = reference.novelty, count_numbers(len(phases))
    if novelty is not None and len(novelty.mean) != expected:
        raise ModelRefused(
            f"model {name}: {REFERENCE} describes the training inputs by {len(novelty.mean)} numbers;"
            f" the card's {len(phases)} channels have {expected}"
        )


def _faults_of_file(path: Path, name: str, expected: Mapping[str, object]) -> list[str]:
    if path.is_symlink() or not path.is_file():
        return [f"{name} is not a plain file"]
    size = path.stat().st_size
    if size != expected["bytes"] or size > MOST_BYTES:
        return [f"{name} has {size} bytes, expected {expected['bytes']}"]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return (
        []
        if digest == expected["sha256"]
        else [f"{name} is not the file that was released (SHA-256 differs)"]
    )


def _read_forest(verified: VerifiedFolder, file: str) -> Forest:
    try:
        return forest_of_arrays(load_arrays(verified.read(file)))
    except SafetensorError as error:
        raise ModelRefused(f"{file} cannot be read as safetensors: {error}") from error


def _read_ensemble(verified: VerifiedFolder, card: EnsembleCard) -> Ensemble:
    return Ensemble(
        endpoint=card.endpoint,
        networks=tuple(name.value for name in card.networks),
        mean=np.asarray(card.mean, dtype=np.float64),
        sd=np.asarray(card.sd, dtype=np.float64),
        forest=_read_forest(verified, card.forest),
    )


def _read_risk_model(verified: VerifiedFolder, card: CoxCard, reference: Reference) -> RiskModel:
    return RiskModel(
        name=ModelName(card.model),
        endpoint=Endpoint(card.endpoint),
        cox=read_cox(verified.text(card.file), card.file),
        cutoff=card.cutoff,
        cutoff_rule=card.cutoff_rule,
        quantiles=np.asarray(reference.of(card.endpoint, card.model).quantiles, dtype=np.float64),
        front=None
        if card.forest is None
        else ForestFront(
            names=card.forest.names,
            forest=_read_forest(verified, card.forest.file),
            mean_contributions=np.asarray(card.forest.mean_contributions, dtype=np.float64),
        ),
    )


def _read_comparator(verified: VerifiedFolder, card: ComparatorCard) -> Comparator:
    return Comparator(
        name=ComparatorName(card.model),
        endpoint=Endpoint(card.endpoint),
        cox=read_cox(verified.text(card.file), card.file),
        cutoff=card.cutoff,
        cutoff_rule=card.cutoff_rule,
        origin=card.origin,
    )


def _weights_file(verified: VerifiedFolder, name: str) -> WeightsFile:
    if name not in verified.files:
        raise ModelRefused(f"model {verified.folder.name}: {MANIFEST} does not name {name}")
    return WeightsFile(path=verified.folder / name, sha256=verified.files[name])
