"""The gate behind every segmenter: a liver that cannot be one is refused, whoever drew it."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from engines.errors import NoLiverFound, SegmentationRefused
from engines.segmentation.segmenter import Segmentation
from engines.volume import Volume

LIVER_VOLUME_ML = (500.0, 4000.0)
"""Volumes outside of these are no liver of an adult (dicom.md, section 3)."""

LIVER_HU = (20.0, 220.0)
"""Median HU of a liver in any phase, from fatty native to strongly enhanced (OURS)."""

LARGEST_CUT_SECTION = 0.6
"""A liver whose first or last slice is larger than this share of its largest slice is cut off by the scan (OURS)."""

LEAST_LARGEST_PIECE = 0.9
"""Share of the mask in its largest connected piece (OURS)."""

LARGEST_BORDER_SHARE = 0.02
"""Share of the mask's surface that may lie on the sides of the image, in the slice's plane (OURS)."""

LARGEST_LESION_SHARE = 0.9
"""Lesions that fill more of the liver than this are a failure of the segmenter (OURS)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentationQuality:
    """Figures of a segmentation.

    Attributes:
        liver_volume_ml: volume of the liver with its lesions, mL.
        median_hu: median HU inside the liver less its lesions.
        right_share: share of the liver on the patient's right of the body's middle, 0..1.
        largest_piece: share of the mask in its largest connected piece, 0..1.
        cut_section: area of the liver in the first or last slice of the scan over that of its largest slice, 0..1.
        border_share: share of the liver's voxels in a slice that touch the sides of the image, 0..1.
        lesion_share: share of the liver that is lesion, 0..1.
    """

    liver_volume_ml: float
    median_hu: float
    right_share: float
    largest_piece: float
    cut_section: float
    border_share: float
    lesion_share: float


def check_segmentation(segmentation: Segmentation, volume: Volume) -> SegmentationQuality:
    """Returns the figures of a segmentation that passed the gate.

    Args:
        segmentation: of any provider.
        volume: HU it was made on.

    Raises:
        NoLiverFound: the mask is empty.
        SegmentationRefused: the masks cannot be those of a liver; the message names every figure that does not fit.
    """
    if not segmentation.liver.grid.matches(volume.grid):
        raise SegmentationRefused(
            f"the mask of {segmentation.provider} lies on a grid of shape {segmentation.liver.grid.shape},"
            f" the volume on one of shape {volume.grid.shape}"
        )
    if not segmentation.liver.array.any():
        raise NoLiverFound(f"{segmentation.provider} {segmentation.version} found no liver")
    quality = _measure(segmentation, volume)
    faults = _faults(quality)
    if faults:
        raise SegmentationRefused(
            f"the liver of {segmentation.provider} {segmentation.version} is not plausible: {'; '.join(faults)}"
        )
    return quality


def _measure(segmentation: Segmentation, volume: Volume) -> SegmentationQuality:
    """Returns the figures of masks that are not empty."""
    liver, lesions = segmentation.liver.array, segmentation.lesions.array > 0
    total = int(np.count_nonzero(liver))
    labels, _ = ndimage.label(liver)
    matrix = volume.grid.affine()
    body = volume.array > -300
    middle_x = float((matrix @ [*np.argwhere(body[:, ::4, ::4]).mean(axis=0) * (1, 4, 4), 1])[0])
    indices = np.argwhere(liver)
    x = indices @ matrix[0, :3] + matrix[0, 3]
    healthy = liver & ~lesions
    sections = liver.sum(axis=(1, 2))
    sides = np.count_nonzero(liver[:, [0, -1], :]) + np.count_nonzero(liver[:, :, [0, -1]])
    return SegmentationQuality(
        liver_volume_ml=total * volume.grid.voxel_volume_ml,
        median_hu=float(np.median(volume.array[healthy if healthy.any() else liver])),
        right_share=float(np.mean(x < middle_x)),
        largest_piece=float(np.bincount(labels.ravel())[1:].max()) / total,
        cut_section=float(max(sections[0], sections[-1])) / float(sections.max()),
        border_share=sides / total,
        lesion_share=float(np.count_nonzero(liver & lesions)) / total,
    )


def _faults(quality: SegmentationQuality) -> list[str]:
    """Returns what does not fit, each with got and expected."""
    low_ml, high_ml = LIVER_VOLUME_ML
    low_hu, high_hu = LIVER_HU
    checks = (
        (
            low_ml <= quality.liver_volume_ml <= high_ml,
            f"volume {quality.liver_volume_ml:.0f} mL, expected {low_ml:.0f} to {high_ml:.0f} mL",
        ),
        (
            low_hu <= quality.median_hu <= high_hu,
            f"median {quality.median_hu:.0f} HU, expected {low_hu:.0f} to {high_hu:.0f} HU",
        ),
        (
            quality.right_share > 0.5,
            f"{quality.right_share:.0%} on the patient's right, expected more than half",
        ),
        (
            quality.largest_piece >= LEAST_LARGEST_PIECE,
            f"{quality.largest_piece:.0%} in one piece, expected at least {LEAST_LARGEST_PIECE:.0%}",
        ),
        (
            quality.cut_section <= LARGEST_CUT_SECTION,
            f"cut off by the scan: its end slice has {quality.cut_section:.0%} of its largest section,"
            f" expected at most {LARGEST_CUT_SECTION:.0%}",
        ),
        (
            quality.border_share <= LARGEST_BORDER_SHARE,
            f"{quality.border_share:.0%} on the border of the image, expected at most {LARGEST_BORDER_SHARE:.0%}",
        ),
        (
            quality.lesion_share <= LARGEST_LESION_SHARE,
            f"{quality.lesion_share:.0%} of it lesion, expected at most {LARGEST_LESION_SHARE:.0%}",
        ),
    )
    return [fault for passed, fault in checks if not passed]
