"""Random changes of training inputs, on the device that trains; the draw is apart from the application."""

from dataclasses import dataclass

import torch
from torch.nn import functional

GAMMA = (0.5, 4.5)
"""Range of the contrast exponent (method, section 2, from the authors' code)."""
ZOOM = (0.9, 1.1)
"""Range of the magnification (the same)."""
ROTATION_PLANES = ((0, 2), (0, 1))
"""Planes of the quarter turns, as numbers of spatial axes (z 0, y 1, x 2)."""
_RANGE_FLOOR = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Augmentation:
    """What was drawn for n cases; applied in the order of the fields.

    Attributes:
        gamma: (n,) exponent of the contrast, 1 = none.
        turns: (n, 2) quarter turns in each of ``ROTATION_PLANES``, 0 = none.
        flip: (n,) spatial axis to mirror, -1 = none.
        zoom: (n,) magnification, 1 = none.
    """

    gamma: torch.Tensor
    turns: torch.Tensor
    flip: torch.Tensor
    zoom: torch.Tensor


def draw_augmentation(n: int, probability: float, generator: torch.Generator) -> Augmentation:
    """Returns random changes for n cases.

    Args:
        n: number of cases.
        probability: of each change of each case, in [0, 1]: 0.55 for Networks 1 and 2, 0.25 for Network 3 (method,
            section 2).
        generator: on the CPU, so that the draw is the same on every device.
    """

    def chosen(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator) < probability

    def between(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    planes = len(ROTATION_PLANES)
    turns = torch.randint(1, 4, (n, planes), generator=generator) * chosen(n, planes)
    flip = torch.randint(0, 3, (n,), generator=generator)
    return Augmentation(
        gamma=torch.where(chosen(n), between(*GAMMA), torch.ones(n)),
        turns=turns,
        flip=torch.where(chosen(n), flip, torch.full((n,), -1)),
        zoom=torch.where(chosen(n), between(*ZOOM), torch.ones(n)),
    )


def apply_augmentation(inputs: torch.Tensor, drawn: Augmentation) -> torch.Tensor:
    """Returns changed inputs of the same shape; the given ones stay as they are.

    Args:
        inputs: (n, phases, side, side, side), in [0, 1], on any device.
        drawn: for the same n cases.
    """
    changed = _bend_contrast(inputs, drawn.gamma)
    cases = []
    for case, turns, axis in zip(changed, drawn.turns.tolist(), drawn.flip.tolist(), strict=True):
        turned = case
        for quarter, (first, second) in zip(turns, ROTATION_PLANES, strict=True):
            if quarter:
                turned = torch.rot90(turned, quarter, (first + 1, second + 1))
        cases.append(turned.flip(axis + 1) if axis >= 0 else turned)
    return _zoom(torch.stack(cases), drawn.zoom)


def _bend_contrast(inputs: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
    """Each case's intensities between its own extremes, raised to its gamma."""
    exponent = gamma.to(inputs).view(-1, 1, 1, 1, 1)
    low = inputs.amin(dim=(1, 2, 3, 4), keepdim=True)
    span = inputs.amax(dim=(1, 2, 3, 4), keepdim=True) - low
    bent = ((inputs - low) / (span + _RANGE_FLOOR)).pow(exponent) * span + low
    return torch.where(exponent == 1, inputs, bent)


def _zoom(inputs: torch.Tensor, zoom: torch.Tensor) -> torch.Tensor:
    """Trilinear magnification about the centre; beyond the border the edge is repeated."""
    picked = (zoom != 1).nonzero().squeeze(1)
    if picked.numel() == 0:
        return inputs
    theta = torch.zeros(picked.numel(), 3, 4)
    for axis in range(3):
        theta[:, axis, axis] = 1 / zoom[picked]
    rows = picked.to(inputs.device)
    subset = inputs[rows]
    grid = functional.affine_grid(theta.to(inputs), list(subset.shape), align_corners=False)
    zoomed = functional.grid_sample(subset, grid, padding_mode="border", align_corners=False)
    return inputs.index_copy(0, rows, zoomed)
