"""Random viewpoints for views without a photograph."""

import math
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Literal, final

import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.poses import Surroundings, fly, look_at

Range = list[float]


class AbstractViewpoints(ABC):
    """A distribution of cameras. To add one, write one file with one final subclass."""

    def prepare(self, cameras: Cameras) -> None:
        """Called once before training, with the training cameras."""
        self.cameras = cameras
        self.around = Surroundings.of(cameras)

    @abstractmethod
    def poses(self, n: int, generator: torch.Generator) -> Tensor:
        """Random camera-to-world matrices, (n, 3, 4), independent of each other."""

    def draw(self, n: int, generator: torch.Generator) -> Cameras:
        """The first training camera at `n` random poses; near and far follow its distance."""
        return fly(self.cameras, self.poses(n, generator), self.around)


@final
class SphereCap(AbstractViewpoints):
    """Cameras on a part of a sphere, or of a shell, that look at its center.

    Args:
        elevation: lowest and highest angle above the ground, degrees; without it, that of the
            training cameras.
        azimuth: range around the vertical axis, degrees.
        radius: range of the distance from the center, scene units; without it, that of the training
            cameras.
        center: the point that cameras look at, scene units; without it, the focus of the training
            cameras.
        spread: `area` draws evenly over the sphere, `angle` evenly over the angles, as the DietNeRF
            authors do, which favors the pole.
        jitter: standard deviation of that point, as a fraction of the distance.
    """

    def __init__(
        self,
        elevation: Range | None = None,
        azimuth: Range | None = None,
        radius: Range | None = None,
        center: list[float] | None = None,
        spread: Literal["area", "angle"] = "area",
        jitter: float = 0.0,
    ) -> None:
        _check_range("elevation", elevation, -90, 90)
        _check_range("azimuth", azimuth, -math.inf, math.inf)
        _check_range("radius", radius, 0, math.inf)
        if center is not None and len(center) != 3:
            raise UserError(f"SphereCap: center must be three numbers, got {len(center)}")
        if jitter < 0:
            raise UserError(f"SphereCap: jitter must be at least 0, got {jitter}")
        self.elevation = elevation
        self.azimuth = azimuth or [-180.0, 180.0]
        self.radius = radius
        self.center = center
        self.spread = spread
        self.jitter = jitter

    def prepare(self, cameras: Cameras) -> None:
        super().prepare(cameras)
        if self.center is not None:
            self.around = replace(self.around, center=torch.tensor(self.center))
        offsets = cameras.positions - self.around.center
        radii = offsets.norm(dim=-1)
        heights = torch.asin(((offsets @ self.around.up) / radii).clamp(-1, 1)).rad2deg()
        self._elevation = self.elevation or [float(heights.min()), float(heights.max())]
        self._radius = self.radius or [float(radii.min()), float(radii.max())]

    def poses(self, n: int, generator: torch.Generator) -> Tensor:
        def draw(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(n, generator=generator)

        low, high = (math.radians(angle) for angle in self._elevation)
        if self.spread == "area":  # the area of a cap grows with the sine of its elevation
            elevations = torch.asin(draw(math.sin(low), math.sin(high)).clamp(-1, 1))
        else:
            elevations = draw(low, high)
        azimuths = draw(*(math.radians(angle) for angle in self.azimuth))
        radii = draw(*self._radius)
        positions = self.around.positions(azimuths, elevations, radii)
        shifts = self.jitter * radii[:, None] * torch.randn(n, 3, generator=generator)
        return look_at(positions, self.around.center + shifts, self.around.up)


@final
class BetweenCameras(AbstractViewpoints):
    """Cameras between two random training cameras, for scenes that are seen from one side.

    Args:
        reach: how far from the first to the second camera at most; 1 ends at the second one.
    """

    def __init__(self, reach: float = 1.0) -> None:
        if reach < 0:
            raise UserError(f"BetweenCameras: reach must be at least 0, got {reach}")
        self.reach = reach

    def prepare(self, cameras: Cameras) -> None:
        super().prepare(cameras)
        if len(cameras) < 2:
            raise UserError("BetweenCameras needs at least 2 training views, got 1: use SphereCap")

    def poses(self, n: int, generator: torch.Generator) -> Tensor:
        c2w, m = self.cameras.c2w, len(self.cameras)
        first = torch.randint(m, (n,), generator=generator)
        second = (first + torch.randint(1, m, (n,), generator=generator)) % m
        share = self.reach * torch.rand(n, 1, generator=generator)
        start, end = (Rotation.from_matrix(c2w[ids, :, :3].numpy()) for ids in (first, second))
        turn = Rotation.from_rotvec(share.numpy() * (start.inv() * end).as_rotvec())
        rotations = torch.from_numpy((start * turn).as_matrix()).float()
        positions = torch.lerp(c2w[first, :, 3], c2w[second, :, 3], share)
        return torch.cat([rotations, positions[:, :, None]], dim=2)


def _check_range(name: str, bounds: Range | None, lowest: float, highest: float) -> None:
    if bounds is None:
        return
    if len(bounds) != 2 or not lowest <= bounds[0] <= bounds[1] <= highest:
        raise UserError(
            f"SphereCap: {name} must be two numbers, the lower one first, from {lowest} to "
            f"{highest}, got {bounds}"
        )
