"""Losses of the scene itself: what is smooth costs nothing, and what is not has a gradient."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dietnerf.data import ImageDataset, Procedural
from dietnerf.errors import UserError
from dietnerf.fields import AbstractField, HashGrid
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Rays, Samples
from dietnerf.losses import (
    DensitySmoothness,
    Depth,
    SceneContext,
)
from dietnerf.research import DepthSmoothness, NeighborDivergence
from dietnerf.sampling import Occupancy, Stratified
from tests.helpers import Ball

CPU, WHITE = torch.device("cpu"), torch.ones(3)
LOSSES = [DepthSmoothness, DensitySmoothness, NeighborDivergence]


@pytest.fixture(scope="module")
def scene() -> ImageDataset:
    return Procedural(resolution=32, n_train=4).read("train")


class Fog(AbstractField):
    """The same density everywhere, times one parameter, or one that changes from point to point."""

    def __init__(self, is_speckled: bool) -> None:
        super().__init__()
        self.is_speckled = is_speckled
        self.amount = torch.nn.Parameter(torch.tensor(2.0))

    def density(self, samples: Samples) -> tuple[Tensor, Tensor]:
        speckles = 1 + (300 * samples.positions).sin().prod(dim=1)
        sigmas = speckles if self.is_speckled else torch.ones_like(speckles)
        return self.amount * sigmas, samples.positions

    def color(self, features: Tensor, samples: Samples) -> Tensor:
        return torch.full_like(features, 0.5)


def value(loss, scene: ImageDataset, field: AbstractField, sampler=None) -> Tensor:
    loss.prepare(scene, WHITE, CPU)
    generator = torch.Generator().manual_seed(3)
    return loss(SceneContext(0, field, sampler or Stratified(48), WHITE, generator))


@pytest.mark.parametrize("kind", LOSSES)
def test_smooth_is_better_than_speckled(kind, scene: ImageDataset):
    smooth = value(kind(weight=1.0), scene, Fog(False))
    field = Fog(True)
    speckled = value(kind(weight=1.0), scene, field)
    assert float(smooth) < 0.1 * float(speckled)
    (gradient,) = torch.autograd.grad(speckled, field.amount)
    assert gradient.isfinite() and gradient != 0


@pytest.mark.parametrize("kind", LOSSES)
def test_an_empty_scene_costs_nothing(kind, scene: ImageDataset):
    empty = Ball(radius=0.0)
    assert float(value(kind(weight=1.0), scene, empty)) == 0


@pytest.mark.parametrize("kind", LOSSES)
def test_the_same_generator_gives_the_same_value(kind, scene: ImageDataset):
    values = [value(kind(), scene, Fog(True)) for _ in range(2)]
    assert torch.equal(*values)


def test_an_outline_costs_no_depth(scene: ImageDataset):
    """A ball before nothing is curved, but its edge is no step from near to far."""
    whole = value(DepthSmoothness(n_patches=64), scene, Ball(sigma=500.0), Stratified(512))
    assert float(whole) < 2e-3


def test_no_sample_is_no_reason_to_stop(scene: ImageDataset):
    field = HashGrid(n_levels=2, log2_table_size=8, finest_resolution=32, width=16)
    field.prepare(scene.cameras)
    sampler = Occupancy(resolution=8)
    sampler.prepare(scene.cameras, field)
    sampler.occupied.zero_()
    assert float(value(DensitySmoothness(), scene, field, sampler)) == 0
    assert float(value(DepthSmoothness(), scene, field, sampler)) == 0
    assert float(value(NeighborDivergence(), scene, field, sampler)) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DepthSmoothness(patch=1), "patch 1"),
        (lambda: DensitySmoothness(offset=0.0), "offset 0.0"),
        (lambda: NeighborDivergence(n_rays=0), "n_rays must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_is_refused(make, message: str):
    with pytest.raises(UserError, match=message):
        make()


def test_known_depth_is_fulfilled_by_the_scene_that_it_was_measured_in():
    """A ball of radius 1, and depth maps of balls of other sizes."""
    cameras = Procedural(resolution=32, n_train=4).cameras("train")
    losses = []
    for radius in (1.0, 0.8):
        everything = [cameras.image_rays(i) for i in range(4)]
        depths = torch.stack([_ball_depth(rays, radius).view(32, 32) for rays in everything])
        masked = replace(scene_of(cameras), depths=depths)
        losses.append(value(Depth(weight=1.0), masked, Ball(1.0, 200.0), Stratified(192)))
    assert float(losses[0]) < 0.01 < 0.03 < float(losses[1])


def test_light_that_passes_a_known_surface_costs():
    cameras = Procedural(resolution=32, n_train=4).cameras("train")
    depths = torch.full((4, 32, 32), 4.0)
    field = Fog(False)
    loss = value(Depth(weight=1.0), replace(scene_of(cameras), depths=depths), field)
    (gradient,) = torch.autograd.grad(loss, field.amount)
    assert gradient.isfinite() and gradient != 0
    thin = Ball(0.5, 0.0)
    empty = value(Depth(weight=1.0), replace(scene_of(cameras), depths=depths), thin)
    assert float(empty) == pytest.approx((6 - 4) / 4 - 0.005, abs=1e-3)


def test_depth_is_compared_only_where_it_is_known_and_counts(scene: ImageDataset):
    depths, masks = torch.zeros(4, 32, 32), torch.ones(4, 32, 32, dtype=torch.bool)
    depths[2, 5, 7], depths[1, 3, 3] = 3.0, 9.0
    masks[1] = False
    loss = Depth()
    loss.prepare(replace(scene, depths=depths, masks=masks), WHITE, CPU)
    assert loss.places.tolist() == [[2, 5, 7]]
    assert loss.depths.tolist() == [3.0]
    for lacking in (replace(scene, depths=None), replace(scene, depths=torch.zeros(4, 32, 32))):
        with pytest.raises(UserError, match="the loss Depth needs depth maps or sparse points"):
            loss.prepare(lacking, WHITE, CPU)
    with pytest.raises(UserError, match="Depth: n_rays must be at least 1, got 0"):
        Depth(n_rays=0)


@pytest.mark.parametrize("masks", [None, torch.ones(4, 32, 32, dtype=torch.bool)])
def test_an_optional_depth_counts_for_nothing_where_none_is_known(masks, scene: ImageDataset):
    loss = Depth(is_optional=True)
    with pytest.warns(UserWarning, match="which the training photos lack: it counts for nothing"):
        loss.prepare(replace(scene, depths=None, masks=masks), WHITE, CPU)
    assert {loss.weight_at(step, 100) for step in range(100)} == {0.0}


def scene_of(cameras: Cameras) -> ImageDataset:
    images = torch.zeros(4, 32, 32, 3, dtype=torch.uint8)
    return ImageDataset(images, cameras, torch.arange(4), ("a", "b", "c", "d"))


def _ball_depth(rays: Rays, radius: float) -> Tensor:
    """Along the camera axis to a ball around the origin, 0 beside it."""
    a = (rays.rays_d**2).sum(dim=1)
    b = (rays.rays_o * rays.rays_d).sum(dim=1)
    inside = b * b - a * ((rays.rays_o**2).sum(dim=1) - radius**2)
    return torch.where(inside > 0.05, (-b - inside.clamp(min=0).sqrt()) / a, 0.0)
