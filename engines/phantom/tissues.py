"""Hounsfield units of the synthetic abdomen, by tissue and contrast phase."""

from enum import StrEnum

from engines.phase import Phase


class Tissue(StrEnum):
    """What a part of the synthetic abdomen is made of."""

    AIR = "air"
    LUNG = "lung"
    FAT = "fat"
    MUSCLE = "muscle"
    SPONGY_BONE = "spongy bone"
    CORTICAL_BONE = "cortical bone"
    DISC = "intervertebral disc"
    SPINAL_CANAL = "spinal canal"
    COUCH = "couch"
    LIVER = "liver"
    SPLEEN = "spleen"
    PANCREAS = "pancreas"
    KIDNEY_CORTEX = "kidney cortex"
    KIDNEY_MEDULLA = "kidney medulla"
    RENAL_PELVIS = "renal pelvis"
    AORTA = "aorta"
    VENA_CAVA = "inferior vena cava"
    PORTAL_VEIN = "portal vein"
    SPLENIC_VEIN = "splenic vein"
    HEPATIC_VEIN = "hepatic vein"
    HEART = "heart"
    BOWEL_WALL = "wall of stomach and bowel"
    BOWEL_CONTENT = "content of stomach and bowel"
    GALLBLADDER = "gallbladder"
    NECROSIS = "necrosis"
    TUMOUR = "tumour"
    DECOY = "decoy"


_HU: dict[Tissue, tuple[float, float, float, float]] = {
    Tissue.AIR: (-1000, -1000, -1000, -1000),
    Tissue.LUNG: (-840, -830, -830, -830),
    Tissue.FAT: (-102, -100, -98, -98),
    Tissue.MUSCLE: (52, 58, 66, 66),
    Tissue.SPONGY_BONE: (170, 185, 195, 190),
    Tissue.CORTICAL_BONE: (480, 490, 495, 490),
    Tissue.DISC: (80, 82, 85, 85),
    Tissue.SPINAL_CANAL: (25, 30, 35, 35),
    Tissue.COUCH: (-250, -250, -250, -250),
    Tissue.LIVER: (58, 65, 115, 95),
    Tissue.SPLEEN: (48, 120, 125, 100),
    Tissue.PANCREAS: (40, 105, 95, 82),
    Tissue.KIDNEY_CORTEX: (35, 180, 190, 165),
    Tissue.KIDNEY_MEDULLA: (34, 70, 145, 160),
    Tissue.RENAL_PELVIS: (8, 10, 22, 300),
    Tissue.AORTA: (45, 320, 165, 110),
    Tissue.VENA_CAVA: (42, 75, 130, 110),
    Tissue.PORTAL_VEIN: (44, 110, 175, 115),
    Tissue.SPLENIC_VEIN: (44, 118, 175, 115),
    Tissue.HEPATIC_VEIN: (44, 66, 152, 112),
    Tissue.HEART: (44, 210, 150, 110),
    Tissue.BOWEL_WALL: (40, 80, 85, 80),
    Tissue.BOWEL_CONTENT: (18, 18, 18, 20),
    Tissue.GALLBLADDER: (10, 10, 11, 12),
    Tissue.NECROSIS: (26, 27, 30, 32),
}
"""HU before contrast and in the arterial, portal venous and delayed phase.

Source: OURS, round values of a textbook patient (late arterial, about 70 s and about 180 s after injection); the vessels lie
inside the ranges of 1,844 measured scans (``hu-by-phase.csv`` of the public test data).
"""

_COLUMN = {Phase.PRE_CONTRAST: 0, Phase.ARTERIAL: 1, Phase.PORTAL_VENOUS: 2, Phase.DELAYED: 3}


def textbook_hu(tissue: Tissue, phase: Phase) -> float:
    """Returns the HU of a tissue of the textbook patient.

    Args:
        tissue: any but TUMOUR and DECOY, which differ from patient to patient.
        phase: contrast phase.
    """
    return _HU[tissue][_COLUMN[phase]]
