"""Losses of training rays: closed forms, and which rays count."""

from dataclasses import replace

import pytest
import torch

from dietnerf.data import ImageDataset, Procedural
from dietnerf.errors import UserError
from dietnerf.losses import (
    Distortion,
    EmptyBackground,
    Occlusion,
    Silhouette,
)
from tests.helpers import ray_loss_input

WHITE = torch.ones(3)


def test_distortion_is_a_share_of_the_way():
    two_surfaces = Distortion()(ray_loss_input([[0.5, 0.0, 0.0, 0.5]]))
    # Between: 2 * 0.5 * 0.5 * 3 of 4; within: (1 + 0.5) / 3 * 0.25 of 4, the last interval is 0.5.
    torch.testing.assert_close(two_surfaces, torch.tensor((1.5 + 0.125) / 4))
    assert Distortion()(ray_loss_input([[0.0, 1.0, 0.0, 0.0]])) < 0.1 < two_surfaces


def test_occlusion_counts_what_is_near_the_camera():
    near, far = [0.5, 0.0, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]
    torch.testing.assert_close(
        Occlusion(share=0.2)(ray_loss_input([near, far])), torch.tensor(0.25)
    )
    assert Occlusion(share=0.1)(ray_loss_input([near, far])) == 0


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
    made = ray_loss_input([[0.5, 0.0, 0.0, 0.0]] * 3, target)
    torch.testing.assert_close(loss(made), torch.tensor(0.25 / 3))


def test_a_background_that_is_almost_plain_is_tolerated():
    """As of a compressed photograph."""
    made = ray_loss_input([[0.5, 0.0, 0.0, 0.0]], torch.full((1, 3), 0.99))
    assert EmptyBackground()(made) == 0 < EmptyBackground(tolerance=0.02)(made)


@pytest.fixture(scope="module")
def scene() -> ImageDataset:
    return Procedural(resolution=64, n_train=24).read("train")


def test_the_silhouette_is_where_photographs_are_opaque(scene: ImageDataset):
    made = ray_loss_input([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.25, 0.0]])
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


def test_a_ramp_grows_from_nothing_and_stays():
    loss = Distortion(0.1, start=10, ramp=4)
    weights = [loss.weight_at(i, 100) for i in (9, 10, 12, 14, 50)]
    assert weights == pytest.approx([0, 0.02, 0.06, 0.1, 0.1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Distortion(ramp=-1), "Distortion: ramp must be at least 0 steps, got -1"),
        (lambda: Occlusion(share=7), "Occlusion: share must be in"),
    ],
)
def test_what_cannot_be_is_refused(make, message: str):
    with pytest.raises(UserError, match=message):
        make()
