"""Losses of the scene itself: what is smooth costs nothing, and what is not has a gradient."""

import pytest
import torch
from torch import Tensor

from dietnerf.data import Procedural, Scene
from dietnerf.errors import UserError
from dietnerf.fields import AbstractField, HashGrid
from dietnerf.geometry.rays import Samples
from dietnerf.losses import (
    DensitySmoothness,
    DepthSmoothness,
    Lipschitz,
    Moment,
    NeighbourDivergence,
)
from dietnerf.sampling import Occupancy, Stratified
from tests.helpers import Ball

CPU, WHITE = torch.device("cpu"), torch.ones(3)
LOSSES = [DepthSmoothness, DensitySmoothness, NeighbourDivergence]


@pytest.fixture(scope="module")
def scene() -> Scene:
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

    def colour(self, features: Tensor, samples: Samples) -> Tensor:
        return torch.full_like(features, 0.5)


def value(loss, scene: Scene, field: AbstractField, sampler=None) -> Tensor:
    loss.prepare(scene, WHITE, CPU)
    generator = torch.Generator().manual_seed(3)
    return loss(Moment(0, field, sampler or Stratified(48), WHITE, generator))


@pytest.mark.parametrize("kind", LOSSES)
def test_smooth_is_better_than_speckled(kind, scene: Scene):
    smooth = value(kind(weight=1.0), scene, Fog(False))
    field = Fog(True)
    speckled = value(kind(weight=1.0), scene, field)
    assert float(smooth) < 0.1 * float(speckled)
    (gradient,) = torch.autograd.grad(speckled, field.amount)
    assert gradient.isfinite() and gradient != 0


@pytest.mark.parametrize("kind", LOSSES)
def test_an_empty_scene_costs_nothing(kind, scene: Scene):
    empty = Ball(radius=0.0)
    assert float(value(kind(weight=1.0), scene, empty)) == 0


@pytest.mark.parametrize("kind", LOSSES)
def test_the_same_generator_gives_the_same_value(kind, scene: Scene):
    values = [value(kind(), scene, Fog(True)) for _ in range(2)]
    assert torch.equal(*values)


def test_an_outline_costs_no_depth(scene: Scene):
    """A ball before nothing is curved, but its edge is no step from near to far."""
    whole = value(DepthSmoothness(n_patches=64), scene, Ball(sigma=500.0), Stratified(512))
    assert float(whole) < 2e-3


def test_no_sample_is_no_reason_to_stop(scene: Scene):
    field = HashGrid(n_levels=2, log2_table_size=8, finest_resolution=32, width=16)
    field.prepare(scene.cameras)
    sampler = Occupancy(resolution=8)
    sampler.prepare(scene.cameras, field)
    sampler.occupied.zero_()
    assert float(value(DensitySmoothness(), scene, field, sampler)) == 0
    assert float(value(DepthSmoothness(), scene, field, sampler)) == 0
    assert float(value(NeighbourDivergence(), scene, field, sampler)) == 0


def test_lipschitz_is_the_product_of_the_bounds(scene: Scene):
    field = HashGrid(n_levels=2, log2_table_size=8, width=16, has_bounded_networks=True)
    found = value(Lipschitz(), scene, field)
    products = [
        torch.stack([layer.weight.abs().sum(dim=1).max() for layer in net]).prod()
        for net in (field.density_net, field.colour_net)
    ]
    torch.testing.assert_close(found, sum(products))  # at first the weights are as large as allowed
    found.backward()
    assert all(layer.raw_bound.grad > 0 for layer in field.density_net)


def test_lipschitz_needs_bounded_networks():
    with pytest.raises(UserError, match="has_bounded_networks: true"):
        Lipschitz().check(HashGrid(n_levels=2, log2_table_size=8, width=16))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DepthSmoothness(patch=1), "patch 1"),
        (lambda: DensitySmoothness(way=0.0), "way 0.0"),
        (lambda: NeighbourDivergence(n_rays=0), "n_rays is 0"),
    ],
)
def test_what_cannot_be_is_refused(make, message: str):
    with pytest.raises(UserError, match=message):
        make()
