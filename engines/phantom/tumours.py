"""Tumours of the synthetic liver: how the four latent traits become size, texture and enhancement."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from engines.phantom.solids import Array, Ellipsoid, Point, Solid
from engines.phantom.traits import PhantomTraits
from engines.phase import Phase

MOST_TUMOURS = 5
SMALLEST_RADIUS_MM = 7.0
"""No tumour is drawn smaller: 14 mm across, more than three slices of 4 mm (OURS)."""

_ROOM_MM = 4.0
"""Spacing of the candidate centres of tumours, mm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodule:
    """A tumour (or a decoy) of the synthetic abdomen.

    Attributes:
        solid: outer surface.
        core: necrotic part, or None.
        hu: HU of the viable part by phase.
        texture_hu: standard deviation of the texture of the viable part, HU.
        waves: shape (w, 4): three components of a wave vector in 1/mm and a phase in radian; the texture is their sum.
    """

    solid: Ellipsoid
    core: Ellipsoid | None
    hu: dict[Phase, float]
    texture_hu: float
    waves: npt.NDArray[np.float32]

    @property
    def longest_diameter_mm(self) -> float:
        """Longest diameter, mm."""
        return 2 * max(self.solid.radii_mm)

    @property
    def volume_ml(self) -> float:
        """Volume, mL."""
        return 4 / 3 * math.pi * math.prod(self.solid.radii_mm) / 1000

    def texture(self, x: Array, y: Array, z: Array) -> Array:
        """Returns the texture at points in space, HU, mean about zero: the same on every grid and in every phase."""
        total = sum(
            np.cos(x * kx + y * ky + z * kz + shift) for kx, ky, kz, shift in self.waves.astype(np.float32)
        )
        scale = self.texture_hu * math.sqrt(2 / len(self.waves))
        return np.asarray(total * np.float32(scale), dtype=np.float32)


def draw_tumours(traits: PhantomTraits, liver: Solid, rng: np.random.Generator) -> tuple[Nodule, ...]:
    """Returns one to five tumours that lie inside the liver and do not touch, the largest first.

    Args:
        traits: burden gives number and size, the others the look.
        liver: where the tumours may lie.
        rng: source of the places.
    """
    count = int(np.clip(round(2.2 + 1.1 * traits.burden), 1, MOST_TUMOURS))
    largest_mm = float(np.clip(23.0 * math.exp(0.42 * traits.burden), 10.0, 55.0))
    places, room_mm = _places_inside(liver)
    tumours: list[Nodule] = []
    for rank in range(count):
        wanted = max(SMALLEST_RADIUS_MM, largest_mm * 0.62**rank)
        fitting = np.flatnonzero(room_mm > wanted)
        if fitting.size == 0:
            if rank > 0:
                break
            fitting = np.array([int(room_mm.argmax())])
            wanted = float(room_mm.max())
        center = places[rng.choice(fitting)]
        flattening = rng.uniform(0.82, 1.0, size=2)
        radii = rng.permutation(np.array([wanted, wanted * flattening[0], wanted * flattening[1]]))
        solid = Ellipsoid(center_mm=_point(center), radii_mm=_point(radii))
        tumours.append(draw_look(solid, traits, rng))
        room_mm = np.minimum(room_mm, np.linalg.norm(places - center, axis=1) - wanted - 3.0)
    return tuple(tumours)


def draw_look(solid: Ellipsoid, traits: PhantomTraits, rng: np.random.Generator) -> Nodule:
    """Returns a nodule of the given shape with the texture, necrosis and enhancement that the traits ask for."""
    mixed = 1 / (1 + math.exp(-1.4 * traits.heterogeneity))
    core = None
    core_share = 0.85 * mixed - 0.15
    if core_share > 0.2:
        radii = np.asarray(solid.radii_mm)
        offset = rng.uniform(-1, 1, size=3) * radii * (1 - core_share) * 0.4
        core = Ellipsoid(
            center_mm=_point(np.asarray(solid.center_mm) + offset), radii_mm=_point(radii * core_share)
        )
    directions = rng.normal(size=(14, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    wavelengths_mm = rng.uniform(7.0, 22.0, size=(14, 1))
    waves = np.hstack([directions * 2 * math.pi / wavelengths_mm, rng.uniform(0, 2 * math.pi, (14, 1))])
    return Nodule(
        solid=solid,
        core=core,
        hu={
            Phase.PRE_CONTRAST: 42.0,
            Phase.ARTERIAL: float(np.clip(112 + 24 * traits.enhancement, 55, 190)),
            Phase.PORTAL_VENOUS: float(np.clip(80 - 7 * traits.washout, 58, 96)),
            Phase.DELAYED: float(np.clip(68 - 8 * traits.washout, 42, 88)),
        },
        texture_hu=3.0 + 17.0 * mixed,
        waves=waves.astype(np.float32),
    )


def _places_inside(
    liver: Solid,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns candidate centres, shape (n, 3), mm, and the radius of free room around each, mm."""
    low, high = (np.asarray(corner) for corner in liver.box_mm())
    x, y, z = np.meshgrid(
        *(
            np.arange(a - 2 * _ROOM_MM, b + 2 * _ROOM_MM, _ROOM_MM, dtype=np.float32)
            for a, b in zip(low, high, strict=True)
        ),
        indexing="ij",
    )
    room = distance_transform_edt(liver.distance_mm(x, y, z) < 0, sampling=_ROOM_MM) - _ROOM_MM / 2
    inside = room > SMALLEST_RADIUS_MM
    places = np.stack([x[inside], y[inside], z[inside]], axis=1).astype(np.float64)
    return places, room[inside]


def _point(values: npt.NDArray[np.floating]) -> Point:
    """Returns three numbers as a point."""
    x, y, z = (float(v) for v in values)
    return x, y, z
