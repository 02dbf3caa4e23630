"""Reader without files: images of analytic scenes, traced as they are read, with exact depth."""

import math
from typing import Literal, final

import torch
from torch import Tensor

from dietnerf.data.dataset import SPLITS, ImageDataset, Split
from dietnerf.data.procedural.blocks import blocks_scene
from dietnerf.data.procedural.coast import coast_scene
from dietnerf.data.procedural.mosaic import mosaic_scene
from dietnerf.data.procedural.stills import (
    chrome_scene,
    clay_scene,
    porcelain_scene,
    wires_scene,
)
from dietnerf.data.procedural.tracing import RAYS_AT_ONCE, photograph
from dietnerf.data.reader import AbstractReader, DatasetIndex
from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.poses import look_at

CAMERA_ANGLE_X = 0.6911112  # of the NeRF-synthetic scenes, radians
DISTANCE, NEAR, FAR = 4.0, 2.0, 6.0  # of the cameras, and what they see, scene units
LARGEST_SIDE, MOST_VIEWS = 2048, 10_000  # pixels; of a split
SCENES = {
    "coast": coast_scene,
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
