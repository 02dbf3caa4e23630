"""Losses of training rays that no preset uses: closed forms, and which rays count."""

import math

import pytest
import torch

from dietnerf.data import ImageDataset, Procedural
from dietnerf.errors import UserError
from dietnerf.geometry.rays import Rendering
from dietnerf.losses import RayLossInput
from dietnerf.research import OpacityEntropy, RayEntropy, Reprojection
from tests.helpers import ray_loss_input

WHITE = torch.ones(3)


def test_entropy_of_even_weights_is_the_logarithm_of_their_number():
    made = ray_loss_input([[0.25] * 4, [0.0, 0.9, 0.0, 0.0], [0.01] * 4])
    loss = RayEntropy()(made)  # the second has none, the third sees the background
    torch.testing.assert_close(loss, torch.tensor(math.log(4) / 3))
    loss.backward()
    assert RayEntropy(min_opacity=0.0)(made) > loss


def test_opacity_is_pushed_to_nothing_or_all():
    clear, half, solid = (
        OpacityEntropy()(ray_loss_input([[w, 0.0, 0.0, 0.0]])) for w in (0.0, 0.5, 1.0)
    )
    torch.testing.assert_close(half, torch.tensor(math.log(2)))
    assert clear < 1e-3 and solid < 1e-3


@pytest.fixture(scope="module")
def scene() -> ImageDataset:
    return Procedural(resolution=64, n_train=24).read("train")


def at_depth(scene: ImageDataset, scale: float) -> RayLossInput:
    """Rays of the first view that hit something, which end at `scale` times the true depth."""
    rays = scene.cameras.image_rays(0)
    depth = scene.depths[0].flatten()
    hit = depth > 0
    rays, ts = rays[hit], scale * depth[hit]
    opacity = torch.ones(len(ts))
    target = scene.image(0, WHITE).view(-1, 3)[hit]
    rendering = Rendering(target, opacity, ts.requires_grad_(), ts[:0])
    return RayLossInput(0, rays, target, torch.ones_like(target), rendering, None)


def test_true_depth_shows_the_same_color_in_another_photograph(scene: ImageDataset):
    loss = Reprojection()
    loss.prepare(scene, WHITE, torch.device("cpu"))
    true, wrong = loss(at_depth(scene, 1.0)), loss(at_depth(scene, 0.9))
    assert float(true.detach()) < 0.6 * float(wrong.detach())
    made = at_depth(scene, 0.98)
    loss(made).backward()
    assert made.rendering.depth.grad.abs().max() > 0


def test_a_ray_is_not_compared_with_its_own_photograph(scene: ImageDataset):
    alone = scene.subset([0, 1])
    loss = Reprojection()
    loss.prepare(alone, WHITE, torch.device("cpu"))
    assert float(loss(at_depth(scene, 1.1))) > 0


def test_reprojection_needs_other_photographs(scene: ImageDataset):
    with pytest.raises(UserError, match="n_best is 1, but there are only 0 other photographs"):
        Reprojection().prepare(scene.subset([0]), WHITE, torch.device("cpu"))


def test_a_best_photograph_is_needed():
    with pytest.raises(UserError, match="n_best must be at least 1"):
        Reprojection(n_best=0)
