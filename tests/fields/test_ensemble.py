"""Ensembles: dealt out in training, averaged in pictures."""

from dataclasses import replace

import pytest
import torch

from dietnerf.data import Procedural
from dietnerf.errors import UserError
from dietnerf.fields import Ensemble, HashGrid
from dietnerf.fields.base import AbstractField
from dietnerf.geometry.rays import Samples
from dietnerf.sampling import Occupancy
from tests.helpers import inward_rays

CAMERAS = Procedural(resolution=20).cameras("train")


def member() -> HashGrid:
    made = HashGrid(n_levels=2, log2_table_size=8, finest_resolution=32, width=16)
    torch.nn.init.uniform_(made.table, -1, 1)
    return made


def ensemble(n: int = 3) -> Ensemble:
    made = Ensemble(member, n)
    made.prepare(CAMERAS)
    return made


def samples(n_rays: int = 7) -> Samples:
    rays = inward_rays(n_rays)
    ts = torch.linspace(2, 6, 12).expand(n_rays, 12)
    whole = Samples.dense(rays, ts)
    kept = torch.arange(len(whole)) % 12 < torch.arange(3, 3 + n_rays).repeat_interleave(12)
    counts = kept.view(n_rays, 12).sum(dim=1)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    return replace(
        whole, ts=whole.ts[kept], deltas=whole.deltas[kept], ray_offsets=offsets, n_per_ray=None
    )  # ragged


def test_members_start_apart():
    made = ensemble(2)
    assert not torch.equal(made.members[0].table, made.members[1].table)
    assert len(made.grid_parameters()) == 2


def test_a_picture_is_the_mean():
    made, where = ensemble().eval(), samples()
    found = made.render(where)
    each = [own.render(where) for own in made.members]
    for name in ("rgb", "opacity", "depth", "weights"):
        mean = torch.stack([getattr(rendering, name) for rendering in each]).mean(dim=0)
        torch.testing.assert_close(getattr(found, name), mean)


def test_in_training_each_ray_goes_to_one_member():
    made, where = ensemble().train(), samples()
    found = made.render(where)
    ends = [0, 2, 4, 7]
    for k, own in enumerate(made.members):
        rays = slice(ends[k], ends[k + 1])
        torch.testing.assert_close(found.rgb[rays], own.render(where).rgb[rays])
    assert len(found.weights) == len(where) and found.samples is where
    found.rgb[2:4].sum().backward()
    touched = [
        own.table.grad is not None and own.table.grad.abs().max() > 0 for own in made.members
    ]
    assert touched == [False, True, False]


@pytest.mark.parametrize("is_training", [True, False])
def test_the_composed_path_asks_the_same_members(is_training: bool):
    made, where = ensemble().train(is_training), samples()
    sigmas, features = made.density(where)
    rgbs = made.color(features, where)
    assert sigmas.shape == (len(where),) and rgbs.shape == (len(where), 3)
    if is_training:
        torch.testing.assert_close(
            AbstractField.render(made, where).rgb, made.render(where).rgb, rtol=1e-4, atol=1e-5
        )


def test_more_members_than_rays_is_fine():
    made = ensemble().train()
    assert made.render(samples(2)).rgb.shape == (2, 3)


def test_a_cell_is_occupied_if_any_member_says_so():
    made, where = ensemble(), samples()
    densities = torch.stack([own.density(where)[0] for own in made.members])
    torch.testing.assert_close(made.occupancy_density(where), densities.amax(dim=0))
    sampler = Occupancy(resolution=8)
    sampler.prepare(CAMERAS, made)
    sampler.update(0, made, torch.Generator().manual_seed(0))


def test_no_member_is_refused():
    with pytest.raises(UserError, match="n must be 1 to 64, got 0"):
        Ensemble(member, 0)
