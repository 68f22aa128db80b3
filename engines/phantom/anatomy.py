"""The synthetic abdomen (a phantom, no patient): drawn from traits, rendered in any phase on any grid, with its truth."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.phantom.organs import (
    Habitus,
    Part,
    decoy_place,
    liver_of,
    organs_after_tumours,
    organs_before_tumours,
)
from engines.phantom.solids import Array, Ellipsoid, Point, Solid
from engines.phantom.tissues import Tissue, textbook_hu
from engines.phantom.traits import PhantomTraits
from engines.phantom.tumours import Nodule, draw_look, draw_tumours
from engines.phase import Phase
from engines.volume import Grid, Volume

__all__ = [
    "Anatomy",
    "PhantomTraits",
    "abdomen_grid",
    "draw_anatomy",
    "liver_grid",
    "render_decoy",
    "render_masks",
    "render_phase",
    "render_tissues",
]

LIVER_VOLUME_RANGE_ML = (1000.0, 2100.0)
"""Liver volumes that are drawn, mL (OURS; adults without resection)."""

NOISE_HU = 10.0
"""Standard deviation of the image noise of a soft kernel at 4 mm (OURS)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """One synthetic abdomen in patient space (LPS, mm), before any voxel.

    Attributes:
        traits: what it was drawn from.
        parts: organs in the order of painting; the tumours come between ``before`` and ``after``.
        before: number of parts that are painted before the tumours.
        liver: outer surface of the liver.
        tumours: one to five, the largest first.
        decoy: a bright nodule outside of the liver whose look is drawn without regard to the traits, or None.
        hu: HU by tissue and phase of this patient.
    """

    traits: PhantomTraits
    parts: tuple[Part, ...]
    before: int
    liver: Solid
    tumours: tuple[Nodule, ...]
    decoy: Nodule | None
    hu: dict[tuple[Tissue, Phase], float]


def draw_anatomy(traits: PhantomTraits, *, decoy: bool = False) -> Anatomy:
    """Returns the synthetic abdomen of one patient; the same traits give the same abdomen.

    Args:
        traits: seed and latents.
        decoy: also draw a nodule in the fat under the left lobe, inside the box of the liver, that enhances like a
            tumour but knows nothing of the traits: what a saliency map must not point at.
    """
    body_rng, place_rng, decoy_rng = (np.random.default_rng([traits.seed, n]) for n in range(3))
    habitus = _draw_habitus(body_rng)
    liver = liver_of(habitus)
    before = organs_before_tumours(habitus, liver)
    return Anatomy(
        traits=traits,
        parts=before + organs_after_tumours(habitus),
        before=len(before),
        liver=liver,
        tumours=draw_tumours(traits, liver, place_rng),
        decoy=_draw_decoy(habitus, decoy_rng) if decoy else None,
        hu=_draw_hu(body_rng),
    )


def abdomen_grid(
    *,
    pixel_mm: float = 1.5,
    slice_mm: float = 4.0,
    columns: int = 256,
    slices: int = 60,
    flipped: bool = False,
) -> Grid:
    """Returns an axial grid about the middle of the liver; the default is the demo's 256 x 256 x 60, 240 mm high.

    Args:
        pixel_mm: distance of pixels, mm.
        slice_mm: distance of slices, mm.
        columns: pixels along x and y.
        slices: number of slices.
        flipped: slices run from the head down instead of from the feet up.
    """
    half_mm = pixel_mm * (columns - 1) / 2
    low_mm = -slice_mm * slices / 2
    up = -1.0 if flipped else 1.0
    return Grid(
        shape=(slices, columns, columns),
        spacing_mm=(slice_mm, pixel_mm, pixel_mm),
        origin_mm=(-half_mm, -half_mm, low_mm + slice_mm * (slices - 1) if flipped else low_mm),
        axes=((0.0, 0.0, up), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
    )


def liver_grid(anatomy: Anatomy, side: int, *, margin_mm: float = 5.0) -> Grid:
    """Returns a grid of ``side`` cubed voxels over the box of the liver, the field of the network's input.

    Args:
        anatomy: the abdomen.
        side: voxels along each axis.
        margin_mm: margin about the box, mm.
    """
    mask, _ = render_masks(anatomy, abdomen_grid(pixel_mm=3.0, slice_mm=3.0, columns=120, slices=80))
    inside = np.argwhere(mask.array)
    matrix = mask.grid.affine()
    corners = (np.vstack([inside.min(axis=0) - 0.5, inside.max(axis=0) + 0.5]) @ matrix[:3, :3].T) + matrix[
        :3, 3
    ]
    low, high = corners.min(axis=0) - margin_mm, corners.max(axis=0) + margin_mm
    step = (high - low) / side
    return Grid(
        shape=(side, side, side),
        spacing_mm=(float(step[2]), float(step[1]), float(step[0])),
        origin_mm=_point(low + step / 2),
    )


def render_phase(
    anatomy: Anatomy,
    phase: Phase,
    grid: Grid,
    *,
    breathing_shift_mm: Point = (0.0, 0.0, 0.0),
    noise_hu: float = NOISE_HU,
    noise_seed: int | None = None,
) -> Volume:
    """Returns one contrast phase of the synthetic abdomen, int16 HU.

    Args:
        anatomy: the abdomen.
        phase: contrast phase.
        grid: any grid, also flipped or oblique.
        breathing_shift_mm: how far the breath has moved the organs, LPS, mm; spine, wall, aorta and couch stay.
        noise_hu: standard deviation of the noise, HU; correlated between neighbouring pixels as after a soft kernel.
        noise_seed: seed of the noise; None takes one from the patient's seed and the phase.
    """
    canvas = np.full(grid.shape, anatomy.hu[Tissue.FAT, phase], dtype=np.float32)
    still = _coordinates(grid, (0.0, 0.0, 0.0))
    moved = _coordinates(grid, breathing_shift_mm)
    edge_mm = float(np.prod(grid.spacing_mm)) ** (1 / 3)

    def paint(solid: Solid, hu: float, moves: bool, texture: Nodule | None = None) -> None:
        box = _index_box(grid, solid, breathing_shift_mm if moves else (0.0, 0.0, 0.0), edge_mm)
        if box is None:
            return
        x, y, z = (_cut(c, box) for c in (moved if moves else still))
        share = np.clip(np.float32(0.5) - solid.distance_mm(x, y, z) / np.float32(edge_mm), 0, 1)
        block = canvas[box]
        value = np.float32(hu) if texture is None else np.float32(hu) + texture.texture(x, y, z)
        block += share * (value - block)

    for part in anatomy.parts[: anatomy.before]:
        paint(part.solid, anatomy.hu[part.tissue, phase], part.moves)
    for nodule in (*anatomy.tumours, *((anatomy.decoy,) if anatomy.decoy else ())):
        paint(nodule.solid, nodule.hu[phase], True, nodule)
        if nodule.core is not None:
            paint(nodule.core, anatomy.hu[Tissue.NECROSIS, phase], True)
    for part in anatomy.parts[anatomy.before :]:
        paint(part.solid, anatomy.hu[part.tissue, phase], part.moves)
    if noise_hu > 0:
        words = [anatomy.traits.seed, 7, list(Phase).index(phase)] if noise_seed is None else [noise_seed]
        canvas += _noise(grid.shape, np.random.default_rng(words)) * np.float32(noise_hu)
    return Volume(array=np.clip(np.rint(canvas), -1024, 3071).astype(np.int16), grid=grid)


def render_tissues(anatomy: Anatomy, grid: Grid, *, breathing_shift_mm: Point = (0.0, 0.0, 0.0)) -> Volume:
    """Returns the truth of every voxel, uint8: the place of its tissue in ``list(Tissue)``.

    Args:
        anatomy: the abdomen.
        grid: any grid.
        breathing_shift_mm: as of ``render_phase``.
    """
    tissues = list(Tissue)
    canvas = np.full(grid.shape, tissues.index(Tissue.FAT), dtype=np.uint8)

    def paint(solid: Solid, tissue: Tissue, moves: bool) -> None:
        inside = _inside(solid, grid, breathing_shift_mm if moves else (0.0, 0.0, 0.0))
        if inside is not None:
            box, mask = inside
            np.copyto(canvas[box], np.uint8(tissues.index(tissue)), where=mask)

    for part in anatomy.parts[: anatomy.before]:
        paint(part.solid, part.tissue, part.moves)
    for nodule in anatomy.tumours:
        paint(nodule.solid, Tissue.TUMOUR, True)
        if nodule.core is not None:
            paint(nodule.core, Tissue.NECROSIS, True)
    if anatomy.decoy is not None:
        paint(anatomy.decoy.solid, Tissue.DECOY, True)
    for part in anatomy.parts[anatomy.before :]:
        paint(part.solid, part.tissue, part.moves)
    return Volume(array=canvas, grid=grid)


def render_masks(
    anatomy: Anatomy, grid: Grid, *, breathing_shift_mm: Point = (0.0, 0.0, 0.0)
) -> tuple[Volume, Volume]:
    """Returns the truth of the liver (bool, with its vessels and tumours) and of the lesions (uint8, 1 = largest).

    Args:
        anatomy: the abdomen.
        grid: any grid.
        breathing_shift_mm: as of ``render_phase``.
    """
    liver = np.zeros(grid.shape, dtype=np.bool_)
    lesions = np.zeros(grid.shape, dtype=np.uint8)
    found = _inside(anatomy.liver, grid, breathing_shift_mm)
    if found is not None:
        liver[found[0]] = found[1]
    for part in anatomy.parts[anatomy.before :]:
        over = _inside(part.solid, grid, breathing_shift_mm if part.moves else (0.0, 0.0, 0.0))
        if over is not None and part.tissue is not Tissue.PORTAL_VEIN:
            liver[over[0]] &= ~over[1]
    for label, tumour in enumerate(anatomy.tumours, start=1):
        inside = _inside(tumour.solid, grid, breathing_shift_mm)
        if inside is not None:
            np.copyto(lesions[inside[0]], np.uint8(label), where=inside[1] & liver[inside[0]])
    return Volume(array=liver, grid=grid), Volume(array=lesions, grid=grid)


def render_decoy(anatomy: Anatomy, grid: Grid) -> Volume:
    """Returns the truth of the decoy, bool; empty when the anatomy has none.

    Args:
        anatomy: the abdomen.
        grid: any grid.
    """
    mask = np.zeros(grid.shape, dtype=np.bool_)
    inside = None if anatomy.decoy is None else _inside(anatomy.decoy.solid, grid, (0.0, 0.0, 0.0))
    if inside is not None:
        mask[inside[0]] = inside[1]
    return Volume(array=mask, grid=grid)


def _draw_habitus(rng: np.random.Generator) -> Habitus:
    """Returns a stretch of the template that gives a plausible liver volume."""
    wanted_ml = float(np.clip(1500 * math.exp(rng.normal(0, 0.17)), *LIVER_VOLUME_RANGE_ML))
    shape = np.exp(np.clip(rng.normal(0, 0.03, size=3), -0.05, 0.05))
    shape /= np.prod(shape) ** (1 / 3)
    axis = np.arange(-150, 150, 6.0, dtype=np.float32)
    template = liver_of(Habitus(scale=_point(shape)))
    distance = template.distance_mm(axis[None, None, :], axis[None, :, None], axis[:, None, None])
    template_ml = float(np.count_nonzero(distance < 0)) * 6.0**3 / 1000
    return Habitus(scale=_point(shape * (wanted_ml / template_ml) ** (1 / 3)))


def _draw_hu(rng: np.random.Generator) -> dict[tuple[Tissue, Phase], float]:
    """Returns this patient's HU: the contrast's uptake and the native liver differ between patients."""
    uptake = float(np.clip(rng.normal(1.0, 0.07), 0.85, 1.15))
    liver_shift = float(np.clip(rng.normal(0.0, 3.0), -6, 6))
    table: dict[tuple[Tissue, Phase], float] = {}
    for tissue in Tissue:
        if tissue in (Tissue.TUMOUR, Tissue.DECOY):
            continue
        native = textbook_hu(tissue, Phase.PRE_CONTRAST)
        for phase in Phase:
            gain = textbook_hu(tissue, phase) - native
            table[tissue, phase] = native + uptake * gain + (liver_shift if tissue is Tissue.LIVER else 0.0)
    return table


def _draw_decoy(habitus: Habitus, rng: np.random.Generator) -> Nodule:
    """Returns a nodule whose size, texture and enhancement are drawn like a tumour's from latents of its own."""
    latents = rng.normal(size=4)
    own = PhantomTraits(
        seed=0,
        burden=float(latents[0]),
        heterogeneity=float(latents[1]),
        enhancement=float(latents[2]),
        washout=float(latents[3]),
    )
    radius = float(np.clip(12 * math.exp(0.25 * own.burden), 8, 17))
    solid = Ellipsoid(center_mm=decoy_place(habitus), radii_mm=(radius, radius, radius))
    return draw_look(solid, own, rng)


def _noise(shape: tuple[int, int, int], rng: np.random.Generator) -> Array:
    """Returns noise of standard deviation one, smoothed within the slice by (1, 2, 1) along both axes."""
    nz, ny, nx = shape
    white = rng.standard_normal((nz, ny + 2, nx + 2), dtype=np.float32)
    rows = white[:, :-2] + 2 * white[:, 1:-1] + white[:, 2:]
    both = rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]
    return np.asarray(
        both / np.float32(6.0), dtype=np.float32
    )  # 1 + 4 + 1 = 6 is the variance along one axis


def _coordinates(grid: Grid, shift_mm: Point) -> tuple[Array, Array, Array]:
    """Returns x, y, z of all voxels less the shift, LPS, mm; an axis on which a coordinate does not depend has length 1."""
    matrix = grid.affine()
    coordinates = []
    for row in range(3):
        total = np.full((1, 1, 1), matrix[row, 3] - shift_mm[row])
        for axis, count in enumerate(grid.shape):
            if matrix[row, axis] != 0:
                along = [1, 1, 1]
                along[axis] = count
                total = total + (matrix[row, axis] * np.arange(count)).reshape(along)
        coordinates.append(total.astype(np.float32))
    return coordinates[0], coordinates[1], coordinates[2]


def _index_box(
    grid: Grid, solid: Solid, shift_mm: Point, edge_mm: float
) -> tuple[slice, slice, slice] | None:
    """Returns the part of the grid that a solid can touch, or None."""
    low, high = (np.asarray(corner) + shift_mm for corner in solid.box_mm())
    picks = np.array(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij")).reshape(3, -1).T
    corners = np.where(picks == 1, high + edge_mm, low - edge_mm)
    indices = (np.hstack([corners, np.ones((8, 1))]) @ np.linalg.inv(grid.affine()).T)[:, :3]
    first = np.clip(np.floor(indices.min(axis=0)), 0, grid.shape).astype(int)
    last = np.clip(np.ceil(indices.max(axis=0)) + 1, 0, grid.shape).astype(int)
    if np.any(first >= last):
        return None
    z, y, x = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    return z, y, x


def _cut(coordinate: Array, box: tuple[slice, slice, slice]) -> Array:
    """Returns the part of a broadcastable coordinate inside the box."""
    z, y, x = (part if n > 1 else slice(None) for part, n in zip(box, coordinate.shape, strict=True))
    return coordinate[z, y, x]


def _inside(
    solid: Solid, grid: Grid, shift_mm: Point
) -> tuple[tuple[slice, slice, slice], npt.NDArray[np.bool_]] | None:
    """Returns the box of a solid on a grid and which of its voxel centres lie inside the solid, or None."""
    box = _index_box(grid, solid, shift_mm, 0.0)
    if box is None:
        return None
    x, y, z = (_cut(c, box) for c in _coordinates(grid, shift_mm))
    shape = tuple(part.stop - part.start for part in box)
    return box, np.broadcast_to(solid.distance_mm(x, y, z) < 0, shape)


def _point(values: npt.NDArray[np.floating]) -> Point:
    """Returns three numbers as a point."""
    x, y, z = (float(v) for v in values)
    return x, y, z
