"""What cameras show of frames whose share is known."""

import math

import pytest
import torch

from dietnerf.geometry.unseen import coarse, spread_out, unseen_share
from tests.geometry.test_coverage import cameras_of, ring

DEPTH = torch.tensor([4.0])


def ahead(x: float) -> torch.Tensor:
    """A pose at (x, 0, 0) that looks along y."""
    axes = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    return torch.cat([axes, torch.tensor([[x], [0], [0]])], dim=1)[None]


def test_a_training_camera_has_seen_its_own_picture():
    cameras = ring([0.0, 90.0, 180.0])
    assert unseen_share(cameras, cameras, DEPTH.expand(3)) == 0


def test_a_step_aside_shows_a_strip_that_nothing_saw():
    """The picture is 8 tan(0.345) wide at the depth; a quarter of that is new."""
    width = 8 * math.tan(0.69 / 2)
    share = unseen_share(cameras_of(ahead(width / 4)), cameras_of(ahead(0)), DEPTH)
    assert share == pytest.approx(0.25, abs=0.03)
    assert unseen_share(cameras_of(ahead(width)), cameras_of(ahead(0)), DEPTH) > 0.9


@pytest.mark.parametrize(("turn", "least", "most"), [(30, 0.0, 0.1), (90, 0.8, 1), (180, 1, 1)])
def test_what_is_seen_from_another_side_was_not_seen(turn, least, most):
    assert least <= unseen_share(ring([float(turn)]), ring([0.0]), DEPTH) <= most


def test_a_camera_sees_nothing_behind_itself():
    assert unseen_share(cameras_of(ahead(0)), ring([0.0]), -DEPTH) == 1.0


def test_few_pixels_of_few_frames_are_measured():
    assert spread_out(60, 3).tolist() == [0, 30, 59]
    assert spread_out(2, 12).tolist() == [0, 1]
    small = coarse(cameras_of(ahead(0)), 24)
    assert (small.width, small.height) == (24, 24)
    torch.testing.assert_close(small.focal[0, 0] / 24, cameras_of(ahead(0)).focal[0, 0] / 100)
