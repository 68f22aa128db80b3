"""The radiomic features of a study: every phase and region on one fixed grid, each value with where it comes from."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from engines.errors import FeatureRefused
from engines.phase import Phase
from engines.radiomics.deformation import Step, read_steps
from engines.radiomics.grid import place_grid, sample_mask
from engines.radiomics.measurement import measure_grey_values, measure_shape_features, pick_region
from engines.radiomics.region import Region, check_geometry, cut_region
from engines.radiomics.sampling import Samples, sample_points
from engines.radiomics.settings import RadiomicsSettings
from engines.radiomics.stock import extract_stock, normalise
from engines.volume import Grid, Volume

P = ParamSpec("P")
T = TypeVar("T")
Volumes = Mapping[Phase, Volume] | Mapping[Phase | None, Volume]

FILTER_MARGIN = 5
"""Voxels around the region that pyradiomics' filters see (its own default, ``padDistance``)."""


class Extractor(StrEnum):
    """Who measures."""

    FAST = "fast"
    PYRADIOMICS = "pyradiomics"


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskSource:
    """Who drew a mask.

    Attributes:
        provider: name of the segmenter or person.
        version: of the provider; empty where it has none.
    """

    provider: str
    version: str = ""


UNKNOWN_SOURCE = MaskSource(provider="not stated")
"""The source of a mask of which nothing is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a value comes from; values of different origins are never mixed.

    Attributes:
        extractor: who measured.
        settings_sha256: hash of the settings document.
        grid: the grid measured on, the same for all regions and phases of a study.
        source: who drew the mask.
    """

    extractor: Extractor
    settings_sha256: str
    grid: Grid
    source: MaskSource


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureValue:
    """One feature of one region.

    Attributes:
        region: name of the region, e.g. ``liver``.
        phase: the phase whose grey values were measured; None for shape, which has none.
        name: pyradiomics' name, e.g. ``original_glcm_Imc1``.
        value: pyradiomics' value; NaN where pyradiomics gives NaN.
        origin: where it comes from.
    """

    region: str
    phase: Phase | None
    name: str
    value: float
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionRefusal:
    """A region that cannot be measured, with the reason.

    Attributes:
        region: name of the region.
        phase: the phase in which it cannot be measured; None: in none.
        reason: why.
    """

    region: str
    phase: Phase | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureTable:
    """The features of a study.

    Attributes:
        values: region by region, shape first, then phase by phase in pyradiomics' order.
        refusals: what could not be measured; its values are absent, never invented.
    """

    values: tuple[FeatureValue, ...]
    refusals: tuple[RegionRefusal, ...] = ()

    def find(self, region: str, phase: Phase | None, name: str) -> float | None:
        """Returns one value, or None when it was not measured. Shape is found under any phase."""
        for value in self.values:
            if value.region == region and value.name == name and value.phase in (phase, None):
                return value.value
        return None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Placed:
    """A region cut out of the grid, with what its values will carry."""

    name: str
    region: Region
    mask: Volume
    origin: Origin


def extract_features(
    volumes: Mapping[Phase, Volume],
    transforms: Mapping[Phase, sitk.Transform],
    regions: Mapping[str, Volume],
    settings: RadiomicsSettings,
    *,
    sources: Mapping[str, MaskSource] | None = None,
    extractor: Extractor = Extractor.FAST,
    executor: Executor | None = None,
) -> FeatureTable:
    """Returns the features of every region in every phase.

    The masks lie on the grid of the reference phase. One grid fixed in the patient holds all regions; each phase is
    interpolated on it once, from its native pixels through its transform, at the regions' points only.

    Args:
        volumes: grey values (HU) on their native grids.
        transforms: for each phase, points (x, y, z) of the reference phase to points of that phase, LPS, mm; a phase
            that is not named lies where the masks lie.
        regions: masks by name; integer labels of which not zero is inside, or bool.
        settings: what to measure. Without ``resampledPixelSpacing`` every phase must lie on the masks' own grid.
        sources: who drew each mask.
        extractor: who measures; settings that only pyradiomics can do are always left to it.
        executor: measures phases and regions at the same time; None measures one after the other.

    Raises:
        FeatureRefused: every mask is empty.
        GeometryMismatch: without resampling, a volume does not lie on the masks' grid.
    """
    return _extract(volumes, transforms, regions, settings, sources or {}, extractor, executor)


def extract_region(
    image: Volume,
    mask: Volume,
    settings: RadiomicsSettings,
    *,
    region: str = "region",
    source: MaskSource = UNKNOWN_SOURCE,
    extractor: Extractor = Extractor.FAST,
) -> FeatureTable:
    """Returns the features of one label in one image whose phase is not asked for, as ``extract_features`` does.

    Args:
        image: grey values.
        mask: labels on the image's grid; ``settings.label`` is the region.
        settings: what to measure.
        region: the name its values will carry.
        source: who drew the mask.
        extractor: who measures.

    Raises:
        FeatureRefused: the region cannot be measured.
        GeometryMismatch: the mask does not lie on the image's grid.
    """
    inside = pick_region(image, mask, settings)
    volumes: dict[Phase | None, Volume] = {None: image}
    table = _extract(volumes, {}, {region: inside}, settings, {region: source}, extractor, None)
    for refusal in table.refusals:
        raise FeatureRefused(refusal.reason)
    return table


def _extract(
    volumes: Volumes,
    transforms: Mapping[Phase, sitk.Transform],
    regions: Mapping[str, Volume],
    settings: RadiomicsSettings,
    sources: Mapping[str, MaskSource],
    extractor: Extractor,
    executor: Executor | None,
) -> FeatureTable:
    if settings.left_to_pyradiomics is not None:
        extractor = Extractor.PYRADIOMICS
    grid = _choose_grid(volumes, regions, settings)
    placed, refusals = _place_regions(regions, grid, settings, extractor, sources)
    if extractor is Extractor.PYRADIOMICS:
        return _extract_with_pyradiomics(volumes, transforms, placed, refusals, settings, grid)

    union = np.zeros(grid.shape, dtype=np.bool_)
    for item in placed:
        union[item.region.box] |= item.region.mask
    where = np.flatnonzero(union)
    shapes = {item.name: _start(executor, measure_shape_features, item.region, settings) for item in placed}
    sampled = {
        phase: _start(
            executor, _sample, volume, _read_transform(transforms, phase, grid), grid, where, settings
        )
        for phase, volume in volumes.items()
    }
    measured: dict[tuple[str, Phase | None], Future[Mapping[str, float]]] = {}
    for phase, future in sampled.items():
        for item in placed:
            try:
                voxels = _pick(future.result(), union, where, item.region)
            except FeatureRefused as refusal:
                refusals.append(RegionRefusal(region=item.name, phase=phase, reason=str(refusal)))
                continue
            measured[item.name, phase] = _start(executor, measure_grey_values, voxels, item.region, settings)
    return _collect(placed, tuple(volumes), shapes, measured, refusals)


def _choose_grid(volumes: Volumes, regions: Mapping[str, Volume], settings: RadiomicsSettings) -> Grid:
    masks = list(regions.values())
    if not masks:
        raise FeatureRefused("no region was given")
    if settings.spacing_mm is not None:
        grid = place_grid(masks, settings.spacing_mm)
        margin = FILTER_MARGIN if settings.left_to_pyradiomics is not None else 0
        return _widen(grid, margin)
    for grid in [mask.grid for mask in masks[1:]] + [volume.grid for volume in volumes.values()]:
        check_geometry(grid, masks[0].grid)
    return masks[0].grid


def _widen(grid: Grid, margin: int) -> Grid:
    origin = grid.affine() @ np.array([-margin, -margin, -margin, 1.0])
    return Grid(
        shape=(grid.shape[0] + 2 * margin, grid.shape[1] + 2 * margin, grid.shape[2] + 2 * margin),
        spacing_mm=grid.spacing_mm,
        origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        axes=grid.axes,
    )


def _place_regions(
    regions: Mapping[str, Volume],
    grid: Grid,
    settings: RadiomicsSettings,
    extractor: Extractor,
    sources: Mapping[str, MaskSource],
) -> tuple[list[_Placed], list[RegionRefusal]]:
    placed: list[_Placed] = []
    refusals: list[RegionRefusal] = []
    for name, mask in regions.items():
        inside = Volume(array=mask.array != 0, grid=mask.grid)
        on_grid = inside if settings.spacing_mm is None else sample_mask(inside, grid)
        try:
            region = cut_region(
                on_grid,
                None,
                minimum_dimensions=settings.minimum_dimensions,
                minimum_voxels=settings.minimum_voxels,
            )
        except FeatureRefused as refusal:
            refusals.append(RegionRefusal(region=name, phase=None, reason=str(refusal)))
            continue
        origin = Origin(
            extractor=extractor,
            settings_sha256=settings.sha256,
            grid=grid,
            source=sources.get(name, UNKNOWN_SOURCE),
        )
        placed.append(_Placed(name=name, region=region, mask=on_grid, origin=origin))
    return placed, refusals


def _read_transform(
    transforms: Mapping[Phase, sitk.Transform], phase: Phase | None, grid: Grid
) -> tuple[Step, ...]:
    transform = None if phase is None else transforms.get(phase)
    return () if transform is None else read_steps(transform, grid)


def _sample(
    volume: Volume,
    steps: tuple[Step, ...],
    grid: Grid,
    where: npt.NDArray[np.intp],
    settings: RadiomicsSettings,
) -> Samples:
    """Returns the grey values at the points, interpolated, or as they are on the image's own grid."""
    if settings.spacing_mm is None:
        return Samples(values=volume.array.ravel()[where], beyond=np.zeros(where.size, dtype=np.bool_))
    return sample_points(volume, steps, grid, where, order=settings.interpolation_order)


def _pick(
    samples: Samples, union: npt.NDArray[np.bool_], where: npt.NDArray[np.intp], region: Region
) -> npt.NDArray[Any]:
    """Returns the values of one region out of those of all.

    Raises:
        FeatureRefused: the region reaches beyond the image, or a value is not finite.
    """
    voxels, beyond = samples.values, samples.beyond
    if region.voxels != where.size:
        chosen = np.zeros(union.shape, dtype=np.bool_)
        chosen[region.box] = region.mask
        among = chosen[union]
        voxels, beyond = voxels[among], beyond[among]
    outside = int(np.count_nonzero(beyond))
    if outside:
        raise FeatureRefused(f"{outside} of {voxels.size} points of the region lie outside the image")
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        broken = voxels.size - int(np.count_nonzero(np.isfinite(voxels)))
        raise FeatureRefused(f"{broken} of {voxels.size} voxels inside the region are not finite")
    return voxels


def _start(
    executor: Executor | None, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> Future[T]:
    """Returns the result to come; without an executor it has come already."""
    if executor is not None:
        return executor.submit(function, *args, **kwargs)
    done: Future[T] = Future()
    try:
        done.set_result(function(*args, **kwargs))
    except FeatureRefused as refusal:
        done.set_exception(refusal)
    return done


def _collect(
    placed: list[_Placed],
    phases: tuple[Phase | None, ...],
    shapes: Mapping[str, Future[Mapping[str, float]]],
    measured: Mapping[tuple[str, Phase | None], Future[Mapping[str, float]]],
    refusals: list[RegionRefusal],
) -> FeatureTable:
    values: list[FeatureValue] = []
    for item in placed:
        parts: list[tuple[Phase | None, Mapping[str, float]]] = [(None, shapes[item.name].result())]
        for phase in phases:
            future = measured.get((item.name, phase))
            if future is None:
                continue
            try:
                parts.append((phase, future.result()))
            except FeatureRefused as refusal:
                refusals.append(RegionRefusal(region=item.name, phase=phase, reason=str(refusal)))
        for part_phase, part in parts:
            for name, value in part.items():
                values.append(
                    FeatureValue(
                        region=item.name, phase=part_phase, name=name, value=value, origin=item.origin
                    )
                )
    return FeatureTable(values=tuple(values), refusals=tuple(refusals))


def _extract_with_pyradiomics(
    volumes: Volumes,
    transforms: Mapping[Phase, sitk.Transform],
    placed: list[_Placed],
    refusals: list[RegionRefusal],
    settings: RadiomicsSettings,
    grid: Grid,
) -> FeatureTable:
    """Returns what pyradiomics itself measures on the same grid."""
    values: list[FeatureValue] = []
    everywhere = np.arange(int(np.prod(grid.shape)))
    full = np.ones(grid.shape, dtype=np.bool_)
    shapes_of: set[str] = set()
    for phase, volume in volumes.items():
        steps = _read_transform(transforms, phase, grid)
        try:
            samples = _sample(normalise(volume, settings), steps, grid, everywhere, settings)
        except FeatureRefused as refusal:
            refusals.extend(
                RegionRefusal(region=item.name, phase=phase, reason=str(refusal)) for item in placed
            )
            continue
        on_grid = Volume(array=samples.values.reshape(grid.shape), grid=grid)
        for item in placed:
            try:
                _pick(samples, full, everywhere, item.region)
                found = extract_stock(on_grid, item.mask, settings)
            except FeatureRefused as refusal:
                refusals.append(RegionRefusal(region=item.name, phase=phase, reason=str(refusal)))
                continue
            for name, value in found.items():
                is_shape = name.startswith("original_shape")
                if is_shape and item.name in shapes_of:
                    continue
                values.append(
                    FeatureValue(
                        region=item.name,
                        phase=None if is_shape else phase,
                        name=name,
                        value=value,
                        origin=item.origin,
                    )
                )
            shapes_of.add(item.name)
    return FeatureTable(values=tuple(values), refusals=tuple(refusals))
