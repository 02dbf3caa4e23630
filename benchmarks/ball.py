"""A scene that needs no training: a ball of occupied cells, and rays towards it from all around."""

import torch
from torch.nn import functional as F

from dietnerf.fields import HashGrid
from dietnerf.geometry.rays import Rays
from dietnerf.sampling import Occupancy
from dietnerf.sampling.occupancy import pack_bits

HALF_SIDE = 1.5  # of the box, scene units
RADIUS = 0.55  # of the ball
SPREAD = 1.2  # radius of the ball that rays are aimed into: most of them miss


def hash_grid(n_levels: int = 8, log2_table_size: int = 15, **sizes: int) -> HashGrid:
    """The field of configs/fast.yaml, so thin that no sample hides another."""
    fast = {"finest_resolution": 256, "sh_degree": 2}
    field = HashGrid(n_levels, 4, log2_table_size, **{**fast, **sizes})
    field.box.copy_(torch.tensor([[-HALF_SIDE] * 3, [HALF_SIDE] * 3]))
    return field


def occupancy(n_steps: int = 384) -> Occupancy:
    """The sampler of configs/fast.yaml, whose grid knows the ball."""
    sampler = Occupancy(n_steps=n_steps)
    sampler.bounds.copy_(torch.tensor([[-HALF_SIDE] * 3, [HALF_SIDE] * 3]))
    places = ((torch.arange(sampler.resolution) + 0.5) / sampler.resolution * 2 - 1) * HALF_SIDE
    squares = places.square()
    distances = (squares[:, None, None] + squares[:, None] + squares).sqrt()
    sampler.occupied.copy_(pack_bits((distances < RADIUS).flatten()[None]))
    return sampler


def inward_rays(n_rays: int) -> Rays:
    """From a sphere of radius 4, as the cameras of NeRF-synthetic, in no order."""
    draw = torch.Generator().manual_seed(0)
    rays_o = 4 * F.normalize(torch.randn(n_rays, 3, generator=draw), dim=-1)
    inside = F.normalize(torch.randn(n_rays, 3, generator=draw), dim=-1)
    inside *= SPREAD * torch.rand(n_rays, 1, generator=draw) ** (1 / 3)
    rays_d = F.normalize(inside - rays_o, dim=-1)
    return Rays(rays_o, rays_d, torch.full((n_rays,), 2.0), torch.full((n_rays,), 6.0))
