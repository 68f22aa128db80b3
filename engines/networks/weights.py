"""Weights of a network on disk: safetensors, never a pickle, with the network's name and settings in the header."""

import hashlib
import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from engines.errors import ModelRefused
from engines.networks.heads import RiskNetwork
from engines.networks.registry import build_network, parse_network
from engines.networks.settings import NetworkName, NetworkSettings, read_settings

HEADER_KEY = "mmf_network"
"""One key only: safetensors keeps several in no fixed order, and the same weights must give the same bytes."""


def write_weights(path: Path, name: NetworkName, network: RiskNetwork, *, half: bool = False) -> str:
    """Writes a network's weights atomically and returns the SHA-256 of the file.

    Args:
        path: the file, usually ``*.safetensors``; replaced if it exists.
        name: which network it is.
        network: the network.
        half: store matrices and kernels as float16. Vectors (biases, normalisation and its running statistics) stay
            float32, because a small variance would vanish.
    """
    tensors: dict[str, torch.Tensor] = {}
    for key, tensor in network.state_dict().items():
        stored = tensor.detach().cpu().contiguous()
        if half and stored.ndim > 1 and stored.is_floating_point():
            stored = stored.half()
        tensors[key] = stored.clone()
    header = json.dumps({"name": name.value, "settings": network.settings.table()}, sort_keys=True)
    content = save(tensors, metadata={HEADER_KEY: header})
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return hashlib.sha256(content).hexdigest()


def round_weights(network: RiskNetwork) -> None:
    """Rounds the kernels of a network to float16 in place, as ``write_weights`` keeps them with ``half``.

    Forest, cut-offs and Cox models must be fitted on what the released network says, hence on rounded weights.

    Args:
        network: fitted; its vectors (biases, normalisation) stay float32.
    """
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.ndim > 1 and tensor.is_floating_point():
                tensor.copy_(tensor.half().to(tensor.dtype))


def read_network(path: Path, *, sha256: str | None = None) -> tuple[NetworkName, RiskNetwork]:
    """Returns the network whose weights and settings a file holds, in evaluation mode, float32, on the CPU.

    Args:
        path: a file written by :func:`write_weights`.
        sha256: the hash the model card states; checked before anything is read from the file.

    Raises:
        ModelRefused: the hash differs, the file is damaged, or its weights do not fit the network it names.
    """
    if sha256 is not None:
        check_hash(path, sha256)
    header, _ = _read_tensors(path)
    name, settings = _read_header(path, header)
    network = build_network(name, settings)
    read_weights(path, name, network)
    network.eval()
    return name, network


def read_weights(path: Path, name: NetworkName, network: RiskNetwork) -> None:
    """Fills a network with the weights of a file.

    Raises:
        ModelRefused: the file belongs to another network or another size of it; the message says which.
    """
    header, tensors = _read_tensors(path)
    expected = {"name": name.value, "settings": network.settings.table()}
    if _read_header(path, header) != (name, network.settings):
        raise ModelRefused(
            f"{path.name} holds weights of {header}; expected {json.dumps(expected, sort_keys=True)}"
        )
    state = network.state_dict()
    missing, extra = sorted(set(state) - set(tensors)), sorted(set(tensors) - set(state))
    if missing or extra:
        raise ModelRefused(
            f"{path.name}: weights missing {missing[:3]}, not known {extra[:3]} for {name.value}"
        )
    wrong = [key for key in state if state[key].shape != tensors[key].shape]
    if wrong:
        got, want = tuple(tensors[wrong[0]].shape), tuple(state[wrong[0]].shape)
        raise ModelRefused(f"{path.name}: {wrong[0]} has shape {got}; expected {want}")
    not_finite = [key for key, tensor in tensors.items() if not bool(torch.isfinite(tensor.float()).all())]
    if not_finite:
        raise ModelRefused(f"{path.name}: {not_finite[0]} holds values that are not finite")
    with torch.no_grad():
        for key, tensor in state.items():
            tensor.copy_(tensors[key])


def _read_header(path: Path, header: str) -> tuple[NetworkName, NetworkSettings]:
    """The network that a file's header names; a setting that the file is older than has its default."""
    try:
        words = json.loads(header)
        return parse_network(str(words["name"])), read_settings(words["settings"])
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ModelRefused(
            f"{path.name}: the header does not name a network and its settings ({error})"
        ) from error


def check_hash(path: Path, sha256: str) -> None:
    """Refuses a file whose SHA-256 is another than stated.

    Raises:
        ModelRefused: says both.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256.lower():
        raise ModelRefused(f"{path.name} has SHA-256 {found}; the card says {sha256}")


def initialise_slice_encoder(network: nn.Module, path: Path) -> None:
    """Fills Network 3's ResNet50 slice encoder with local ImageNet weights (as the supplement's "pre-trained").

    The first kernel, made for 3 colours, is averaged over them and repeated over the network's channels, scaled to
    keep the size of its response.

    Args:
        network: a Network 3 built with ``slice_encoder = resnet50`` at width 1.
        path: safetensors whose tensors come in the order of torchvision's ResNet50 (conv1.weight, bn1.weight ...).

    Raises:
        ModelRefused: the network has no such encoder or the weights do not fit it.
    """
    encoder = getattr(network, "slice_encoder", None)
    if not isinstance(encoder, nn.Module):
        raise ModelRefused("only Network 3 with slice_encoder = resnet50 takes ImageNet weights")
    _, tensors = _read_tensors(path)
    state = encoder.state_dict()
    translated = {_torchvision_key(key): key for key in state}
    missing = sorted(set(translated) - set(tensors))
    if missing:
        raise ModelRefused(f"{path.name} lacks {missing[:3]}; expected the names of torchvision's ResNet50")
    for theirs, ours in translated.items():
        tensor = tensors[theirs]
        if theirs == "conv1.weight":
            channels = state[ours].shape[1]
            tensor = tensor.mean(dim=1, keepdim=True).expand(-1, channels, -1, -1) * (
                tensor.shape[1] / channels
            )
        if tensor.shape != state[ours].shape:
            raise ModelRefused(
                f"{path.name}: {theirs} has shape {tuple(tensor.shape)}; expected {tuple(state[ours].shape)}"
            )
        with torch.no_grad():
            state[ours].copy_(tensor)


def _torchvision_key(key: str) -> str:
    """The name torchvision gives to one of our ResNet50's tensors."""
    parts = key.split(".")
    if parts[0] == "stem":
        return {"0": "conv1", "1": "bn1"}[parts[1]] + "." + parts[-1]
    layer = f"layer{int(parts[1]) + 1}.{parts[2]}"
    index = int(parts[4])
    if parts[3] == "shortcut":
        return f"{layer}.downsample.{index}.{parts[-1]}"
    kind = "conv" if index % 3 == 0 else "bn"
    return f"{layer}.{kind}{index // 3 + 1}.{parts[-1]}"


def _read_tensors(path: Path) -> tuple[str, dict[str, torch.Tensor]]:
    """The header's text and the tensors of a safetensors file."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in list(file.keys())}
    except (SafetensorError, OSError) as error:
        raise ModelRefused(f"{path.name} cannot be read as safetensors: {error}") from error
    return str(metadata.get(HEADER_KEY, "{}")), tensors
