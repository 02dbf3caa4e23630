"""Reader without files: pictures of an analytic scene, traced when asked for, with exact depth."""

import math
from dataclasses import replace
from itertools import chain
from typing import Literal, final

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, normalize

from dietnerf.data.blocks import blocks_scene
from dietnerf.data.dataset import SPLITS, ImageDataset, Split
from dietnerf.data.mosaic import mosaic_scene
from dietnerf.data.reader import AbstractReader, DatasetIndex
from dietnerf.data.solids import Solid, dot, first_hit
from dietnerf.data.stills import chrome_scene, clay_scene, porcelain_scene, wires_scene
from dietnerf.data.toy import SUN, toy_scene
from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.poses import look_at
from dietnerf.geometry.rays import Rays

CAMERA_ANGLE_X = 0.6911112  # of the NeRF-synthetic scenes, radians
DISTANCE, NEAR, FAR = 4.0, 2.0, 6.0  # of the cameras, and what they see, scene units
SUN_COLOR, SKY_COLOR, EARTH_COLOR = (1.05, 0.98, 0.86), (0.36, 0.42, 0.52), (0.20, 0.17, 0.13)
GRID = 3  # rays along each side of a pixel that is averaged, odd
BUSY = 0.04  # difference between neighbors above which a pixel is averaged
SHADOW_LIFT = 2e-3  # shadow rays start that far above a surface, scene units
RAYS_AT_ONCE = 1 << 17
LARGEST_SIDE, MOST_VIEWS = 2048, 10_000  # pixels; of a split
SCENES = {
    "coast": toy_scene,
    "blocks": blocks_scene,
    "wires": wires_scene,
    "chrome": chrome_scene,
    "clay": clay_scene,
    "porcelain": porcelain_scene,
    "mosaic": mosaic_scene,
}


@final
class Procedural(AbstractReader):
    """A toy scene, seen from the upper hemisphere as NeRF-synthetic is.

    Training and validation cameras follow a low-discrepancy sequence, so the first few are spread
    as well as many are, and view i stays the same however many are asked for. Test cameras go round
    once, up and down.

    Args:
        resolution: width and height of the images in pixels.
        n_train, n_val, n_test: number of views in each split.
        scene: `coast` with a lighthouse, house and garden; a castle of plain `blocks`; a Ferris
            wheel of thin `wires`; polished `chrome`; `clay` of one color; white `porcelain`; or a
            `mosaic` whose pattern can be matched from view to view.
        seed: places the training and validation cameras.
    """

    def __init__(
        self,
        resolution: int = 100,
        n_train: int = 8,
        n_val: int = 8,
        n_test: int = 16,
        scene: Literal[
            "coast", "blocks", "wires", "chrome", "clay", "porcelain", "mosaic"
        ] = "coast",
        seed: int = 0,
    ) -> None:
        sizes = {"resolution": resolution, "n_train": n_train, "n_val": n_val, "n_test": n_test}
        for name, size in sizes.items():
            most = LARGEST_SIDE if name == "resolution" else MOST_VIEWS
            if not 1 <= size <= most:
                raise UserError(f"{name} must be 1 to {most}, got {size}")
        self.resolution = resolution
        self.solids = SCENES[scene]()
        self.n_views: dict[Split, int] = {"train": n_train, "val": n_val, "test": n_test}
        self.seed = seed

    def listing(self, split: Split) -> DatasetIndex:
        """The views of one split; their pictures have alpha, and depth along the axis at pixel
        centers."""
        cameras = self.cameras(split)
        ids = torch.arange(len(cameras))
        names = tuple(f"{split}_{i}" for i in range(len(cameras)))

        def load(keep: list[int]) -> ImageDataset:
            at_once = max(1, RAYS_AT_ONCE // self.resolution**2)
            groups = [keep[i : i + at_once] for i in range(0, len(keep), at_once)]
            parts = [photograph(cameras[group], self.solids) for group in groups]
            images, depths = (torch.cat(part) for part in zip(*parts, strict=True))
            return ImageDataset(
                images, cameras[keep], ids[keep], tuple(names[i] for i in keep), depths
            )

        return DatasetIndex(cameras, ids, names, 8 * self.resolution**2, load)

    def cameras(self, split: Split) -> Cameras:
        """The cameras of one split, without its pictures."""
        n, size = self.n_views[split], self.resolution
        poses = orbit_poses(n) if split == "test" else self._spread_poses(split)
        return Cameras(
            c2w=poses,
            focal=torch.full((n, 2), 0.5 * size / math.tan(0.5 * CAMERA_ANGLE_X)),
            center=torch.full((n, 2), size / 2),
            near=torch.full((n,), NEAR),
            far=torch.full((n,), FAR),
            width=size,
            height=size,
        )

    def _spread_poses(self, split: Split) -> Tensor:
        """Uniform in area between 8 and 75 degrees of elevation (n, 3, 4)."""
        seed = self.seed * len(SPLITS) + SPLITS.index(split)
        start = torch.rand(2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        # With g^3 = g + 1, the multiples of 1/g and 1/g^2 fill a square evenly.
        steps = torch.tensor([0.7548776662466927, 0.5698402909980532], dtype=torch.float64)
        i = torch.arange(self.n_views[split], dtype=torch.float64)[:, None]
        u, v = ((start + i * steps) % 1).unbind(-1)
        low, high = math.sin(math.radians(8)), math.sin(math.radians(75))
        return _poses(2 * math.pi * v, torch.asin(low + (high - low) * u))


def orbit_poses(n: int) -> Tensor:
    """Once round the scene, from 10 degrees of elevation up to 60 and back, (n, 3, 4)."""
    turn = torch.arange(n, dtype=torch.float64) / n * 2 * math.pi
    return _poses(turn - math.pi / 2, torch.deg2rad(35 - 25 * torch.cos(turn)))


def _poses(azimuths: Tensor, elevations: Tensor) -> Tensor:
    """Cameras at `DISTANCE` that look at the origin, z up; angles in radians; (n, 3, 4) float32."""
    level = elevations.cos()
    outward = [level * azimuths.cos(), level * azimuths.sin(), elevations.sin()]
    origin, up = torch.zeros(2, 3, dtype=torch.float64)
    up[2] = 1.0
    return look_at(DISTANCE * torch.stack(outward, dim=-1), origin, up).float()


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
