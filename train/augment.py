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
    changed = torch.empty_like(inputs)
    plan = zip(
        drawn.gamma.tolist(), drawn.turns.tolist(), drawn.flip.tolist(), drawn.zoom.tolist(), strict=True
    )
    for index, (gamma, turns, axis, zoom) in enumerate(plan):
        case = inputs[index]
        if gamma != 1:
            case = _bend_contrast(case, gamma)
        for quarter, (first, second) in zip(turns, ROTATION_PLANES, strict=True):
            if quarter:
                case = torch.rot90(case, quarter, (first + 1, second + 1))
        if axis >= 0:
            case = case.flip(axis + 1)
        changed[index] = _magnify(case, zoom) if zoom != 1 else case
    return changed


def _bend_contrast(case: torch.Tensor, gamma: float) -> torch.Tensor:
    """A case's intensities between its own extremes, raised to gamma."""
    low, high = torch.aminmax(case)
    span = high - low
    return (case - low).div_(span + _RANGE_FLOOR).pow_(gamma).mul_(span).add_(low)


def _magnify(case: torch.Tensor, zoom: float) -> torch.Tensor:
    """Trilinear magnification of (phases, side, side, side) about the centre, to within half a voxel.

    What grows beyond the cube is cut off; outside what shrinks, the edge is repeated.
    """
    side = case.shape[-1]
    scaled = functional.interpolate(case[None], scale_factor=zoom, mode="trilinear")
    before = abs(side - scaled.shape[-1]) // 2
    if scaled.shape[-1] >= side:
        inside = slice(before, before + side)
        return scaled[0, :, inside, inside, inside]
    after = side - scaled.shape[-1] - before
    return functional.pad(scaled, (before, after) * 3, mode="replicate")[0]
