"""The organs of the synthetic abdomen: their solids in patient space and the order in which they are painted."""

from dataclasses import dataclass

import numpy as np

from engines.phantom.solids import (
    Column,
    Common,
    Ellipsoid,
    HalfSpace,
    Point,
    RibCage,
    Solid,
    Tube,
    Union,
)
from engines.phantom.tissues import Tissue


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One solid of one tissue; later parts are painted over earlier ones.

    Attributes:
        tissue: what it is made of.
        solid: where it is.
        moves: whether it follows the diaphragm when the patient breathes.
    """

    tissue: Tissue
    solid: Solid
    moves: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Habitus:
    """Stretches the template, whose coordinates are LPS in mm about the middle of the liver's height.

    Attributes:
        scale: factors along x, y, z, > 0.
    """

    scale: Point

    def ellipsoid(self, center: Point, radii: Point) -> Ellipsoid:
        """Returns the stretched ellipsoid."""
        return Ellipsoid(center_mm=self.point(center), radii_mm=self.point(radii))

    def tube(self, radius: float, *points: Point) -> Tube:
        """Returns the tube through the stretched points; its radius grows with the mean stretch."""
        return Tube(
            points_mm=tuple(self.point(p) for p in points), radius_mm=radius * float(np.mean(self.scale))
        )

    def column(
        self, center: tuple[float, float], radii: tuple[float, float], inverted: bool = False
    ) -> Column:
        """Returns the stretched elliptic cylinder."""
        (sx, sy, _), (cx, cy), (rx, ry) = self.scale, center, radii
        return Column(center_mm=(cx * sx, cy * sy), radii_mm=(rx * sx, ry * sy), inverted=inverted)

    def half(self, point: Point, normal: Point) -> HalfSpace:
        """Returns the half space behind the stretched point; the normal is kept."""
        return HalfSpace(point_mm=self.point(point), normal=normal)

    def point(self, values: Point) -> Point:
        """Returns the stretched point."""
        (x, y, z), (sx, sy, sz) = values, self.scale
        return x * sx, y * sy, z * sz


CAVITY = ((0.0, -2.0), (133.0, 85.0))
"""Centre and radii of the abdominal cavity of the template, mm."""

_VENA_CAVA: tuple[Point, ...] = ((-20, 30, -300), (-22, 28, 0), (-19, 6, 78), (-8, -2, 100))


def liver_of(habitus: Habitus) -> Solid:
    """Returns the liver: a right and a left lobe, flattened below, with the beds of kidney, gallbladder and vena cava."""
    right = Common(
        solids=(
            habitus.ellipsoid((-68, 0, 0), (63, 76, 82)),
            habitus.half((-34, 0, -22), (0.75, 0.15, -0.62)),
        )
    )
    left = habitus.ellipsoid((2, -38, 36), (70, 33, 33))
    (cx, cy), (rx, ry) = CAVITY
    return Common(
        solids=(Union(solids=(right, left), seam_mm=12.0), habitus.column((cx, cy), (rx - 3, ry - 3))),
        without=(_perirenal(habitus, right=True), _gallbladder(habitus), habitus.tube(12.5, *_VENA_CAVA)),
    )


def organs_before_tumours(habitus: Habitus, liver: Solid) -> tuple[Part, ...]:
    """Returns lungs, heart, bowel, stomach, spleen, liver with its vessels: what the breath moves, up to the tumours."""
    h = habitus
    wall, content, gas = Tissue.BOWEL_WALL, Tissue.BOWEL_CONTENT, Tissue.AIR
    stomach = h.ellipsoid((57, -18, 22), (37, 40, 44))
    colon = ((-96, -28, -108), (-52, -56, -96), (35, -62, -84), (92, -34, -50), (104, 20, -90))
    parts: list[tuple[Tissue, Solid]] = [
        *((Tissue.LUNG, lung) for lung in _lungs(h)),
        (Tissue.HEART, h.ellipsoid((14, -24, 122), (54, 46, 40))),
        (wall, h.tube(17, *colon)),
        (content, h.tube(14, *colon)),
        (gas, h.tube(7, (-40, -64, -94), (40, -68, -84), (88, -42, -52))),
        *((wall, loop) for loop in _bowel_loops(h, 14.0)),
        *((content, loop) for loop in _bowel_loops(h, 10.5)),
        (wall, stomach),
        (content, h.ellipsoid((57, -18, 22), (32, 35, 39))),
        (gas, Common(solids=(h.ellipsoid((57, -18, 22), (32, 35, 39)), h.half((0, -34, 0), (0, 1, 0))))),
        (
            Tissue.SPLEEN,
            Common(solids=(h.ellipsoid((96, 36, 30), (30, 40, 48)), h.column(*_shrunk_cavity(3)))),
        ),
        (Tissue.LIVER, liver),
        (Tissue.GALLBLADDER, _gallbladder(h)),
        (Tissue.PORTAL_VEIN, h.tube(5, (-28, 4, 0), (-58, 2, 8), (-92, -12, 6))),
        (Tissue.PORTAL_VEIN, h.tube(4, (-58, 2, 8), (-82, 26, 20), (-92, 38, 30))),
        (Tissue.PORTAL_VEIN, h.tube(4, (-28, 4, 0), (-16, -28, 22), (14, -42, 34))),
        (Tissue.HEPATIC_VEIN, h.tube(4.5, (-19, 8, 74), (-58, 4, 58), (-96, 10, 34))),
        (Tissue.HEPATIC_VEIN, h.tube(4, (-19, 8, 74), (-42, -26, 50), (-64, -44, 24))),
        (Tissue.HEPATIC_VEIN, h.tube(3.5, (-19, 8, 74), (0, -26, 54), (24, -40, 44))),
    ]
    return tuple(Part(tissue=tissue, solid=solid) for tissue, solid in parts)


def organs_after_tumours(habitus: Habitus) -> tuple[Part, ...]:
    """Returns pancreas, kidneys and great veins (moved by the breath), then aorta, spine, wall, air and couch (not moved)."""
    h = habitus
    moving: list[tuple[Tissue, Solid]] = [
        (Tissue.PANCREAS, h.tube(10, (-30, -2, -34), (0, -8, -20), (38, 12, -4), (66, 26, 6)))
    ]
    for side, z in ((-1.0, -78.0), (1.0, -62.0)):
        x = 60 * side
        moving += [
            (Tissue.FAT, _perirenal(h, right=side < 0)),
            (Tissue.KIDNEY_CORTEX, h.ellipsoid((x, 46, z), (25, 26, 52))),
            (Tissue.KIDNEY_MEDULLA, h.ellipsoid((x - 2 * side, 46, z), (16, 17, 40))),
            (Tissue.RENAL_PELVIS, h.ellipsoid((x - 12 * side, 45, z), (10, 9, 17))),
        ]
    moving += [
        (Tissue.VENA_CAVA, h.tube(12, *_VENA_CAVA)),
        (Tissue.PORTAL_VEIN, h.tube(7.5, (0, 10, -22), (-28, 4, 0))),
        (Tissue.PORTAL_VEIN, h.tube(5.5, (0, 10, -22), (-3, 2, -300))),
        (Tissue.SPLENIC_VEIN, h.tube(5, (0, 10, -22), (34, 24, -4), (72, 34, 16))),
    ]
    spine, canal, arch = h.column((0, 72), (24, 18)), h.column((0, 98), (9, 8)), h.column((0, 98), (17, 14))
    (cx, cy), (rx, ry) = CAVITY
    still: list[tuple[Tissue, Solid]] = [
        (Tissue.AORTA, h.tube(11, (12, 40, -300), (12, 38, 40), (22, 46, 300))),
        (Tissue.MUSCLE, Tube(points_mm=(h.point((38, 66, -20)), h.point((44, 62, -300))), radius_mm=14)),
        (Tissue.MUSCLE, Tube(points_mm=(h.point((-38, 66, -20)), h.point((-44, 62, -300))), radius_mm=14)),
        (Tissue.MUSCLE, h.column((cx, cy), (rx, ry), inverted=True)),
        (
            Tissue.CORTICAL_BONE,
            RibCage(
                wall=h.column((cx, cy), (rx + 6, ry + 6)),
                radius_mm=4.5,
                pitch_mm=27,
                slope=0.35,
                lowest_mm=-55,
            ),
        ),
        (Tissue.CORTICAL_BONE, arch),
        (Tissue.CORTICAL_BONE, spine),
        (Tissue.SPONGY_BONE, h.column((0, 72), (21, 15))),
        (Tissue.SPINAL_CANAL, canal),
        (Tissue.FAT, h.column((0, 0), (146, 103), inverted=True)),
        (Tissue.AIR, h.column((0, 0), (158, 112), inverted=True)),
        (Tissue.COUCH, Common(solids=(h.half((0, 121, 0), (0, 1, 0)), h.half((0, 115, 0), (0, -1, 0))))),
    ]
    return (
        *(Part(tissue=tissue, solid=solid) for tissue, solid in moving),
        *(Part(tissue=tissue, solid=solid, moves=False) for tissue, solid in still),
    )


def decoy_place(habitus: Habitus) -> Point:
    """Returns the place of a decoy, LPS, mm: in the fat under the left lobe, inside the liver's box, outside of the liver."""
    return habitus.point((2, -48, -28))


def _lungs(h: Habitus) -> list[Solid]:
    """Returns the right and the left lung above their domes of the diaphragm."""
    domes = (h.ellipsoid((-68, 0, 0), (67, 81, 86)), h.ellipsoid((72, 0, 0), (70, 86, 80)))
    cavity = h.column(*_shrunk_cavity(2))
    right = Common(
        solids=(cavity, h.half((0, 0, 20), (0, 0, -1)), h.half((-30, 0, 0), (1, 0, 0))), without=domes
    )
    left = Common(
        solids=(cavity, h.half((0, 0, 20), (0, 0, -1)), h.half((42, 0, 0), (-1, 0, 0))), without=domes
    )
    return [right, left]


def _bowel_loops(h: Habitus, radius: float) -> list[Solid]:
    """Returns loops of small bowel below the stomach."""
    return [
        h.tube(radius, (-50, -30, -120), (-10, -40, -128), (30, -30, -118), (10, -10, -112)),
        h.tube(radius, (60, -30, -118), (80, 0, -112), (50, 10, -128), (20, -20, -138)),
    ]


def _gallbladder(h: Habitus) -> Solid:
    """Returns the gallbladder in its bed under the right lobe."""
    return h.ellipsoid((-52, -42, -40), (13, 15, 24))


def _perirenal(h: Habitus, *, right: bool) -> Solid:
    """Returns a kidney with the fat around it."""
    return h.ellipsoid((-60, 46, -78), (31, 32, 58)) if right else h.ellipsoid((60, 46, -62), (31, 32, 58))


def _shrunk_cavity(by_mm: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Returns centre and radii of the cavity less a margin, mm of the template."""
    center, (rx, ry) = CAVITY
    return center, (rx - by_mm, ry - by_mm)
