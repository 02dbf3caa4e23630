"""Photographs of a slanted plane with a pattern, from cameras in a row."""

import torch
from torch import Tensor

from dietnerf.fields import AbstractField
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Samples

NORMAL = torch.tensor([0.2, -0.1, 1.0])  # of a slanted plane through (0, 0, -4)


def cameras_in_a_row(n: int = 3, width: int = 64, height: int = 48) -> Cameras:
    """They look along -z, 0.4 units apart."""
    c2w = torch.eye(4)[:3].repeat(n, 1, 1)
    c2w[:, 0, 3] = 0.4 * (torch.arange(n) - (n - 1) / 2)
    pixels = torch.tensor([width / 2, height / 2]).expand(n, 2)
    focal, ones = torch.full((n, 2), 60.0), torch.ones(n)
    return Cameras(c2w, focal, pixels, 2 * ones, 8 * ones, width, height)


def plane_depth(cameras: Cameras, index: int) -> Tensor:
    """Along the axis, (height, width)."""
    rays = cameras.image_rays(index)
    offset = (torch.tensor([0.0, 0.0, -4.0]) - rays.rays_o) @ NORMAL
    return (offset / (rays.rays_d @ NORMAL)).view(cameras.height, cameras.width)


def photos_of_plane(cameras: Cameras, pattern: float = 1.0) -> Tensor:
    """A pattern of waves on it, whose phases are known nowhere else, (n, height, width, 3)."""
    photos = []
    for i in range(len(cameras)):
        rays, depth = cameras.image_rays(i), plane_depth(cameras, i)
        x, y, _ = (rays.rays_o + rays.rays_d * depth.view(-1, 1)).unbind(-1)
        waves = (9 * x + 2 * y).sin() + (5 * y - 3 * x).sin() + (13 * x * y).cos()
        photos.append((0.5 + pattern * waves / 6).view(cameras.height, cameras.width))
    return torch.stack(photos)[..., None].expand(-1, -1, -1, 3)


class BehindPlane(AbstractField):
    """Opaque gray behind the plane, which is moved along its normal by an offset."""

    def __init__(self, offset: float = 0.0) -> None:
        super().__init__()
        self.offset = torch.nn.Parameter(torch.tensor(offset))

    def density(self, samples: Samples) -> tuple[Tensor, Tensor]:
        behind = self.offset - (samples.positions + torch.tensor([0.0, 0.0, 4.0])) @ NORMAL
        return 20 * (20 * behind).sigmoid(), samples.positions

    def color(self, features: Tensor, samples: Samples) -> Tensor:
        return torch.full_like(features, 0.5)
