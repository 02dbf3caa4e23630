"""Where cameras look, and paths through a capture. Poses are (n, 3, 4), OpenGL axes."""

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, Slerp
from torch import Tensor
from torch.nn import functional as F

from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras

RIGID_TOLERANCE = 1e-3


def look_at(positions: Tensor, target: Tensor, up: Tensor) -> Tensor:
    """Poses at `positions` (n, 3) that look at `target` (3,) or (n, 3), with `up` (3,) up in the
    image.

    Looking straight along `up` there is no such pose; some upright one is returned.
    """
    backward = F.normalize(positions - target, dim=-1)
    right = torch.cross(up.expand_as(backward), backward, dim=-1)
    spare = torch.cross(up.roll(1).expand_as(backward), backward, dim=-1)
    right = F.normalize(torch.where(right.norm(dim=-1, keepdim=True) > 1e-6, right, spare), dim=-1)
    upward = torch.cross(backward, right, dim=-1)
    return torch.stack([right, upward, backward, positions], dim=-1)


@dataclass(frozen=True)
class Surroundings:
    """The arrangement of a set of cameras around their focus.

    Args:
        center: the point nearest to all optical axes, (3,), scene units.
        up: unit vector out of the ground, (3,).
        radius: mean distance of the cameras from the center.
        elevation: mean angle of the cameras above the plane through the center, radians.
    """

    center: Tensor
    up: Tensor
    radius: float
    elevation: float

    @classmethod
    def of(cls, cameras: Cameras) -> Self:
        """Computed from cameras that are held level: their x axes lie in the ground plane."""
        positions, c2w = cameras.positions.double(), cameras.c2w.double()
        right, upward = c2w[:, :, 0], c2w[:, :, 1]
        backward = F.normalize(c2w[:, :, 2], dim=-1)
        # The weak second terms decide where the first leave it open: for one camera, or parallel
        # ones, the center lies in the middle of near and far, and up is up in the image.
        eye, weak = torch.eye(3, dtype=torch.float64), 1e-5
        middle = (cameras.near + cameras.far)[:, None] / 2
        across = eye - backward[:, :, None] * backward[:, None, :] + weak * eye  # (n, 3, 3)
        goals = across @ positions[:, :, None] - weak * (middle * backward)[:, :, None]
        center = torch.linalg.solve(across.sum(dim=0), goals.sum(dim=0)[:, 0])
        up = torch.linalg.eigh(right.mT @ right - weak * upward.mT @ upward).eigenvectors[:, 0]
        up = up * torch.sign((upward @ up).sum())
        offsets = positions - center
        radii = offsets.norm(dim=-1)
        elevation = torch.asin(((offsets @ up) / radii).clamp(-1, 1)).mean()
        return cls(center.float(), up.float(), float(radii.mean()), float(elevation))

    def positions(self, azimuths: Tensor, elevations: Tensor, radii: Tensor | float) -> Tensor:
        """Points (n, 3) around the center; radians, azimuth counter-clockwise seen from above."""
        east, north = self._level_axes()
        level = torch.cos(azimuths)[:, None] * east + torch.sin(azimuths)[:, None] * north
        directions = (
            torch.cos(elevations)[:, None] * level + torch.sin(elevations)[:, None] * self.up
        )
        return self.center + torch.as_tensor(radii).reshape(-1, 1) * directions

    def angles(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Azimuths, elevations and radii of points (n, 3), the inverse of `positions`."""
        east, north = self._level_axes()
        offsets = positions - self.center
        radii = offsets.norm(dim=-1)
        elevations = torch.asin(((offsets @ self.up) / radii).clamp(-1, 1))
        return torch.atan2(offsets @ north, offsets @ east), elevations, radii

    def _level_axes(self) -> tuple[Tensor, Tensor]:
        """Two unit vectors in the ground plane, square to each other, (3,) each."""
        helper = torch.eye(3)[int(self.up.abs().argmin())]
        east = F.normalize(torch.linalg.cross(helper, self.up), dim=0)
        return east, torch.linalg.cross(self.up, east)


def spiral(
    around: Surroundings,
    n_frames: int,
    elevation: float | None = None,
    radius: float | None = None,
    turns: int = 2,
) -> Tensor:
    """Turns that rise to 1.5 times the elevation, sink to half, and come closer by a fifth."""
    phase = torch.arange(n_frames) * (2 * math.pi / n_frames)
    elevations = (around.elevation if elevation is None else elevation) * (1 + 0.5 * phase.sin())
    radii = (radius or around.radius) * (0.9 + 0.1 * phase.cos())
    positions = around.positions(turns * phase, elevations, radii)
    return look_at(positions, around.center, around.up)


FORWARD = 0.9  # length of the mean viewing direction from which on cameras face one way


def face_one_way(cameras: Cameras) -> bool:
    """Whether all cameras look about the same way, within some 25 degrees, as in LLFF's scenes."""
    backward = F.normalize(cameras.c2w[:, :, 2], dim=-1)
    return len(cameras) > 1 and bool(backward.mean(dim=0).norm() > FORWARD)


def interpolate(poses: Tensor, n_frames: int) -> Tensor:
    """A smooth path through poses (m, 3, 4) in order: cubic in position, slerp in rotation."""
    if len(poses) == 1:
        return poses.expand(n_frames, 3, 4)
    knots, times = np.arange(len(poses)), np.linspace(0, len(poses) - 1, n_frames)
    rotations = Slerp(knots, Rotation.from_matrix(poses[:, :, :3].numpy()))(times).as_matrix()
    positions = CubicSpline(knots, poses[:, :, 3].numpy())(times)
    return torch.from_numpy(np.concatenate([rotations, positions[:, :, None]], axis=2)).float()


def nearest_neighbor_order(positions: Tensor) -> list[int]:
    """A tour of positions (n, 3) that starts with the first and goes on to the nearest one left."""
    distances = torch.cdist(positions, positions)
    order = [0]
    while len(order) < len(positions):
        to_next = distances[order[-1]].clone()
        to_next[order] = math.inf
        order.append(int(to_next.argmin()))
    return order


def fly(cameras: Cameras, poses: Tensor, around: Surroundings) -> Cameras:
    """The first camera at other poses (n, 3, 4); near and far follow its distance from the center.

    A camera closer than in training has near at 1% of its distance at least, so that it never lies
    behind the camera.
    """
    moved = cameras.with_poses(poses)
    reference = (cameras.positions[0] - around.center).norm()
    shift = (moved.positions - around.center).norm(dim=-1) - reference
    near = torch.maximum(moved.near + shift, 0.01 * reference)
    return replace(moved, near=near, far=torch.maximum(moved.far + shift, near + 0.01 * reference))


def rigid(matrix: Any, where: str, name: str = "transform_matrix") -> Tensor:
    """A camera pose (4, 4), float64, from nested lists.

    Args:
        matrix: four rows of four numbers, camera to world.
        where: the file and frame, for messages.
        name: what the file calls it.

    Raises:
        UserError: it is not a rotation and a translation.
    """
    what = f"{where}: {name}"
    try:
        c2w = torch.as_tensor(matrix, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise UserError(f"{what} must be 4 rows of 4 numbers") from error
    if c2w.shape != (4, 4):
        raise UserError(f"{what} must be 4 rows of 4 numbers, got shape {tuple(c2w.shape)}")
    if not c2w.float().isfinite().all():
        raise UserError(f"{what} holds NaN or infinity: remove what has no pose")
    if not torch.equal(c2w[3], torch.tensor([0, 0, 0, 1], dtype=torch.float64)):
        raise UserError(f"{what} must end in the row 0 0 0 1, got {c2w[3].tolist()}")
    turn = c2w[:3, :3]
    off = (turn.T @ turn - torch.eye(3, dtype=torch.float64)).abs().max().item()
    if off > RIGID_TOLERANCE:
        raise UserError(f"{what} is not a rotation (off by {off:.2g}): remove scale and shear")
    if turn.det() < 0:
        raise UserError(f"{what} mirrors the scene (determinant -1): flip one camera axis")
    return c2w
