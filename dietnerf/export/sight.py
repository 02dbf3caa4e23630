"""Visibility: which points of a field the training cameras see."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Rendering
from dietnerf.geometry.unseen import coarse, sees_same_face, spread_out
from dietnerf.scene_model import SceneModel
from dietnerf.visualize import surface_depth

LARGEST = 400  # pixels along the longer side of the depth maps
OPAQUE = 0.5  # smallest opacity of a pixel that shows a surface
SEEN = 1e-3  # sum of weights above which a point is seen by some camera
FAR_OFF = 1e9  # depth where there is none, scene units
N_CAMERAS, N_FRAMES, N_PIXELS = (
    64,
    8,
    48,
)  # of the estimate: takes a few seconds
SLACK = 0.1  # relative difference in depth within which two coarse depth maps show the same surface


@dataclass(frozen=True)
class Sight:
    """Coarse renderings of a field by a few cameras.

    Args:
        cameras: the cameras, (n).
        depths: along the camera axis, scene units, (n, height, width); `FAR_OFF` where there is no
            surface.
        rgbs: colors, black where there is no surface, (n, 3, height, width).
    """

    cameras: Cameras
    depths: Tensor
    rgbs: Tensor

    @classmethod
    def of(cls, scene: SceneModel, cameras: Cameras, n_pixels: int = LARGEST) -> Self:
        """Rendered, with at most `n_pixels` along the longer side."""
        small, black = coarse(cameras, n_pixels), torch.zeros(3)
        return cls.in_images(
            small, (scene.render_rays_of(small, i, black) for i in range(len(small)))
        )

    @classmethod
    def in_images(cls, cameras: Cameras, images: Iterable[Rendering]) -> Self:
        """What whole images over black show, one of each camera."""
        width, height = cameras.width, cameras.height
        depths, rgbs = [], []
        for seen in images:
            is_surface = seen.opacity > OPAQUE
            rgb = seen.rgb / seen.opacity.clamp(min=OPAQUE)[:, None] * is_surface[:, None]
            depths.append(surface_depth(seen).where(is_surface, FAR_OFF).view(height, width).cpu())
            rgbs.append(rgb.T.view(3, height, width).cpu())
        return cls(cameras, torch.stack(depths), torch.stack(rgbs))

    def surface_points(self) -> list[Tensor]:
        """What the pixels of each camera show, (n_points, 3), scene units."""
        points = []
        for i, depths in enumerate(self.depths):
            pixels = (depths.flatten() < FAR_OFF).nonzero().squeeze(-1)
            rays = self.cameras.image_rays(i, pixels)
            points.append(rays.rays_o + depths.flatten()[pixels, None] * rays.rays_d)
        return points

    def clearance(self, points: Tensor) -> Tensor:
        """How far behind points (n_points, 3) each camera shows a surface, along its axis, scene
        units: negative where that hides them, -inf beside the image, (n, n_points)."""
        places, is_shown = self.cameras.project(points)
        backward = self.cameras.c2w[:, None, :, 2]
        distances = -((points - self.cameras.positions[:, None]) * backward).sum(dim=-1)
        ends = _looked_up(self.depths[:, None], places, "nearest")[:, 0]
        return (ends - distances).where(is_shown, -torch.inf)

    def reaches(self, points: Tensor, behind: float | Tensor) -> Tensor:
        """Whether each camera sees points (n_points, 3), or would if they were moved forward by at
        most `behind`, a number or (n_points,); bool, (n, n_points)."""
        return self.clearance(points) >= -behind

    def colors(self, points: Tensor, normals: Tensor, behind: float) -> tuple[Tensor, Tensor]:
        """Mean color that the cameras see at points with outward unit normals, both (n, 3);
        weighted by how much the surface faces a camera.

        Returns:
            Colors in [0, 1], (n, 3), and whether any camera sees the point, (n,).
        """
        total, sums = self.color_sums(points, normals, behind)
        return total / sums.clamp(min=SEEN)[:, None], sums > SEEN

    def color_sums(self, points: Tensor, normals: Tensor, behind: float) -> tuple[Tensor, Tensor]:
        """Weighted sum of the colors, (n, 3), and that of the weights, (n,)."""
        places, _ = self.cameras.project(points)
        views = F.normalize(points - self.cameras.positions[:, None], dim=-1)
        facing = -(views * normals).sum(dim=-1)  # (n_cameras, n)
        is_surface = (self.depths < FAR_OFF).float()[:, None]
        weights = facing.clamp(min=0) ** 2 * self.reaches(points, behind)
        # Both are zero beside a surface, so that the background does not bleed in.
        total = (weights[:, None] * _looked_up(self.rgbs, places, "bilinear")).sum(dim=0)
        sums = (weights * _looked_up(is_surface, places, "bilinear")[:, 0]).sum(dim=0)
        return total.T, sums


@dataclass(frozen=True)
class Unseen:
    """Measures how much of a film no training camera saw.

    Args:
        scene: as `load_scene` gives it.
        train: the training cameras.
    """

    scene: SceneModel
    train: Cameras

    @cached_property
    def seen(self) -> Sight:
        """The renderings of the training cameras, made when first needed."""
        return Sight.of(self.scene, self.train[spread_out(len(self.train), N_CAMERAS)], N_PIXELS)

    def share(self, frames: Cameras) -> float:
        """Share of the pixels of frames (n_frames) that show surfaces which no camera saw.

        A camera saw a surface that is in its image, not occluded, and whose direction is within 60
        degrees of that of the frame. Pixels without a surface do not count as unseen.
        """
        film = Sight.of(self.scene, frames[spread_out(len(frames), N_FRAMES)], N_PIXELS)
        n_unseen = 0
        for points, eye in zip(film.surface_points(), film.cameras.positions, strict=True):
            slack = SLACK * (points - eye).norm(dim=-1)
            shows = self.seen.reaches(points, slack)
            is_seen = shows & sees_same_face(self.seen.cameras, points, eye)
            n_unseen += int((~is_seen.any(dim=0)).sum())
        return n_unseen / film.depths.numel()


def _looked_up(maps: Tensor, places: Tensor, mode: str) -> Tensor:
    """Values of maps (n, c, height, width) at places (n, n_points, 2), (n, c, n_points)."""
    return F.grid_sample(maps, places[:, None], mode=mode, align_corners=False)[:, :, 0]
