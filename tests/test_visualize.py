import pytest
import torch

from dietnerf import visualize
from dietnerf.geometry.rays import Rendering
from dietnerf.visualize import (
    captioned,
    color_depth,
    depth_range,
    surface_depth,
    to_image,
    to_uint8,
)


def rendering(depths, opacities):
    n = len(depths)
    opacity = torch.tensor(opacities)
    return Rendering(torch.zeros(n, 3), opacity, torch.tensor(depths) * opacity, torch.empty(0))


def test_8_bit_is_rounded_and_clamped():
    assert to_uint8(torch.tensor([-0.1, 0.499 / 255, 0.5, 1.7])).tolist() == [0, 0, 128, 255]


def test_depth_does_not_depend_on_opacity():
    torch.testing.assert_close(
        surface_depth(rendering([3.0, 3.0], [1.0, 0.25])), torch.tensor([3.0, 3.0])
    )


def test_near_is_brighter_than_far_and_nothing_is_white():
    colors = color_depth(rendering([2.0, 4.0, 6.0, 0.0], [1.0, 1.0, 1.0, 0.0]), 2.0, 6.0)
    brightness = colors.mean(dim=1)
    assert brightness[0] > brightness[1] > brightness[2]
    assert (colors[3] == 1).all()


def test_range_of_an_empty_picture():
    assert depth_range(rendering([0.0], [0.0])) == (0.0, 1.0)


def test_rows_come_first():
    drawn = to_image(rendering([1.0] * 6, [1.0] * 3 + [0.0] * 3), "opacity", 2, (0, 1))
    assert drawn.shape == (2, 3, 3)
    assert (drawn[0] == 255).all() and (drawn[1] == 0).all()


@pytest.mark.parametrize("mode", ["rgb", "depth", "opacity"])
def test_a_large_picture_is_drawn_in_parts(mode: str, monkeypatch):
    shown = Rendering(torch.rand(60, 3), torch.rand(60), 6 * torch.rand(60), torch.empty(0))
    whole = to_image(shown, mode, 6, (2.0, 6.0))
    monkeypatch.setattr(visualize, "PIXELS_AT_ONCE", 7)
    assert torch.equal(to_image(shown, mode, 6, (2.0, 6.0)), whole)


def test_a_caption_stands_below_in_black_on_white():
    pixels = torch.full((8, 60, 3), 7, dtype=torch.uint8)
    shown = captioned(pixels, "cosine 0.5")
    assert (shown[:8] == pixels).all() and shown.shape[1:] == (60, 3)
    below = shown[8:].float()
    assert below.max() == 255 and below.min() < 60 and below.mean() > 180


def test_a_depth_that_is_no_number_is_drawn_too():
    nan = float("nan")
    drawn = to_image(rendering([nan, 2.0], [1.0, 1.0]), "depth", 1, (2.0, 6.0))
    assert drawn.shape == (1, 2, 3)
    assert to_image(rendering([2.0], [1.0]), "depth", 1, (nan, nan)).shape == (1, 1, 3)
