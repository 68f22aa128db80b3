"""The latent traits of a synthetic patient, by which images and hazards hang together."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomTraits:
    """What makes one synthetic patient differ from the next. The four latents are meant as standard normal.

    Attributes:
        seed: draws the body and the places of the tumours, >= 0.
        burden: number and size of the tumours.
        heterogeneity: texture and necrosis inside the tumours.
        enhancement: arterial enhancement of the tumours.
        washout: how dark the tumours are in the portal venous and delayed phase.
    """

    seed: int
    burden: float
    heterogeneity: float
    enhancement: float
    washout: float
