"""MONAI's transforms as independent witness: the same drawn changes must give the same voxels."""

import itertools

import pytest
import torch
from monai.transforms import AdjustContrast, Flip, Rotate90, Zoom

from train.augment import ROTATION_PLANES, Augmentation, _magnify_at_once, apply_augmentation

torch.set_num_threads(1)

TOLERANCE = 4e-6
"""Intensities lie in [0, 1]; the order of the float32 operations differs."""


def draw(gamma, turns, flip, zoom):
    return Augmentation(
        gamma=torch.tensor([gamma], dtype=torch.float64),
        turns=torch.tensor([turns]),
        flip=torch.tensor([flip]),
        zoom=torch.tensor([zoom], dtype=torch.float64),
    )


def change_by_monai(case, gamma, turns, flip, zoom):
    """The transforms one after the other, in the order of the fields."""
    changed = AdjustContrast(gamma)(case.float())
    for quarter, plane in zip(turns, ROTATION_PLANES, strict=True):
        if quarter:
            changed = Rotate90(quarter, spatial_axes=plane)(changed)
    if flip >= 0:
        changed = Flip(flip)(changed)
    return torch.as_tensor(Zoom(zoom, mode="trilinear")(changed))


@pytest.mark.parametrize("kind", [torch.float16, torch.float32])
def test_every_combination_of_turns_and_flips_with_contrast_and_zoom_equals_monai(kind):
    generator = torch.Generator().manual_seed(0)
    case = torch.rand(2, 16, 16, 16, generator=generator).to(kind)
    for *turns, flip in itertools.product(range(4), range(4), (-1, 0, 1, 2)):
        gamma = 0.5 + 4 * torch.rand(1, generator=generator).item()
        zoom = 0.9 + 0.2 * torch.rand(1, generator=generator).item()
        found = apply_augmentation(case[None], draw(gamma, turns, flip, zoom))[0]
        expected = change_by_monai(case, gamma, turns, flip, zoom)
        torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE, msg=f"{turns} {flip} {zoom}")


@pytest.mark.parametrize("zoom", [0.9, 0.93, 0.97, 0.99, 1.01, 1.04, 1.07, 1.1])
def test_every_zoom_equals_monai_at_every_side_and_in_the_form_for_a_gpu(zoom):
    for side in (16, 32, 64):
        case = torch.rand(1, side, side, side, generator=torch.Generator().manual_seed(side))
        expected = torch.as_tensor(Zoom(zoom, mode="trilinear")(case))
        found = apply_augmentation(case[None], draw(1.0, [0, 0], -1, zoom))[0]
        torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)
        at_once = _magnify_at_once(case[0], int(side * zoom))
        torch.testing.assert_close(at_once, expected[0], rtol=0, atol=TOLERANCE)


def test_intensities_outside_0_to_1_are_bent_too():
    case = torch.rand(1, 16, 16, 16, generator=torch.Generator().manual_seed(1)).mul_(3).sub_(1).half()
    found = apply_augmentation(case[None], draw(2.5, [0, 0], -1, 1.0))[0]
    torch.testing.assert_close(found, change_by_monai(case, 2.5, [0, 0], -1, 1.0), rtol=0, atol=TOLERANCE)
