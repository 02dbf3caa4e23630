"""Depths at which photographs agree with each other: multi-view stereo by plane sweep."""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.geometry.cameras import Cameras

RADIUS = 3  # of the windows that are compared, pixels
STEP = 1.0  # between two planes, pixels of the neighbor that is farthest away
MOST_PLANES = 256  # what is so near that it would take more is not found
FEWEST_PIXELS = 8.0  # of a neighbor, by which near and far are apart in it at least
ALIKE = 0.6  # correlation from which on windows show the same
NOISE = 2e-4  # standard deviations of gray levels, multiplied, of windows that show nothing


def sweep(images: Tensor, cameras: Cameras, n_neighbors: int = 3, n_agreeing: int = 2) -> Tensor:
    """Depth of the pixels whose surroundings other photographs show as well (Collins 1996).

    Planes parallel to each photograph, evenly spaced in inverse depth, are tried: what its nearest
    neighbors show there is compared by the normalized cross-correlation of windows of 7x7 gray
    levels, of which the mean over the better half of the neighbors, or over two, counts. A depth is
    known where other photographs find the same, to one plane (as Schönberger et al. 2016).
    Photographs from one place, as of a tripod, tell nothing to each other.

    Args:
        images: (n, height, width, 3) in [0, 1].
        cameras: theirs, of that size.
        n_neighbors: how many photographs each is compared with.
        n_agreeing: how many others have to find the same depth, or all where there are fewer.

    Returns:
        Distances along the camera axis, 0 where they are unknown, (n, height, width).
    """
    gray = images.mean(dim=-1)
    shifts = _pixel_shifts(cameras)
    swept = [_Swept.of(gray, cameras, i, shifts[i], n_neighbors) for i in range(len(cameras))]
    known = [one.inverse.where(one.correlation > ALIKE, torch.nan) for one in swept]
    n_needed = (shifts > 0).sum(dim=1).clamp(1, n_agreeing).tolist()
    is_known = [
        _votes(known, cameras, i, shifts[i], one.step) >= n_needed[i] for i, one in enumerate(swept)
    ]
    depths = torch.stack([1 / inverse for inverse in known])
    return depths.where(torch.stack(is_known) & depths.isfinite(), 0.0)


def _pixel_shifts(cameras: Cameras) -> Tensor:
    """By how many pixels of camera j a point moves along the axis of camera i for each unit of
    inverse depth, (n, n); 0 where near and far could not be told from each other."""
    shifts = torch.cdist(cameras.positions, cameras.positions) * cameras.focal.amax(dim=1)
    ranges = 1 / cameras.near - 1 / cameras.far
    return shifts.where(shifts * ranges.clamp(max=1e6)[:, None] >= FEWEST_PIXELS, 0.0)


@dataclass(frozen=True)
class _Swept:
    """Where a photograph resembles its neighbors best.

    Args:
        inverse: of the depth, (height, width).
        correlation: there, (height, width); -1 where there are no neighbors.
        step: from one plane to the next, in inverse depth.
    """

    inverse: Tensor
    correlation: Tensor
    step: float

    @classmethod
    def of(
        cls, gray: Tensor, cameras: Cameras, index: int, shifts: Tensor, n_neighbors: int
    ) -> Self:
        order = shifts.where(shifts > 0, torch.inf).argsort()
        neighbors = order[: min(n_neighbors, int((shifts > 0).sum()))].tolist()
        if not neighbors:
            return cls(torch.ones_like(gray[index]), -torch.ones_like(gray[index]), 0.0)
        step = STEP / float(shifts[neighbors].max())
        last = 1 / float(cameras.far.max())
        n_steps = (1 / max(float(cameras.near.min()), 1e-9) - last) / step
        n_planes = math.ceil(min(n_steps, MOST_PLANES)) + 1
        rays, own = cameras.image_rays(index), _Windows.of(gray[index])
        n_best = min(len(neighbors), max(2, math.ceil(len(neighbors) / 2)))
        planes = last + step * torch.arange(n_planes)
        volume = torch.empty(n_planes, *gray.shape[1:])
        for i, inverse in enumerate(planes):
            points = rays.rays_o + rays.rays_d / inverse
            found = [own.correlation(*_seen_at(points, gray[j], cameras, j)) for j in neighbors]
            volume[i] = torch.stack(found).topk(n_best, dim=0).values.mean(dim=0)
        correlation, best = volume.max(dim=0)
        return cls(planes[best] + step * _peak(volume, best), correlation, step)


@dataclass(frozen=True)
class _Windows:
    """Gray levels (height, width) with mean and variance of the window around each."""

    gray: Tensor
    mean: Tensor
    variance: Tensor

    @classmethod
    def of(cls, gray: Tensor) -> Self:
        mean = _window_mean(gray)
        return cls(gray, mean, (_window_mean(gray.square()) - mean.square()).clamp(min=0))

    def correlation(self, gray: Tensor, is_seen: Tensor) -> Tensor:
        """With other gray levels, pixel by pixel; -1 where those are not seen."""
        other = _Windows.of(gray)
        covariance = _window_mean(self.gray * gray) - self.mean * other.mean
        scale = (self.variance * other.variance).sqrt() + NOISE
        return (covariance / scale).masked_fill(~is_seen, -1.0)


def _window_mean(values: Tensor) -> Tensor:
    return F.avg_pool2d(values[None], 2 * RADIUS + 1, 1, RADIUS, count_include_pad=False)[0]


def _seen_at(
    points: Tensor, image: Tensor, cameras: Cameras, index: int, mode: str = "bilinear"
) -> tuple[Tensor, Tensor]:
    """What the image (height, width) of one of the cameras shows at points (height * width, 3), and
    whether they are in it, (height, width) each."""
    places, is_seen = cameras[[index]].project(points)
    values = image[None, None]
    found = F.grid_sample(values, places[:, None], mode, "border", align_corners=False)
    return found.view_as(image), is_seen.view_as(image)


def _peak(volume: Tensor, best: Tensor) -> Tensor:
    """How far beyond the best plane the peak of a parabola through it and its neighbors lies, in
    planes, (height, width) in [-0.5, 0.5]."""
    inner = best.clamp(1, len(volume) - 2)
    before, at, after = (volume.gather(0, (inner + i)[None])[0] for i in (-1, 0, 1))
    peak = 0.5 * (before - after) / (before - 2 * at + after).clamp(max=-1e-6)
    return torch.where(inner == best, peak.clamp(-0.5, 0.5), 0.0)


def _votes(
    inverse: list[Tensor], cameras: Cameras, index: int, shifts: Tensor, step: float
) -> Tensor:
    """How many other photographs find the same depth, to one step, (height, width)."""
    rays = cameras.image_rays(index)
    points = rays.rays_o + rays.rays_d / inverse[index].view(-1, 1)
    votes = torch.zeros_like(inverse[index], dtype=torch.long)
    voters = shifts.nonzero().flatten().tolist()
    for j in voters:
        found, is_seen = _seen_at(points, inverse[j], cameras, j, mode="nearest")
        backward, position = cameras.c2w[j, :, 2], cameras.c2w[j, :, 3]
        own = 1 / -((points - position) @ backward).view_as(found)
        votes += ((own - found).abs() < step) & is_seen
    return votes
