"""The inputs of a cohort in one float16 file mapped into memory: read at the speed of the disk, never decoded again."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import structlog
import torch
from torch.nn import functional

from engines.case import Case, hash_file, replaced, write_json
from engines.phase import ASSESSED_PHASES, Phase
from train.errors import CohortRefused

LOG = structlog.get_logger(__name__)


def open_cache(
    folder: Path, cases: Sequence[tuple[str, Case]], phases: Sequence[Phase], side: int
) -> npt.NDArray[np.float16]:
    """Returns the inputs (n, phases, side, side, side) float16 of the cases, memory-mapped, building the cache when needed.

    A cache is found again by the hashes of its inputs, its phases and its side; it holds n * phases * side^3 * 2 bytes.

    Args:
        folder: where caches are kept.
        cases: (case id, case) in the order of the rows.
        phases: the channels wanted, a subset of those in network_input.npy: fewer channels, not zeros.
        side: wanted; inputs of a multiple of it are averaged down in blocks.

    Raises:
        CohortRefused: a case without network input, or of a shape that does not fit; all such cases are named.
    """
    hashes = {case_id: hash_file(case.network_input_path) for case_id, case in cases if _has_input(case)}
    missing = [case_id for case_id, _ in cases if case_id not in hashes]
    if missing:
        raise CohortRefused(f"{len(missing)} cases have no network_input.npy: {', '.join(missing[:10])}")
    key = {"phases": [phase.value for phase in phases], "side": side, "inputs": hashes}
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path, index = folder / f"inputs-{name}.npy", folder / f"inputs-{name}.json"
    mapped = _map(path)
    if mapped is None or not index.is_file() or json.loads(index.read_text(encoding="utf-8")) != key:
        _write(path, cases, phases, side)
        write_json(key, index)
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


def _map(path: Path) -> npt.NDArray[np.float16] | None:
    """The cache as it lies there; None where there is none or it was cut short, so that it is built again."""
    try:
        mapped: npt.NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, EOFError, ValueError) as error:
        if path.exists():
            LOG.warning("cache is damaged and built again", path=str(path), error=str(error))
        return None
    return mapped


def _has_input(case: Case) -> bool:
    return case.network_input_path.is_file()


def _write(path: Path, cases: Sequence[tuple[str, Case]], phases: Sequence[Phase], side: int) -> None:
    channels = [ASSESSED_PHASES.index(phase) for phase in phases]
    shape = (len(cases), len(phases), side, side, side)
    with replaced(path) as draft, draft.open("wb") as file:
        np.lib.format.write_array_header_2_0(
            file, {"descr": np.dtype(np.float16).str, "fortran_order": False, "shape": shape}
        )
        for case_id, case in cases:
            file.write(_fit(case_id, case.read_network_input(), channels, side).tobytes())


def _fit(
    case_id: str, stored: npt.NDArray[np.float16], channels: Sequence[int], side: int
) -> npt.NDArray[np.float16]:
    """The wanted channels at the wanted side."""
    full = stored.shape[-1] if stored.ndim else 0
    if stored.shape != (len(ASSESSED_PHASES), full, full, full) or stored.dtype != np.float16:
        raise CohortRefused(
            f"case {case_id}: network_input.npy is {stored.dtype} of shape {stored.shape}; "
            f"expected float16 ({len(ASSESSED_PHASES)}, side, side, side)"
        )
    picked = np.ascontiguousarray(stored[list(channels)])
    if full == side:
        return picked
    if not full or full % side:
        raise CohortRefused(f"case {case_id}: inputs of side {full} cannot be averaged down to side {side}")
    pooled = functional.avg_pool3d(torch.from_numpy(picked).float(), full // side)
    fitted: npt.NDArray[np.float16] = pooled.half().numpy()
    return fitted
