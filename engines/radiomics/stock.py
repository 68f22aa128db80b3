"""pyradiomics itself, as installed: selectable, the witness of the tests, and the way to its filters."""

import json
import logging
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from engines.errors import FeatureRefused
from engines.radiomics.region import check_geometry
from engines.radiomics.settings import RadiomicsSettings
from engines.volume import Volume

GRID_SETTINGS = ("resampledPixelSpacing", "interpolator", "normalize")
"""What is done before pyradiomics is called, so that it must not do it again."""


def extract_stock(image: Volume, mask: Volume, settings: RadiomicsSettings) -> Mapping[str, float]:
    """Returns every feature that pyradiomics measures on the image as it is, under its names, unresampled.

    Args:
        image: grey values on the grid to measure on; normalised already where the settings ask for it.
        mask: labels on the same grid.
        settings: what to measure.

    Raises:
        FeatureRefused: pyradiomics refuses the region; the message is its own.
        GeometryMismatch: image and mask do not lie on one grid.
    """
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    check_geometry(image.grid, mask.grid)
    logging.getLogger("radiomics").setLevel(logging.ERROR)
    document: dict[str, Any] = json.loads(settings.document)
    setting = {
        name: value for name, value in document.get("setting", {}).items() if name not in GRID_SETTINGS
    }
    document = {**document, "setting": {**setting, "additionalInfo": False}}
    if not document.get("featureClass"):
        document["featureClass"] = {name: None for name, _ in settings.features}
    extractor = RadiomicsFeatureExtractor(document)
    try:
        with warnings.catch_warnings():
            # pyradiomics warns of every mean over no direction; the NaN that it then gives says the same.
            warnings.simplefilter("ignore", RuntimeWarning)
            found = extractor.execute(
                image.to_image(), _with_label(mask, settings.label).to_image(), label=settings.label
            )
    except ValueError as error:
        raise FeatureRefused(" ".join(str(part) for part in error.args)) from error
    return {name: float(np.real(value)) for name, value in found.items()}


def normalise(image: Volume, settings: RadiomicsSettings) -> Volume:
    """Returns the whole image normalised by pyradiomics where the settings ask for it, else the image itself."""
    from radiomics import imageoperations
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    document = json.loads(settings.document)
    setting = RadiomicsFeatureExtractor(document).settings if document else {}
    if not setting.get("normalize"):
        return image
    return Volume.of_image(imageoperations.normalizeImage(image.to_image(), **setting))


def _with_label(mask: Volume, label: int) -> Volume:
    """Returns a mask whose marked voxels carry the label; a bool mask has none of its own."""
    if mask.array.dtype != np.bool_:
        return mask
    return Volume(array=mask.array.astype(np.uint32) * np.uint32(label), grid=mask.grid)
