"""Settings are pyradiomics' own format, checked by its schema; what only it can do is left to it, with the reason."""

import pytest

from engines.configuration import find_conf
from engines.errors import InvalidInput
from engines.radiomics.names import FEATURE_NAMES
from engines.radiomics.settings import parse_settings, read_settings


def test_the_shipped_settings_are_the_method():
    shipped = read_settings(find_conf("radiomics.yaml"))
    assert shipped.spacing_mm == (1.0, 1.0, 1.0)
    assert shipped.bin_width == 25
    assert shipped.interpolation_order == 3
    assert shipped.left_to_pyradiomics is None
    assert dict(shipped.features) == FEATURE_NAMES


def test_an_empty_document_takes_pyradiomics_defaults():
    defaults = parse_settings({})
    assert defaults.spacing_mm is None
    assert (defaults.bin_width, defaults.label, defaults.minimum_dimensions) == (25, 1, 2)
    assert len(defaults.features) == 7


def test_the_hash_follows_the_content_and_not_its_order():
    one = parse_settings({"setting": {"binWidth": 25, "label": 1}})
    other_order = parse_settings({"setting": {"label": 1, "binWidth": 25}})
    other = parse_settings({"setting": {"label": 1, "binWidth": 20}})
    assert one.sha256 == other_order.sha256 != other.sha256


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"imageType": {"Original": {}, "Wavelet": {}}}, "Wavelet"),
        ({"imageType": {"LoG": {"sigma": [1.0]}}}, "LoG"),
        ({"imageType": {"Original": {"binWidth": 10}}}, "Original"),
        ({"setting": {"distances": [1, 2]}}, "distances"),
        ({"setting": {"force2D": True}}, "force2D"),
        ({"setting": {"weightingNorm": "euclidean"}}, "weightingNorm"),
        ({"setting": {"gldm_a": 1}}, "gldm_a"),
        ({"setting": {"resegmentRange": [-100, 200]}}, "resegmentRange"),
        ({"setting": {"normalize": True}}, "normalize"),
        ({"setting": {"symmetricalGLCM": False}}, "symmetricalGLCM"),
        ({"featureClass": {"shape": ["Compactness1"]}}, "Compactness1"),
        ({"featureClass": {"shape2D": None}}, "shape2D"),
    ],
)
def test_rare_settings_and_filters_are_left_to_pyradiomics(document, reason):
    assert reason in (parse_settings(document).left_to_pyradiomics or "")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"setting": {"binWidht": 25}}, "do not fit"),
        ({"setting": {"binWidth": "wide"}}, "do not fit"),
        ({"setting": {"binWidth": -1}}, "do not fit"),
        ({"featureClass": {"colour": None}}, "do not fit"),
        ({"setting": {"resampledPixelSpacing": [1, 1, 0]}}, "above 0 mm"),
        ({"setting": {"resampledPixelSpacing": [1, 1]}}, "above 0 mm"),
        ({"setting": {"resampledPixelSpacing": [1, 1, 1], "interpolator": "sitkGaussian"}}, "sitkGaussian"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(document, message):
    with pytest.raises(InvalidInput, match=message):
        parse_settings(document)


def test_a_broken_file_is_refused_with_its_path(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("setting: [unclosed")
    with pytest.raises(InvalidInput, match=r"broken\.yaml"):
        read_settings(path)
    path.write_text("- a list")
    with pytest.raises(InvalidInput, match="expected a mapping"):
        read_settings(path)
    with pytest.raises(InvalidInput, match=r"absent\.yaml"):
        read_settings(tmp_path / "absent.yaml")
