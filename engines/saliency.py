"""Where a network looked: Grad-CAM of one endpoint's log-risk without its average, on the grid of the network input."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from engines.endpoint import Endpoint
from engines.errors import InvalidInput
from engines.networks.heads import RiskNetwork


class Direction(StrEnum):
    """Which evidence a map shows: what raises the risk, what lowers it, or both."""

    RAISES = "raises"
    LOWERS = "lowers"
    BOTH = "both"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ActivationMap:
    """Importance of each voxel of the network input for one endpoint's log-risk.

    Attributes:
        endpoint: whose log-risk.
        values: (side, side, side) float32, 0 to 1 (the largest is 1, or all are 0 where nothing speaks in the direction).
        peak: the largest value before scaling, in log-risk: the share of one voxel of the layer in the first-order sum of
            the log-risk. 0 means the map is empty; maps of different cases may only be compared after multiplying by it.
        log_risk: of the case.
    """

    endpoint: Endpoint
    values: npt.NDArray[np.float32]
    peak: float
    log_risk: float


def explain_risk(
    network: RiskNetwork,
    inputs: npt.NDArray[np.floating],
    endpoint: Endpoint,
    *,
    layer: nn.Module | None = None,
    direction: Direction = Direction.RAISES,
) -> ActivationMap:
    """Returns the activation map of one case; the network's mode and gradients are left as they were.

    The gradient of the log-risk is multiplied with the layer's activations voxel by voxel; the channels are added; what
    points in the direction is kept and interpolated to the input's grid.

    Plain Grad-CAM averages each channel's gradient over the voxels first. Where an instance normalisation follows, as in
    Network 2, that gradient sums to zero whatever the network has learned, and Network 3 squares its features, so that
    their gradient is as local as they are: on trained miniatures of Network 2 the averaged map pointed away from the
    lesion. Where a global mean and a linear head follow, both maps are the same.

    Gradients are followed from the layer on alone: what lies before it costs no more memory than a plain evaluation.

    Args:
        network: in any mode; it is evaluated in evaluation mode.
        inputs: (phases, side, side, side), scaled to [0, 1].
        endpoint: whose log-risk.
        layer: with activations (1, channels, z, y, x); the network's readable layer when None.
        direction: which evidence to keep.

    Raises:
        InvalidInput: another input shape, a layer without a volume, or a map that is not finite.

    Source: Selvaraju et al., Grad-CAM, ICCV 2017; Draelos & Carin, HiResCAM, arXiv:2011.08891 (the product without the
    average); readable layers: method, section 8.
    """
    device = next(network.parameters()).device
    batch = torch.from_numpy(np.asarray(inputs, dtype=np.float32)).to(device).unsqueeze(0)
    kept: list[torch.Tensor] = []

    def keep(
        _module: nn.Module, _arguments: tuple[torch.Tensor, ...], activations: torch.Tensor
    ) -> torch.Tensor:
        kept.append(activations.detach().requires_grad_())
        torch.set_grad_enabled(True)
        return kept[-1]

    handle = (layer or network.readable_layer).register_forward_hook(keep)
    training = network.training
    network.eval()
    try:
        with torch.no_grad():  # until the layer is reached; the mode of the caller comes back after the block
            output = network(batch)
            risk = output.os_log_risk if endpoint is Endpoint.OS else output.pfs_log_risk
            if len(kept) != 1 or kept[0].ndim != 5:
                raise InvalidInput(
                    "the layer of an activation map must give one volume (n, channels, z, y, x)"
                )
            (slope,) = torch.autograd.grad(risk.sum(), kept[0])
    finally:
        handle.remove()
        network.train(training)
    with torch.no_grad():
        evidence = slope.contiguous().mul_(kept[0]).sum(dim=1, keepdim=True)
        if not bool(torch.isfinite(evidence).all()):
            raise InvalidInput(f"the activation map of {endpoint} holds values that are not finite")
        evidence = _keep_direction(evidence, direction)
        size = list(batch.shape[2:])
        grid = functional.interpolate(evidence, size=size, mode="trilinear", align_corners=False)[0, 0]
        peak = float(grid.max())
        values = (grid / peak if peak > 0 else torch.zeros_like(grid)).float().cpu().numpy()
    return ActivationMap(
        endpoint=endpoint, values=values, peak=max(peak, 0.0), log_risk=float(risk.detach()[0])
    )


def measure_mass(activation: ActivationMap, region: npt.NDArray[np.bool_]) -> float:
    """Returns the mean importance inside a region of the input's grid.

    Raises:
        InvalidInput: the region lies on another grid or is empty.
    """
    if region.shape != activation.values.shape:
        raise InvalidInput(f"region has shape {region.shape}; expected {activation.values.shape}")
    if not region.any():
        raise InvalidInput("the region of an activation map's mass is empty")
    return float(activation.values[region].mean(dtype=np.float64))


def _keep_direction(evidence: torch.Tensor, direction: Direction) -> torch.Tensor:
    if direction is Direction.RAISES:
        return evidence.clamp(min=0)
    if direction is Direction.LOWERS:
        return (-evidence).clamp(min=0)
    return evidence.abs()
