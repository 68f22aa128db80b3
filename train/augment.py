"""Random changes of training inputs, on the device that trains; the draw is apart from the application."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch.nn import functional

from train.memory import allocate

GAMMA = (0.5, 4.5)
"""Range of the contrast exponent (method, section 2, from the authors' code)."""
ZOOM = (0.9, 1.1)
"""Range of the magnification (the same)."""
ROTATION_PLANES = ((0, 2), (0, 1))
"""Planes of the quarter turns, as numbers of spatial axes (z 0, y 1, x 2)."""
_RANGE_FLOOR = 1e-7
_BITS_OF_ONE = 0x3C00
"""1.0 as a float16; the bits of the float16 numbers from 0 to 1 are the integers from 0 to this one, in order."""


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


def draw_augmentation(
    n: int, probability: float, generator: torch.Generator, *, contrast: bool = True
) -> Augmentation:
    """Returns random changes for n cases.

    Args:
        n: number of cases.
        probability: of each change of each case, in [0, 1]: 0.55 for Networks 1 and 2, 0.25 for Network 3 (method,
            section 2).
        generator: on the CPU, so that the draw is the same on every device.
        contrast: False leaves the contrast as it is; the other changes are those drawn with True.
    """

    def chosen(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator) < probability

    def between(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    planes = len(ROTATION_PLANES)
    turns = torch.randint(1, 4, (n, planes), generator=generator) * chosen(n, planes)
    flip = torch.randint(0, 3, (n,), generator=generator)
    gamma = torch.where(chosen(n), between(*GAMMA), torch.ones(n))
    return Augmentation(
        gamma=gamma if contrast else torch.ones(n),
        turns=turns,
        flip=torch.where(chosen(n), flip, torch.full((n,), -1)),
        zoom=torch.where(chosen(n), between(*ZOOM), torch.ones(n)),
    )


def apply_augmentation(
    inputs: torch.Tensor, drawn: Augmentation, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Returns changed inputs of the same shape, float32; the given ones stay as they are.

    The values are those of MONAI's AdjustContrast, Rotate90, Flip and Zoom (trilinear, size kept, edge repeated).

    Args:
        inputs: (n, phases, side, side, side), in [0, 1], on any device. float16, as the cache holds them, is fastest.
        drawn: for the same n cases.
        out: (n or more, phases, side, side, side) float32 memory to fill and return the beginning of.
    """
    changed = allocate(inputs.shape, torch.float32, inputs.device) if out is None else out[: len(inputs)]
    plan = zip(
        drawn.gamma.tolist(), drawn.turns.tolist(), drawn.flip.tolist(), drawn.zoom.tolist(), strict=True
    )
    for index, (gamma, turns, axis, zoom) in enumerate(plan):
        contrast, grown = _Contrast(inputs[index], gamma), int(inputs.shape[-1] * zoom)
        # phase by phase, because one of them fits into a processor's cache
        for phase, target in zip(inputs[index], changed[index], strict=True):
            turned = _turn(phase, turns, axis)
            if grown == inputs.shape[-1]:
                contrast.bend(turned, target)
            else:
                bent = torch.empty_like(target)
                contrast.bend(turned, bent)
                _magnify(bent, grown, target)
    return changed


class _Contrast:
    """Raises the intensities of a case, between its own extremes over all phases, to gamma.

    On a CPU a float16 case has few different values: each is bent once, and the voxels look theirs up.
    """

    def __init__(self, case: torch.Tensor, gamma: float) -> None:
        self.gamma = gamma
        self.table: torch.Tensor | None = None
        if gamma == 1:
            return
        if case.dtype == torch.float16 and not case.is_cuda:
            lowest, highest = (int(extreme) for extreme in torch.aminmax(case.view(torch.int16)))
            if lowest >= 0 and highest <= _BITS_OF_ONE:
                values = torch.arange(highest + 1, dtype=torch.int16).view(torch.float16).float()
                self.table = _raise_contrast(values, values[lowest], values[highest], gamma)
                return
        self.low, self.high = (extreme.float() for extreme in torch.aminmax(case))

    def bend(self, part: torch.Tensor, out: torch.Tensor) -> None:
        """Fills ``out``, float32, with a part of the case."""
        if self.gamma == 1:
            out.copy_(part)
        elif self.table is None:
            out.copy_(_raise_contrast(part.float(), self.low, self.high, self.gamma))
        else:
            bits = part.view(torch.int16).to(torch.int32)
            torch.index_select(self.table, 0, bits.view(-1), out=out.view(-1))


def _raise_contrast(
    values: torch.Tensor, low: torch.Tensor, high: torch.Tensor, gamma: float
) -> torch.Tensor:
    """Source: MONAI, AdjustContrast; values below ``low`` belong to no voxel and may be NaN."""
    span = high - low
    return (values - low).div_(span + _RANGE_FLOOR).pow_(gamma).mul_(span).add_(low)


def _turn(phase: torch.Tensor, turns: Sequence[int], flip: int) -> torch.Tensor:
    """(side, side, side) after the quarter turns and the mirroring, contiguous: one flip and one permutation."""
    order, mirrored = [0, 1, 2], [False] * 3
    for quarter, (first, second) in zip(turns, ROTATION_PLANES, strict=True):
        if quarter % 2:
            order[first], order[second] = order[second], order[first]
            mirrored[first], mirrored[second] = mirrored[second], mirrored[first]
        if quarter in (2, 3):
            mirrored[second] = not mirrored[second]
        if quarter in (1, 2):
            mirrored[first] = not mirrored[first]
    if flip >= 0:
        mirrored[flip] = not mirrored[flip]
    axes = [source for source, backwards in zip(order, mirrored, strict=True) if backwards]
    return _permute(phase.flip(axes) if axes else phase, order)


def _permute(phase: torch.Tensor, order: Sequence[int]) -> torch.Tensor:
    """The axes of (side, side, side) in another order, contiguous.

    On a CPU an axis becomes or leaves the innermost one as a matrix is transposed, in blocks: five times as fast as
    element by element. What is left keeps the innermost axis and copies whole lines.
    """
    if order[2] != 2 and not phase.is_cuda:
        side = phase.shape[-1]
        rows = side if order[2] == 0 else side * side
        matrix = phase.reshape(rows, -1).t()
        cycled = torch.empty(matrix.shape, dtype=phase.dtype).copy_(matrix).view(phase.shape)
        after = (1, 2, 0) if order[2] == 0 else (2, 0, 1)
        phase, order = cycled, [after.index(axis) for axis in order]
    return phase.permute(*order).contiguous()


class _Run(NamedTuple):
    """Neighbouring target positions whose two sources lie side by side as they do, or are the same two for all.

    Attributes:
        first: target position.
        length: number of positions.
        left: source left of the first.
        right: source right of the first.
        width: number of left sources: the length, or 1.
        weight: (length,) of the right sources.
    """

    first: int
    length: int
    left: int
    right: int
    width: int
    weight: torch.Tensor


@lru_cache(maxsize=64)
def _line_runs(side: int, grown: int) -> tuple[_Run, ...]:
    """How a line of ``side`` voxels, resized to ``grown`` and cut or padded back to ``side``, comes from itself."""
    position = torch.arange(side) + _offset(side, grown)
    source = ((position.clamp(0, grown - 1) + 0.5) * (side / grown) - 0.5).clamp(min=0)
    left = source.floor().long().clamp(max=side - 1)
    right = (left + 1).clamp(max=side - 1)
    weight = (source - left).float()
    steps = list(zip(left.diff().tolist(), right.diff().tolist(), strict=True))
    runs, first = [], 0
    while first < side:
        step = steps[first] if first < side - 1 and steps[first] in ((0, 0), (1, 1)) else None
        last = first
        while last < side - 1 and steps[last] == step:
            last += 1
        length = last - first + 1
        runs.append(
            _Run(
                first=first,
                length=length,
                left=int(left[first]),
                right=int(right[first]),
                width=1 if step == (0, 0) else length,
                weight=weight[first : last + 1],
            )
        )
        first = last + 1
    return tuple(runs)


def _magnify(phase: torch.Tensor, grown: int, out: torch.Tensor) -> None:
    """Fills ``out`` with (side, side, side) magnified trilinearly about the centre, to within half a voxel.

    What grows beyond the cube is cut off; outside what shrinks, the edge is repeated. The axes are magnified one after
    the other: two readings a voxel and axis instead of eight, along runs of neighbours.

    Args:
        phase: float32, contiguous.
        grown: side of the magnified cube before it is cut or padded back.
        out: of the same shape.
    """
    side = phase.shape[-1]
    if phase.is_cuda:
        out.copy_(_magnify_at_once(phase, grown))
        return
    runs = _line_runs(side, grown)
    deep, high = torch.empty_like(phase), torch.empty_like(phase)
    _magnify_line(phase, deep, 0, runs)
    _magnify_line(deep, high, 1, runs)
    _magnify_line(high, out, 2, runs)


def _magnify_line(source: torch.Tensor, target: torch.Tensor, axis: int, runs: Sequence[_Run]) -> None:
    """Fills ``target`` with ``source`` magnified along one axis."""
    shape = [1] * source.ndim
    for run in runs:
        shape[axis] = run.length
        torch.lerp(
            source.narrow(axis, run.left, run.width),
            source.narrow(axis, run.right, run.width),
            run.weight.view(shape),
            out=target.narrow(axis, run.first, run.length),
        )


def _magnify_at_once(phase: torch.Tensor, grown: int) -> torch.Tensor:
    """The same as one trilinear interpolation, which is what a GPU is fast at."""
    side = phase.shape[-1]
    scaled = functional.interpolate(phase[None, None], size=(grown,) * 3, mode="trilinear")
    first = _offset(side, grown)
    if grown > side:
        inside = slice(first, first + side)
        return scaled[0, 0, inside, inside, inside]
    return functional.pad(scaled, (-first, side - grown + first) * 3, mode="replicate")[0, 0]


def _offset(side: int, grown: int) -> int:
    """Where the cube begins in the magnified one; negative where that one is smaller."""
    return grown // 2 - side // 2 if grown > side else -((side - grown) // 2)
