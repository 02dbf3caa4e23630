"""Transforms from the arbitrary frame of a reconstruction to one with the scene centered, upright,
and of unit size. Poses are (n, 4, 4) camera-to-world matrices, float64, OpenGL axes."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

SMALL = 1e-9
WEAK = 1e-3  # weight of the prior on the focus where the axes of the cameras leave it open


@dataclass(frozen=True)
class Similarity:
    """A rigid motion (4, 4), float64, and then a scaling: x -> scale * (R x + t)."""

    motion: Tensor
    scale: float = 1.0

    @classmethod
    def identity(cls) -> Self:
        return cls(torch.eye(4, dtype=torch.float64))

    def poses(self, c2w: Tensor) -> Tensor:
        """The transformed camera poses (n, 4, 4)."""
        moved = self.motion @ c2w
        return torch.cat([moved[:, :, :3], moved[:, :, 3:] * _homogeneous(self.scale)], dim=2)


def recentered(c2w: Tensor) -> Similarity:
    """The mean camera becomes the origin and looks along -z (as LLFF, Mildenhall et al. 2019)."""
    backward, upward = c2w[:, :3, 2].sum(dim=0), c2w[:, :3, 1].sum(dim=0)
    right = torch.linalg.cross(upward, backward)
    middle = c2w[:, :3, 3].mean(dim=0)
    if right.norm() < SMALL:  # they look in all directions: there is no mean camera
        return Similarity(_inverse(torch.eye(3, dtype=torch.float64), middle))
    backward, right = F.normalize(backward, dim=0), F.normalize(right, dim=0)
    turn = torch.stack([right, torch.linalg.cross(backward, right), backward], dim=1)
    return Similarity(_inverse(turn, middle))


def upright(c2w: Tensor) -> Similarity:
    """The mean upward direction of the images becomes z, the mean position the origin."""
    upward = c2w[:, :3, 1].mean(dim=0)
    turn = torch.eye(3, dtype=torch.float64)
    if upward.norm() > SMALL:
        turn = _turn_to_z(F.normalize(upward, dim=0)).T
    return Similarity(_inverse(turn, c2w[:, :3, 3].mean(dim=0)))


def unit_box(c2w: Tensor) -> float:
    """The scale at which all cameras lie in the box from -1 to 1, or 1 for cameras at one place."""
    reach = float(c2w[:, :3, 3].abs().max())
    return 1 / reach if reach > SMALL else 1.0


def spherified(c2w: Tensor) -> Similarity:
    """The focus becomes the origin, from it to the cameras is up along z, and their mean (square)
    distance is 1: for captures all around something (as LLFF's option of that name)."""
    middle = focus(c2w)
    outward = (c2w[:, :3, 3] - middle).mean(dim=0)
    turn = torch.eye(3, dtype=torch.float64)
    if outward.norm() > SMALL:
        turn = _turn_to_z(F.normalize(outward, dim=0)).T
    distance = float((c2w[:, :3, 3] - middle).norm(dim=-1).square().mean().sqrt())
    return Similarity(_inverse(turn, middle), 1 / distance if _spread(c2w) > SMALL else 1.0)


def focus(c2w: Tensor) -> Tensor:
    """The point nearest to the axes of all cameras, in front of them, (3,).

    Where the axes leave it open, as parallel ones do, it lies before the cameras by twice the
    distance that they keep from their mean position.
    """
    places, backward = c2w[:, :3, 3], F.normalize(c2w[:, :3, 2], dim=-1)
    spread = _spread(c2w)
    ahead = places - 2 * (spread if spread > SMALL else 0.5) * backward
    eye = torch.eye(3, dtype=torch.float64)
    across = eye - backward[:, :, None] * backward[:, None, :]
    goals = (across @ places[:, :, None])[:, :, 0] + WEAK * ahead
    middle = torch.linalg.solve((across + WEAK * eye).sum(dim=0), goals.sum(dim=0))
    is_before = ((places - middle) * backward).sum(dim=-1) > 0
    return middle if bool(is_before.all()) else ahead.mean(dim=0)


def focus_distances(c2w: Tensor) -> Tensor:
    """How far each camera is from the focus of all, (n,); at least as far as they are spread."""
    spread = _spread(c2w)
    distances = (c2w[:, :3, 3] - focus(c2w)).norm(dim=-1)
    return distances.clamp(min=spread if spread > SMALL else 0.5)


def guessed_range(c2w: Tensor) -> tuple[Tensor, Tensor]:
    """Default near and far, (n,) each: around the focus of the cameras."""
    distances = focus_distances(c2w)
    return 0.2 * distances, 3 * distances


def _spread(c2w: Tensor) -> float:
    """How far the farthest camera is from their mean position."""
    places = c2w[:, :3, 3]
    return float((places - places.mean(dim=0)).norm(dim=-1).max())


def _turn_to_z(axis: Tensor) -> Tensor:
    """The smallest rotation (3, 3) that takes a unit vector (3,) to z."""
    x, y, z = axis.tolist()
    if z < -1 + SMALL:
        return torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    cross = torch.tensor([[0.0, 0, -x], [0, 0, -y], [x, y, 0]], dtype=torch.float64)
    return torch.eye(3, dtype=torch.float64) + cross + cross @ cross / (1 + z)


def _inverse(turn: Tensor, place: Tensor) -> Tensor:
    """The motion that undoes a pose of rotation (3, 3) and position (3,)."""
    motion = torch.eye(4, dtype=torch.float64)
    motion[:3, :3] = turn.T
    motion[:3, 3] = -turn.T @ place
    return motion


def _homogeneous(scale: float) -> Tensor:
    return torch.tensor([scale, scale, scale, 1.0], dtype=torch.float64)[:, None]
