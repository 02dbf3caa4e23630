"""Pictures of solids, one ray at a time: sunlight with shadows and highlights, light of sky and
ground, and averages where pixels differ from their neighbors."""

from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, normalize

from dietnerf.data.procedural.solids import Solid, dot, first_hit
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Rays

SUN = (0.48, -0.52, 0.71)
SUN_COLOR, SKY_COLOR, EARTH_COLOR = (1.05, 0.98, 0.86), (0.36, 0.42, 0.52), (0.20, 0.17, 0.13)
GRID = 3  # rays along each side of a pixel that is averaged, odd
BUSY = 0.04  # difference between neighbors above which a pixel is averaged
SHADOW_LIFT = 2e-3  # shadow rays start that far above a surface, scene units
RAYS_AT_ONCE = 1 << 17


def photograph(cameras: Cameras, groups: list[list[Solid]]) -> tuple[Tensor, Tensor]:
    """Pictures with straight alpha, uint8 (n, h, w, 4), and depths at pixel centers, (n, h, w).

    Pixels that differ from a neighbor are the average over `GRID`^2 rays, the others show the
    middle one.
    """
    shape = (len(cameras), cameras.height, cameras.width)
    rgba, depth = trace(Rays.cat([cameras.image_rays(i) for i in range(shape[0])]), groups)
    pictures = _premultiply(rgba).reshape(*shape, 4)
    ids, rows, columns = _is_busy(pictures).nonzero().unbind(-1)
    others = [k for k in range(GRID**2) if k != GRID**2 // 2]
    rays = Rays.cat([_shifted(cameras, k).rays(ids, columns, rows) for k in others])
    total = _premultiply(trace(rays, groups)[0]).reshape(len(others), len(ids), 4).sum(dim=0)
    pictures[ids, rows, columns] = (pictures[ids, rows, columns] + total) / GRID**2
    alpha = pictures[..., 3:]
    rgb = pictures[..., :3] / alpha.clamp(min=GRID**-2)  # alpha is 0 or at least that
    images = (torch.cat([rgb, alpha], dim=-1) * 255).round().to(torch.uint8)
    return images, depth.reshape(shape)


def _premultiply(rgba: Tensor) -> Tensor:
    return torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], dim=-1)


def _shifted(cameras: Cameras, k: int) -> Cameras:
    """Cameras whose rays go through the middle of cell k of each pixel's grid."""
    offset = (torch.tensor([k % GRID, k // GRID]) + 0.5) / GRID - 0.5
    return replace(cameras, center=cameras.center - offset)


def _is_busy(pictures: Tensor) -> Tensor:
    """Where a channel varies among a pixel and its eight neighbors, (n, h, w, 4) to (n, h, w)."""
    channels = pictures.movedim(-1, 1)
    largest, largest_negative = (
        max_pool2d(x, 3, stride=1, padding=1) for x in (channels, -channels)
    )
    return (largest + largest_negative).amax(dim=1) > BUSY


def trace(rays: Rays, groups: list[list[Solid]]) -> tuple[Tensor, Tensor]:
    """What rays see of solids, those that stand together in one list: the ground truth.

    Returns:
        sRGB colors with alpha 0 or 1, (n_rays, 4) in [0, 1], and distances in units of `rays_d`, 0
        where nothing is hit between near and far, (n_rays,).
    """
    parts = [_shade(groups, part) for part in rays.split(RAYS_AT_ONCE)]
    rgba = torch.cat([torch.zeros(0, 4), *(part[0] for part in parts)])
    return rgba, torch.cat([torch.zeros(0), *(part[1] for part in parts)])


def _shade(groups: list[list[Solid]], rays: Rays) -> tuple[Tensor, Tensor]:
    t, which = first_hit(groups, rays.rays_o, rays.rays_d)
    is_seen = (t >= rays.near) & (t <= rays.far)
    seen = is_seen.nonzero().squeeze(-1)
    points = rays.rays_o[seen] + t[seen, None] * rays.rays_d[seen]
    rgba = torch.zeros(len(rays), 4)
    rgba[seen, :3] = _colors(groups, points, rays.viewdirs[seen], which[seen])
    rgba[seen, 3] = 1.0
    return rgba, torch.where(is_seen, t, 0.0)


def _colors(groups: list[list[Solid]], points: Tensor, viewdirs: Tensor, which: Tensor) -> Tensor:
    """sRGB of surface points: sunlight with shadows and highlights, light of sky and ground."""
    albedo, normals = torch.zeros_like(points), torch.zeros_like(points)
    gloss = torch.zeros(len(points))
    for number, solid in enumerate(chain(*groups)):
        own = (which == number).nonzero().squeeze(-1)
        albedo[own], normals[own] = solid.look(points[own])
        gloss[own] = solid.gloss
    sun = _unit(torch.tensor(SUN))
    sunlight = _sunlight(groups, points, normals, sun)
    upward = 0.5 + 0.5 * normals[:, 2:]
    light = sunlight[:, None] * torch.tensor(SUN_COLOR)
    light = light + upward * torch.tensor(SKY_COLOR) + (1 - upward) * torch.tensor(EARTH_COLOR)
    halfway = dot(normals, _unit(sun - viewdirs)).clamp(min=0)
    shine = (sunlight > 0) * gloss * halfway**40
    return (albedo * light + shine[:, None]).clamp(0, 1) ** (1 / 2.2)


def _sunlight(groups: list[list[Solid]], points: Tensor, normals: Tensor, sun: Tensor) -> Tensor:
    """Cosine between the normal and the sun's direction, 0 in its shadow, (n,)."""
    facing = dot(normals, sun).clamp(min=0)
    lit = (facing > 0).nonzero().squeeze(-1)
    start = points[lit] + SHADOW_LIFT * normals[lit]
    blocked, _ = first_hit(groups, start, sun.expand(len(lit), 3))
    facing[lit] *= blocked.isinf()
    return facing


def _unit(vectors: Tensor) -> Tensor:
    return normalize(vectors, dim=-1)
