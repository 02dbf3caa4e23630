"""Coverage: how well a set of cameras covers a scene."""

import math
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from dietnerf.geometry.bounds import bounds_of, count_views
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.poses import Surroundings

Kind = Literal["object", "forward", "inside-out"]

REACH = math.radians(30)  # a direction is covered if a camera is within this angle
SAME_SIDE = math.radians(60)  # views that differ by less face one way
STEEP = math.radians(75)  # a camera that looks down more steeply has no azimuth
N_DIRECTIONS = 4096
N_CELLS = 32  # of the scene's box, along each axis


@dataclass(frozen=True)
class Coverage:
    """What a set of cameras sees of a scene.

    Args:
        n_views: number of cameras.
        kind: `object` where cameras look in from several sides, `forward` where they look the same
            way, `inside-out` where they look away from the middle of where they stand.
        covered: share of all directions, those from below included, within 30 degrees of a
            camera's: of where it stands around the center, or of where it looks if `inside-out`.
        widest_gap: the largest angle without a camera on the way round, radians.
        gap_views: the cameras on both sides of it.
        spread: the largest angle between the optical axes of two cameras, radians.
        seen_by_two, seen_by_three: share of the scene's box (`bounds_of`) that at least so many
            cameras see.
    """

    n_views: int
    kind: Kind
    covered: float
    widest_gap: float
    gap_views: tuple[int, int]
    spread: float
    seen_by_two: float
    seen_by_three: float

    @classmethod
    def of(cls, cameras: Cameras) -> Self:
        """Computed from cameras whose x axes lie in the ground plane; accurate to 2 percent."""
        around = Surroundings.of(cameras)
        kind = kind_of(cameras, around)
        directions = directions_of(cameras, around, kind)
        gap, gap_views = widest_gap(directions, around.up)
        counts = count_views(bounds_of(cameras), cameras, N_CELLS)
        two, three = (float((counts >= n).float().mean()) for n in (2, 3))
        covered = covered_share(directions, REACH)
        spread = largest_angle(-cameras.c2w[:, :, 2])
        return cls(len(cameras), kind, covered, gap, gap_views, spread, two, three)


def kind_of(cameras: Cameras, around: Surroundings) -> Kind:
    """Whether cameras look in, the same way, or out."""
    forward = -cameras.c2w[:, :, 2]
    if largest_angle(forward) < SAME_SIDE:
        return "forward"
    ahead = ((around.center - cameras.positions) * forward).sum(dim=-1)
    return "object" if (ahead >= cameras.near).float().mean() > 0.5 else "inside-out"


def directions_of(cameras: Cameras, around: Surroundings, kind: Kind) -> Tensor:
    """Unit vectors (n, 3): where cameras stand around the center, or where they look."""
    if kind == "inside-out":
        return -cameras.c2w[:, :, 2]
    return normalize(cameras.positions - around.center, dim=-1)


def covered_share(directions: Tensor, reach: float) -> float:
    """Share of the sphere within `reach`, radians, of any of the unit vectors (n, 3)."""
    closest = sphere_points(N_DIRECTIONS) @ directions.T
    return float((closest.amax(dim=1) >= math.cos(reach)).float().mean())


def sphere_points(n: int) -> Tensor:
    """Unit vectors spread evenly (Fibonacci's lattice), (n, 3)."""
    i = torch.arange(n, dtype=torch.float64)
    z = 1 - (2 * i + 1) / n
    turn = math.pi * (3 - math.sqrt(5)) * i
    level = (1 - z * z).sqrt()
    return torch.stack([level * turn.cos(), level * turn.sin(), z], dim=-1).float()


def azimuths_of(directions: Tensor, up: Tensor) -> Tensor:
    """Angles (n,) of unit vectors (n, 3) around `up` (3,), in [0, 2 pi)."""
    helper = torch.eye(3)[int(up.abs().argmin())]
    east = normalize(torch.linalg.cross(helper, up), dim=0)
    north = torch.linalg.cross(up, east)
    return torch.atan2(directions @ north, directions @ east) % (2 * math.pi)


def widest_gap(directions: Tensor, up: Tensor) -> tuple[float, tuple[int, int]]:
    """The largest angle around `up` (3,) that holds none of the unit vectors (n, 3).

    Those within 15 degrees of the axis do not count, if there are others.

    Returns:
        The angle in radians, and the vectors at its beginning and end, counter-clockwise seen from
        above.
    """
    level = ((directions @ up).abs() < math.sin(STEEP)).nonzero().squeeze(-1)
    if len(level) == 0:
        level = torch.arange(len(directions))
    azimuths, order = azimuths_of(directions[level], up).sort()
    gaps = azimuths.roll(-1) - azimuths
    gaps[-1] += 2 * math.pi
    widest = int(gaps.argmax())
    ends = level[order[[widest, (widest + 1) % len(order)]]]
    return float(gaps[widest]), (int(ends[0]), int(ends[1]))


def largest_angle(directions: Tensor) -> float:
    """Between any two of the unit vectors (n, 3), radians."""
    return math.acos(float((directions @ directions.T).min().clamp(-1, 1)))
