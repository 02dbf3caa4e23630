"""Losses of training rays: closed forms, and which rays count."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dietnerf.data import ImageDataset, Procedural
from dietnerf.errors import UserError
from dietnerf.geometry.rays import Rays, Rendering, Samples
from dietnerf.losses import (
    Distortion,
    EmptyBackground,
    Occlusion,
    OpacityEntropy,
    RayEntropy,
    RayLossInput,
    Reprojection,
    Silhouette,
)

WHITE = torch.ones(3)


def step(weights: list[list[float]], target: Tensor | None = None) -> RayLossInput:
    """Rays from near 2 to far 6 with weights in four even intervals."""
    n = len(weights)
    rays = Rays(
        torch.zeros(n, 3),
        torch.eye(3)[:1].expand(n, 3),
        torch.full((n,), 2.0),
        torch.full((n,), 6.0),
    )
    samples = Samples.dense(rays, torch.tensor([2.5, 3.5, 4.5, 5.5]).expand(n, 4))
    w = torch.tensor(weights, requires_grad=True)
    depth = (w * samples.ts.view(n, 4)).sum(dim=1)
    rendering = Rendering(torch.zeros(n, 3), w.sum(dim=1), depth, w.flatten(), samples)
    target = torch.zeros(n, 3) if target is None else target
    return RayLossInput(0, rays, target, torch.ones(n, 3), rendering, None)


def test_distortion_is_a_share_of_the_way():
    two_surfaces = Distortion()(step([[0.5, 0.0, 0.0, 0.5]]))
    # Between: 2 * 0.5 * 0.5 * 3 of 4; within: (1 + 0.5) / 3 * 0.25 of 4, the last interval is 0.5.
    torch.testing.assert_close(two_surfaces, torch.tensor((1.5 + 0.125) / 4))
    assert Distortion()(step([[0.0, 1.0, 0.0, 0.0]])) < 0.1 < two_surfaces


def test_entropy_of_even_weights_is_the_logarithm_of_their_number():
    made = step([[0.25] * 4, [0.0, 0.9, 0.0, 0.0], [0.01] * 4])
    loss = RayEntropy()(made)  # the second has none, the third sees the background
    torch.testing.assert_close(loss, torch.tensor(math.log(4) / 3))
    loss.backward()
    assert RayEntropy(min_opacity=0.0)(made) > loss


def test_opacity_is_pushed_to_nothing_or_all():
    clear, half, solid = (OpacityEntropy()(step([[w, 0.0, 0.0, 0.0]])) for w in (0.0, 0.5, 1.0))
    torch.testing.assert_close(half, torch.tensor(math.log(2)))
    assert clear < 1e-3 and solid < 1e-3


def test_occlusion_counts_what_is_near_the_camera():
    near, far = [0.5, 0.0, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]
    torch.testing.assert_close(Occlusion(share=0.2)(step([near, far])), torch.tensor(0.25))
    assert Occlusion(share=0.1)(step([near, far])) == 0


def prepared_for(kind: str) -> EmptyBackground:
    loss = EmptyBackground(0.1)
    photographs = Procedural(resolution=64, n_train=4, scene=kind).read("train")
    loss.prepare(photographs, WHITE, torch.device("cpu"))
    return loss


def test_a_white_thing_before_white_is_not_taken_for_holes():
    with pytest.warns(match="EmptyBackground does not count: .*% of what .* shows is almost"):
        loss = prepared_for("porcelain")
    assert loss.weight_at(5, 10) == 0
    assert prepared_for("clay").weight_at(5, 10) == 0.1


def test_only_rays_that_show_the_background_must_be_empty():
    target = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.99, 1.0], [0.0, 0.0, 0.0]])
    loss = EmptyBackground()
    made = step([[0.5, 0.0, 0.0, 0.0]] * 3, target)
    torch.testing.assert_close(loss(made), torch.tensor(0.25 / 3))


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


def test_the_silhouette_is_where_photographs_are_opaque(scene: ImageDataset):
    made = step([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.25, 0.0]])
    as_photographed, inverse = (
        Silhouette()(replace(made, alpha=torch.tensor(alpha)))
        for alpha in ([1.0, 0.25], [0.0, 0.75])
    )
    assert float(as_photographed) == 0
    torch.testing.assert_close(inverse, torch.tensor((1 + 0.25) / 2))
    both = replace(made, coarse=made.rendering, alpha=torch.tensor([0.0, 0.75]))
    torch.testing.assert_close(Silhouette()(both), 2 * inverse)


def test_a_silhouette_needs_alpha(scene: ImageDataset):
    without = replace(scene, images=scene.images[..., :3])
    with pytest.raises(UserError, match="the loss Silhouette needs images with an alpha channel"):
        Silhouette().prepare(without, WHITE, torch.device("cpu"))


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


def test_a_ramp_grows_from_nothing_and_stays():
    loss = Distortion(0.1, start=10, ramp=4)
    weights = [loss.weight_at(i, 100) for i in (9, 10, 12, 14, 50)]
    assert weights == pytest.approx([0, 0.02, 0.06, 0.1, 0.1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Distortion(ramp=-1), "Distortion: ramp must be at least 0 steps, got -1"),
        (lambda: Occlusion(share=7), "Occlusion: share must be in"),
        (lambda: Reprojection(n_best=0), "n_best must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused(make, message: str):
    with pytest.raises(UserError, match=message):
        make()
