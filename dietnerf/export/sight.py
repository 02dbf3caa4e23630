"""What the training cameras see of a field: how far, and which points."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.geometry.cameras import Cameras
from dietnerf.pictures import surface_depth
from dietnerf.training.system import DietNeRF

LARGEST = 200  # pixels along the longer side of the depth maps
OPAQUE = 0.5  # from which opacity on a pixel shows a surface
SEEN = 1e-6  # sum of cosines above which a point is seen by some camera
FAR_OFF = 1e9  # depth where there is none, scene units


@dataclass(frozen=True)
class Sight:
    """Depth maps of a few cameras.

    Args:
        cameras: the cameras, (n).
        depths: along the camera axis, scene units, (n, height, width).
    """

    cameras: Cameras
    depths: Tensor

    @classmethod
    def of(cls, system: DietNeRF, cameras: Cameras) -> Self:
        """Rendered, at 200 pixels at most along the longer side."""
        shrink = max(1.0, max(cameras.width, cameras.height) / LARGEST)
        size = [max(1, round(side / shrink)) for side in (cameras.width, cameras.height)]
        small = cameras.resized(*size)
        maps = []
        for i in range(len(small)):
            rendering = system.render(small, i, torch.zeros(3))
            depth = surface_depth(rendering).where(rendering.opacity > OPAQUE, FAR_OFF)
            maps.append(depth.view(small.height, small.width).cpu())
        return cls(small, torch.stack(maps))

    def reaches(self, points: Tensor, behind: float) -> Tensor:
        """Whether each camera sees points (n_points, 3), or would if they were no farther `behind`
        a surface, bool, (n, n_points)."""
        places, is_shown = self.cameras.project(points)
        backward = self.cameras.c2w[:, None, :, 2]
        distances = -((points - self.cameras.positions[:, None]) * backward).sum(dim=-1)
        ends = F.grid_sample(
            self.depths[:, None], places[:, None], mode="nearest", align_corners=False
        )[:, 0, 0]
        return is_shown & (distances <= ends + behind)

    def directions(self, points: Tensor, normals: Tensor, behind: float) -> Tensor:
        """Mean direction in which the cameras see points with outward unit normals, both (n, 3),
        and against the normal where none does; unit vectors, (n, 3)."""
        views = F.normalize(points - self.cameras.positions[:, None], dim=-1)  # (n, n_points, 3)
        facing = -(views * normals).sum(dim=-1)
        counts = facing.clamp(min=0) * self.reaches(points, behind)
        mean = (counts[..., None] * views).sum(dim=0)
        is_seen = mean.norm(dim=-1, keepdim=True) > SEEN
        return F.normalize(torch.where(is_seen, mean, -normals), dim=-1)
