"""What a segmenter is, and what it gives: the liver and its lesions on the grid of the portal venous phase."""

from dataclasses import dataclass
from typing import Protocol

from engines.errors import GeometryMismatch
from engines.volume import Volume


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segmentation:
    """Liver and lesions in one portal venous volume.

    Attributes:
        liver: bool on the volume's native grid; holds its vessels and lesions.
        lesions: uint8 labels on the same grid, 0 none, 1 the largest.
        provider: name of the segmenter; features of different providers are different measurements.
        version: version of the segmenter.

    Raises:
        GeometryMismatch: both masks do not lie on one grid.
    """

    liver: Volume
    lesions: Volume
    provider: str
    version: str

    def __post_init__(self) -> None:
        if not self.liver.grid.matches(self.lesions.grid):
            raise GeometryMismatch(
                f"liver mask of shape {self.liver.grid.shape} and lesion labels of shape {self.lesions.grid.shape}"
                " lie on different grids"
            )


class Segmenter(Protocol):
    """Anything that finds liver and lesions: the baseline, a bundle, a trained network."""

    @property
    def provider(self) -> str:
        """Name that stands in every result."""
        ...

    @property
    def version(self) -> str:
        """Version that stands in every result."""
        ...

    def segment(self, volume: Volume) -> Segmentation:
        """Returns liver and lesions of a portal venous volume.

        Args:
            volume: HU on its native grid.

        Raises:
            SegmentationRefused: no plausible liver was found.
        """
        ...
