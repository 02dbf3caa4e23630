"""Which share of a film no training camera saw, estimated from cameras alone."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.geometry.cameras import Cameras

OBLIQUE = math.radians(60)  # a view from a larger angle may see the other side of a surface
N_FRAMES = 12  # of a film that are measured
N_PIXELS = 24  # along the longer side of them


def unseen_share(frames: Cameras, cameras: Cameras, depths: Tensor) -> float:
    """Share of the pixels of a film whose points no training camera sees.

    A camera sees a point that is in its image, if its direction is within 60 degrees of that of the
    frame.

    Args:
        frames: one camera a frame, (n_frames).
        cameras: the training cameras, (n).
        depths: of what each frame shows, along its axis, scene units, (n_frames,).
    """
    keep = spread_out(len(frames), N_FRAMES)
    small = coarse(frames[keep], N_PIXELS)
    shares = []
    for i, depth in enumerate(depths[keep]):
        rays = small.image_rays(i)
        points = rays.rays_o + depth * rays.rays_d
        _, is_shown = cameras.project(points)
        is_seen = (is_shown & sees_same_face(cameras, points, small.positions[i])).any(dim=0)
        shares.append(1 - is_seen.float().mean())
    return float(torch.stack(shares).mean())


def sees_same_face(cameras: Cameras, points: Tensor, eye: Tensor) -> Tensor:
    """Whether each camera sees points (n_points, 3) from within 60 degrees of where `eye` (3,)
    does, bool, (n, n_points)."""
    views = F.normalize(points - cameras.positions[:, None], dim=-1)
    return (views * F.normalize(points - eye, dim=-1)).sum(dim=-1) > math.cos(OBLIQUE)


def spread_out(n: int, most: int) -> Tensor:
    """At most so many of n indices, evenly spread, int64."""
    return torch.linspace(0, n - 1, min(n, most)).round().long()


def coarse(cameras: Cameras, n_pixels: int) -> Cameras:
    """The same views with at most so many pixels along the longer side."""
    shrink = max(1.0, max(cameras.width, cameras.height) / n_pixels)
    return cameras.resized(*(max(1, round(x / shrink)) for x in (cameras.width, cameras.height)))
