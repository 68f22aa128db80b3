"""The case folder, version 1: one study as data, written by the node's pipeline and read by training.

Layout (every path relative to the folder; absent parts are simply not there):

    case.json                     what this is: schema version, ids, phases, provenance, SHA-256 of every file below
    volumes/ARTERIAL.nrrd         int16 Hounsfield units on the native grid of the phase (also PORTAL_VENOUS, DELAYED)
    transforms/ARTERIAL.tfm       ITK text transform: takes points of PORTAL_VENOUS to points of ARTERIAL (also DELAYED)
    masks/liver.nrrd              uint8 0/1 on the portal-venous grid
    masks/lesions.nrrd            uint8 labels 1..n, largest lesion first, same grid
    network_input.npy             float16 (channels A, V, D; side; side; side), 0 to 1
    activation_maps.npy           uint8 0..255 (endpoints, networks, side, side, side) on the grid of the network input
    features.csv                  region, phase, feature, value
    scores.json clinical.json outcomes.json   see their writers
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from engines.errors import CaseRefused
from engines.phase import ASSESSED_PHASES, REFERENCE_PHASE, Phase
from engines.volume import Volume

SCHEMA_VERSION = 1
_SCHEMA_PATH = Path(__file__).parent / "schemas" / "case.schema.json"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseSource:
    """Where a phase of the case came from.

    Attributes:
        series: Series Instance UID in the node; a pseudonym in an exported cohort.
        part: 0 when the series was not split.
        seconds_after_injection: None when not known.
    """

    series: str
    part: int = 0
    seconds_after_injection: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseIdentity:
    """What a case is.

    Attributes:
        case_id: name of the case, unique in its cohort.
        patient_key: the patient as a pseudonym (cohort) or a keyed hash (node); two cases of a patient share it.
        study: Study Instance UID or its pseudonym.
        synthetic: made of phantoms.
        mask_provider: who drew the masks, with version; features of different providers are never mixed.
        phases: sources by phase.
    """

    case_id: str
    patient_key: str
    study: str
    synthetic: bool = False
    mask_provider: str = ""
    phases: Mapping[Phase, PhaseSource]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A case folder on disk. Readers check nothing by themselves: call ``check_case`` once at the door."""

    folder: Path

    def volume_path(self, phase: Phase) -> Path:
        """Path of the phase's volume."""
        return self.folder / "volumes" / f"{phase.value}.nrrd"

    def transform_path(self, phase: Phase) -> Path:
        """Path of the transform portal venous -> ``phase``."""
        return self.folder / "transforms" / f"{phase.value}.tfm"

    def mask_path(self, name: str) -> Path:
        """Path of the mask ``liver`` or ``lesions``."""
        return self.folder / "masks" / f"{name}.nrrd"

    @property
    def network_input_path(self) -> Path:
        """Path of the network input."""
        return self.folder / "network_input.npy"

    @property
    def activation_maps_path(self) -> Path:
        """Path of the networks' activation maps."""
        return self.folder / "activation_maps.npy"

    @property
    def features_path(self) -> Path:
        """Path of the radiomic features."""
        return self.folder / "features.csv"

    def read_volume(self, phase: Phase) -> Volume:
        """Returns the phase's volume, int16 HU on its native grid."""
        return read_image(self.volume_path(phase))

    def read_mask(self, name: str) -> Volume:
        """Returns a mask on the portal-venous grid, uint8."""
        return read_image(self.mask_path(name))

    def read_transform(self, phase: Phase) -> sitk.Transform:
        """Returns the transform of ``phase``; identity for the reference phase."""
        if phase == REFERENCE_PHASE:
            return sitk.Transform(3, sitk.sitkIdentity)
        return sitk.ReadTransform(str(self.transform_path(phase)))

    def read_network_input(self) -> npt.NDArray[np.float16]:
        """Returns the network input, float16 (channels, side, side, side).

        Raises:
            CaseRefused: the file is cut short or no array of numbers.
        """
        array: npt.NDArray[np.float16] = _read_array(self.network_input_path)
        return array

    def read_activation_maps(self) -> npt.NDArray[np.uint8]:
        """Returns the activation maps, uint8 (endpoints, networks, side, side, side), 255 where a map is strongest."""
        array: npt.NDArray[np.uint8] = _read_array(self.activation_maps_path)
        return array

    def read_json(self, name: str) -> object:
        """Returns the parsed content of ``NAME.json`` in this case.

        Raises:
            CaseRefused: it is not JSON.
        """
        path = self.folder / f"{name}.json"
        try:
            content: object = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CaseRefused(f"{path} is not JSON: {error}") from error
        return content

    def has(self, name: str) -> bool:
        """Whether ``NAME.json`` is part of this case."""
        return (self.folder / f"{name}.json").is_file()


def write_image(volume: Volume, path: Path, *, compress: bool = False) -> None:
    """Writes a volume or mask as NRRD, atomically.

    Args:
        volume: int16, uint8, bool or float array.
        path: ends in ``.nrrd``; the parent is made.
        compress: gzip; for cohorts that travel.
    """
    with replaced(path) as draft:
        sitk.WriteImage(volume.to_image(), str(draft), useCompression=compress)


def read_image(path: Path) -> Volume:
    """Returns the volume of an NRRD file that this product wrote.

    Raises:
        CaseRefused: the file is missing or no image.
    """
    try:
        return Volume.of_image(sitk.ReadImage(str(path)))
    except RuntimeError as error:
        raise CaseRefused(f"{path} cannot be read as an image: {error}") from error


def write_array(array: npt.NDArray[Any], path: Path) -> None:
    """Writes an array as .npy, atomically and without pickle."""
    with replaced(path) as draft, draft.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def write_transform(transform: sitk.Transform, path: Path) -> None:
    """Writes an ITK transform as text, atomically."""
    with replaced(path) as draft:
        sitk.WriteTransform(transform, str(draft))


def write_json(content: object, path: Path) -> None:
    """Writes JSON (UTF-8, floats unrounded, keys in their order), atomically and durably."""
    with replaced(path) as draft:
        draft.write_text(
            json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Gives a draft path beside ``path``; when the block ends well, the draft is synced and takes its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".draft-{os.getpid()}-{path.name}")
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def hash_file(path: Path) -> str:
    """Returns the SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def seal_case(case: Case, identity: CaseIdentity, contents: Iterable[Path] | None = None) -> None:
    """Writes case.json: the identity and the SHA-256 of every file of the case.

    Args:
        case: the folder.
        identity: what the case is.
        contents: the files that belong to it; other volumes, masks and tables in the folder were left by another study
            and are removed. None takes every file that is there.
    """
    if contents is not None:
        kept = set(contents)
        for path in sorted(case.folder.rglob("*")):
            if path.is_file() and _is_content(case.folder, path) and path not in kept:
                path.unlink()
    files = {
        path.relative_to(case.folder).as_posix(): hash_file(path)
        for path in sorted(case.folder.rglob("*"))
        if path.is_file() and _is_content(case.folder, path)
    }
    content = {
        "schema": "mmf-case",
        "schema_version": SCHEMA_VERSION,
        "case_id": identity.case_id,
        "patient_key": identity.patient_key,
        "study": identity.study,
        "synthetic": identity.synthetic,
        "mask_provider": identity.mask_provider,
        "phases": {
            phase.value: {
                "series": source.series,
                "part": source.part,
                "seconds_after_injection": source.seconds_after_injection,
            }
            for phase, source in identity.phases.items()
        },
        "files": files,
    }
    _validator().validate(content)
    write_json(content, case.folder / "case.json")


def check_case(folder: Path, only: Collection[str] | None = None) -> tuple[Case, CaseIdentity]:
    """Returns the case in ``folder`` after checking its schema and the hash of every file.

    Args:
        folder: of the case.
        only: names of the files whose hashes are checked, where the caller reads no other; None checks all. Every file
            must be there in any case.

    Raises:
        CaseRefused: no case.json, another schema version, a file that is missing or differs.
    """
    path = folder / "case.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        _validator().validate(content)
    except FileNotFoundError:
        raise CaseRefused(f"{folder} is not a case folder: case.json is missing") from None
    except ValueError as error:
        raise CaseRefused(f"{path} is not JSON: {error}") from error
    except jsonschema.ValidationError as error:
        raise CaseRefused(f"{path} breaks the case schema at {error.json_path}: {error.message}") from error
    for name, digest in content["files"].items():
        part = folder / name
        if not part.resolve().is_relative_to(folder.resolve()):
            raise CaseRefused(f"{path} names a file outside the case: {name}")
        if not part.is_file():
            raise CaseRefused(f"case {content['case_id']}: {name} is missing")
        if (only is None or name in only) and hash_file(part) != digest:
            raise CaseRefused(
                f"case {content['case_id']}: {name} is not the file that was sealed (SHA-256 differs)"
            )
    identity = CaseIdentity(
        case_id=content["case_id"],
        patient_key=content["patient_key"],
        study=content["study"],
        synthetic=content["synthetic"],
        mask_provider=content["mask_provider"],
        phases={Phase(word): PhaseSource(**source) for word, source in content["phases"].items()},
    )
    return Case(folder=folder), identity


@cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(_SCHEMA_PATH.read_text(encoding="utf-8")))


def list_cases(cohort: Path) -> list[Path]:
    """Returns the case folders directly inside a cohort folder, sorted by name.

    Raises:
        CaseRefused: there is none.
    """
    folders = sorted(path.parent for path in cohort.glob("*/case.json"))
    if not folders:
        raise CaseRefused(f"{cohort} holds no case folder (no */case.json)")
    return folders


def missing_phases(case: Case) -> tuple[Phase, ...]:
    """Returns the assessed phases whose volume is not part of the case."""
    return tuple(phase for phase in ASSESSED_PHASES if not case.volume_path(phase).is_file())


def _read_array(path: Path) -> npt.NDArray[Any]:
    """The array of an .npy file, whole, never a pickle."""
    try:
        with path.open("rb") as file:
            array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as error:
        raise CaseRefused(f"{path} cannot be read as an array: {error}") from error
    return array


def _is_content(folder: Path, path: Path) -> bool:
    relative = path.relative_to(folder)
    if relative.name.startswith(".") or relative.as_posix() == "case.json":
        return False
    return relative.parts[0] in {"volumes", "transforms", "masks"} or (
        len(relative.parts) == 1 and relative.suffix in {".npy", ".csv", ".json"}
    )
