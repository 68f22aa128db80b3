"""How bright vessels and organs are in one volume of unknown phase: what the phase model judges."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from engines.anatomy import CoarseAnatomy, find_anatomy
from engines.anatomy.shapes import Hu, Mask
from engines.volume import Volume

LEAST_VOXELS = 25
"""Fewer voxels give no median (OURS)."""

CORTEX_MM = (2.5, 6.5)
MEDULLA_MM = (9.0, 17.0)
"""Depth of cortex and medulla below the kidney's surface, mm, less the blurred edge and the border between them (OURS)."""

PELVIS_BRIGHTER_HU = 60.0
"""Excreted contrast is this much brighter than the cortex (OURS)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enhancement:
    """Median HU of vessels and organs; None where the structure was not found with confidence.

    Attributes:
        aorta_hu: abdominal aorta, well inside.
        portal_vein_hu: portal vein with tributaries; only where it is brighter than the liver.
        liver_hu: parenchyma.
        spleen_hu: parenchyma.
        kidney_cortex_hu: outer layer; None before contrast.
        kidney_medulla_hu: inner layer; None before contrast.
        renal_pelvis_hu: excreted contrast; None where there is none or no kidney was found.
        vena_cava_hu: inferior vena cava, well inside.
    """

    aorta_hu: float | None
    portal_vein_hu: float | None
    liver_hu: float | None
    spleen_hu: float | None
    kidney_cortex_hu: float | None
    kidney_medulla_hu: float | None
    renal_pelvis_hu: float | None
    vena_cava_hu: float | None

    def medians(self) -> dict[str, float]:
        """Returns the HU that were measured, by structure: aorta, portal_vein, liver, spleen, kidney_cortex ..."""
        values = {
            "aorta": self.aorta_hu,
            "portal_vein": self.portal_vein_hu,
            "liver": self.liver_hu,
            "spleen": self.spleen_hu,
            "kidney_cortex": self.kidney_cortex_hu,
            "kidney_medulla": self.kidney_medulla_hu,
            "renal_pelvis": self.renal_pelvis_hu,
            "vena_cava": self.vena_cava_hu,
        }
        return {structure: hu for structure, hu in values.items() if hu is not None}


def measure_enhancement(volume: Volume) -> Enhancement:
    """Returns the median HU of what can be found in a volume of any phase.

    Args:
        volume: HU, any axial grid.
    """
    return read_enhancement(find_anatomy(volume))


def read_enhancement(anatomy: CoarseAnatomy) -> Enhancement:
    """Returns the median HU of the organs that were found.

    Args:
        anatomy: of one volume.
    """
    hu, kidneys = anatomy.hu, anatomy.kidneys
    depth_mm = (
        ndimage.distance_transform_edt(kidneys, sampling=anatomy.grid.spacing_mm) if kidneys.any() else None
    )
    cortex_hu = medulla_hu = pelvis_hu = None
    if depth_mm is not None:
        cortex_hu = _median(hu, (depth_mm > CORTEX_MM[0]) & (depth_mm < CORTEX_MM[1]))
    if depth_mm is not None and cortex_hu is not None:
        excreted = kidneys & (hu > cortex_hu + PELVIS_BRIGHTER_HU)
        inner = (depth_mm > MEDULLA_MM[0]) & (depth_mm < MEDULLA_MM[1])
        medulla_hu = _median(hu, inner & (hu > 25) & ~excreted)
        pelvis_hu = _median(hu, excreted & (depth_mm > CORTEX_MM[1]))
    return Enhancement(
        aorta_hu=_median(hu, anatomy.aorta),
        portal_vein_hu=_median(hu, anatomy.portal_vein),
        liver_hu=_median(hu, anatomy.liver),
        spleen_hu=_median(hu, anatomy.spleen),
        kidney_cortex_hu=cortex_hu,
        kidney_medulla_hu=medulla_hu,
        renal_pelvis_hu=pelvis_hu,
        vena_cava_hu=_median(hu, anatomy.vena_cava),
    )


def _median(hu: Hu, mask: Mask) -> float | None:
    """Returns the median HU inside a mask, or None where it is too small."""
    return float(np.median(hu[mask])) if np.count_nonzero(mask) >= LEAST_VOXELS else None
