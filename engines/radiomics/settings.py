"""What to extract and how, in pyradiomics' own settings format, checked by pyradiomics' own schema."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from engines.errors import InvalidInput
from engines.radiomics.names import FEATURE_NAMES

INTERPOLATION_ORDERS: Mapping[object, int] = {
    "sitkNearestNeighbor": 0,
    "sitkLinear": 1,
    "sitkBSpline": 3,
    1: 0,
    2: 1,
    3: 3,
}
"""pyradiomics' interpolators (name or SimpleITK number) that the fixed grid knows, to the order of the spline."""

NEUTRAL_SETTINGS: Mapping[str, tuple[object, ...]] = {
    "normalize": (False,),
    "distances": ([1],),
    "force2D": (False,),
    "resegmentRange": (None,),
    "symmetricalGLCM": (True,),
    "weightingNorm": (None,),
    "gldm_a": (0,),
    "label_channel": (0,),
    "correctMask": (False,),
}
"""Settings that change values; with any value but these the features are left to pyradiomics itself."""

WITHOUT_EFFECT = frozenset(
    {
        "additionalInfo",
        "binWidth",
        "binCount",
        "force2Ddimension",
        "geometryTolerance",
        "interpolator",
        "label",
        "minimumROIDimensions",
        "minimumROISize",
        "normalizeScale",
        "padDistance",
        "preCrop",
        "removeOutliers",
        "resampledPixelSpacing",
        "resegmentMode",
        "resegmentShape",
        "voxelArrayShift",
        "kernelRadius",
        "maskedKernel",
        "initValue",
        "voxelBatch",
    }
)
"""Settings that are obeyed here, or do nothing without a filter, a neutral setting's other value or feature maps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RadiomicsSettings:
    """One way to extract features.

    Attributes:
        document: the settings file as canonical JSON, in pyradiomics' format.
        sha256: hash of ``document``; two values with different hashes are not one feature.
        spacing_mm: (z, y, x) of the fixed grid, mm; None measures on the image's own grid.
        interpolation_order: 0 nearest, 1 linear, 3 cubic B-spline.
        bin_width: width of a grey-level bin, units of the image (HU).
        bin_count: number of bins instead of a width, or None.
        label: the mask's label that is the region.
        minimum_dimensions: along how many axes the region must be longer than one voxel.
        minimum_voxels: the region must have more voxels than this; None asks nothing.
        shift: added to the grey values in energies.
        features: feature class and the names to give, in order.
        left_to_pyradiomics: why pyradiomics itself must measure (a filter, a rare setting), or None.
    """

    document: str
    sha256: str
    spacing_mm: tuple[float, float, float] | None
    interpolation_order: int
    bin_width: float
    bin_count: int | None
    label: int
    minimum_dimensions: int
    minimum_voxels: int | None
    shift: float
    features: tuple[tuple[str, tuple[str, ...]], ...]
    left_to_pyradiomics: str | None


def read_settings(path: Path) -> RadiomicsSettings:
    """Returns the settings of a file (YAML or JSON) in pyradiomics' format.

    Raises:
        InvalidInput: the file cannot be read, is not pyradiomics' format, or asks for what the fixed grid cannot do.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInput(f"radiomics settings {path} cannot be read: {error}") from error
    if content is not None and not isinstance(content, dict):
        raise InvalidInput(f"radiomics settings {path} hold a {type(content).__name__}, expected a mapping")
    return parse_settings(content or {})


def parse_settings(content: Mapping[str, Any]) -> RadiomicsSettings:
    """Returns the settings of a parsed document in pyradiomics' format; an empty one takes pyradiomics' defaults.

    Raises:
        InvalidInput: the document does not fit pyradiomics' schema, or asks for what the fixed grid cannot do.

    Source: pyradiomics 3.0.1, schemas/paramSchema.yaml and featureextractor.py (defaults).
    """
    document = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    setting, image_types, features = _check_schema(content)
    _check_bin(setting)
    return RadiomicsSettings(
        document=document,
        sha256=hashlib.sha256(document.encode()).hexdigest(),
        spacing_mm=_read_spacing(setting),
        interpolation_order=_read_interpolation(setting),
        bin_width=setting.get("binWidth", 25),
        bin_count=setting.get("binCount"),
        label=int(setting.get("label", 1)),
        minimum_dimensions=int(setting.get("minimumROIDimensions", 2)),
        minimum_voxels=setting.get("minimumROISize"),
        shift=float(setting.get("voxelArrayShift", 0)),
        features=_read_features(features),
        left_to_pyradiomics=_find_obstacle(setting, image_types, features),
    )


def _check_schema(content: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Returns pyradiomics' own reading: settings with defaults, image types, features; shape2D only where asked for."""
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    logging.getLogger("pykwalify").setLevel(logging.CRITICAL)  # the error itself says what the log would
    try:
        extractor = RadiomicsFeatureExtractor(dict(content)) if content else RadiomicsFeatureExtractor()
    except (RuntimeError, ValueError, TypeError) as error:  # pykwalify's own errors are runtime errors
        fault = getattr(error, "msg", None) or error
        raise InvalidInput(f"radiomics settings do not fit pyradiomics' format: {fault}") from error
    features = dict(extractor.enabledFeatures)
    if not content.get("featureClass"):
        features.pop("shape2D", None)
    return dict(extractor.settings), dict(extractor.enabledImagetypes), features


def _check_bin(setting: Mapping[str, Any]) -> None:
    width = setting.get("binWidth", 25)
    if width is not None and not width > 0:
        raise InvalidInput(f"binWidth is {width}, more than 0 expected")


def _read_spacing(setting: Mapping[str, Any]) -> tuple[float, float, float] | None:
    spacing = setting.get("resampledPixelSpacing")
    if spacing is None or setting.get("interpolator") is None:
        return None
    if len(spacing) != 3 or not all(length > 0 for length in spacing):
        raise InvalidInput(
            f"resampledPixelSpacing is {spacing}; the fixed grid needs three lengths (x, y, z) above 0 mm"
        )
    x, y, z = (float(length) for length in spacing)
    return z, y, x


def _read_interpolation(setting: Mapping[str, Any]) -> int:
    interpolator = setting.get("interpolator")
    if interpolator is None:
        return 3
    if interpolator not in INTERPOLATION_ORDERS:
        known = ", ".join(str(name) for name in INTERPOLATION_ORDERS)
        raise InvalidInput(f"interpolator {interpolator} is not one of {known}")
    return INTERPOLATION_ORDERS[interpolator]


def _read_features(features: Mapping[str, Any]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    chosen = []
    for feature_class, known in FEATURE_NAMES.items():
        if feature_class in features:
            named = features[feature_class]
            chosen.append((feature_class, tuple(name for name in known if not named or name in named)))
    return tuple(chosen)


def _find_obstacle(
    setting: Mapping[str, Any], image_types: Mapping[str, Any], features: Mapping[str, Any]
) -> str | None:
    """Returns why the fast engine cannot do what is asked for, or None."""
    if list(image_types) != ["Original"]:
        return f"filtered images: {', '.join(name for name in image_types if name != 'Original') or 'no Original'}"
    setting = {**setting, **(image_types["Original"] or {})}
    for name, value in setting.items():
        if name in NEUTRAL_SETTINGS and value not in NEUTRAL_SETTINGS[name]:
            return f"setting {name} = {value}"
        if name not in NEUTRAL_SETTINGS and name not in WITHOUT_EFFECT:
            return f"setting {name}"
    if image_types["Original"]:
        return "settings of the Original image type of its own"
    for feature_class, named in features.items():
        unknown = [name for name in named or () if name not in FEATURE_NAMES.get(feature_class, ())]
        if feature_class not in FEATURE_NAMES or unknown:
            return f"features {', '.join(unknown) or 'of class ' + feature_class}"
    return None
