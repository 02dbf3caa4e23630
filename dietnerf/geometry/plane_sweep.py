"""Depths at which photographs agree with each other: multi-view stereo by plane sweep."""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.geometry.cameras import Cameras

RADIUS = 3  # of the windows that are compared, pixels
STEP = 1.0  # between two planes, pixels of a neighbor
FEWEST_PLANES, MOST_PLANES = 16, 192
ALIKE = 0.6  # correlation from which on windows show the same
NEAREST = 1e-3  # plane, of the farthest
NOISE = 2e-4  # standard deviations of gray levels, multiplied, of windows that show nothing


def sweep(images: Tensor, cameras: Cameras, n_neighbors: int = 3, n_agreeing: int = 2) -> Tensor:
    """Depth of the pixels whose surroundings other photographs show as well (Collins 1996).

    Planes parallel to each photograph, evenly spaced in inverse depth, are tried: what its nearest
    neighbors show there is compared by the normalized cross-correlation of windows of 7x7 gray
    levels, of which the mean over the better half of the neighbors, or over two, counts. A depth is
    known where other photographs find the same, to one plane (as Schönberger et al. 2016).

    Args:
        images: (n, height, width, 3) in [0, 1].
        cameras: theirs, of that size.
        n_neighbors: how many photographs each is compared with.
        n_agreeing: how many have to find the same depth, or all others where there are fewer.

    Returns:
        Distances along the camera axis, 0 where they are unknown, (n, height, width).
    """
    n = len(cameras)
    if n < 2:
        return images.new_zeros(images.shape[:3])
    gray = images.mean(dim=-1)
    distances = torch.cdist(cameras.positions, cameras.positions).fill_diagonal_(torch.inf)
    neighbors = distances.argsort(dim=1)[:, : min(n_neighbors, n - 1)].tolist()
    swept = [_Swept.of(gray, cameras, i, neighbors[i]) for i in range(n)]
    inverse = torch.stack([one.inverse for one in swept])
    n_votes = torch.stack([_votes(inverse, cameras, i, swept[i].step) for i in range(n)])
    is_known = torch.stack([one.correlation > ALIKE for one in swept])
    is_known &= n_votes >= min(n_agreeing, n - 1)
    return torch.where(is_known, 1 / inverse, 0.0)


def nearest_plane(near: Tensor, far: Tensor) -> Tensor:
    """Near, or where that is next to nothing, a small share of far."""
    return near.maximum(NEAREST * far)


@dataclass(frozen=True)
class _Swept:
    """Where a photograph resembles its neighbors best.

    Args:
        inverse: of the depth, (height, width).
        correlation: there, (height, width).
        step: from one plane to the next, in inverse depth.
    """

    inverse: Tensor
    correlation: Tensor
    step: float

    @classmethod
    def of(cls, gray: Tensor, cameras: Cameras, index: int, neighbors: list[int]) -> Self:
        near, far = cameras.near.min(), cameras.far.max()
        first, last = 1 / float(nearest_plane(near, far)), 1 / float(far)
        baselines = (cameras.positions[neighbors] - cameras.positions[index]).norm(dim=1)
        n_pixels = float((baselines * cameras.focal[neighbors, 0]).max()) * (first - last)
        n_planes = min(max(math.ceil(n_pixels / STEP), FEWEST_PLANES), MOST_PLANES)
        rays, own, n_best = cameras.image_rays(index), _Windows.of(gray[index]), len(neighbors)
        n_best = min(n_best, max(2, math.ceil(n_best / 2)))
        planes = torch.linspace(first, last, n_planes)
        volume = torch.empty(n_planes, *gray.shape[1:])
        for i, inverse in enumerate(planes):
            points = rays.rays_o + rays.rays_d / inverse
            found = [own.correlation(*_seen_at(points, gray, cameras, j)) for j in neighbors]
            volume[i] = torch.stack(found).topk(n_best, dim=0).values.mean(dim=0)
        correlation, best = volume.max(dim=0)
        step = (first - last) / (n_planes - 1)
        return cls(planes[best] - step * _peak(volume, best), correlation, step)


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
    points: Tensor, values: Tensor, cameras: Cameras, index: int, mode: str = "bilinear"
) -> tuple[Tensor, Tensor]:
    """What one of several images (n, height, width) shows at points (height * width, 3), and
    whether they are in it, (height, width) each."""
    places, is_seen = cameras[[index]].project(points)
    shape = values.shape[1:]
    image = values[index][None, None]
    found = F.grid_sample(image, places[:, None], mode, "border", align_corners=False)
    return found.view(shape), is_seen.view(shape)


def _peak(volume: Tensor, best: Tensor) -> Tensor:
    """How far beyond the best plane the peak of a parabola through it and its neighbors lies, in
    planes, (height, width) in [-0.5, 0.5]."""
    inner = best.clamp(1, len(volume) - 2)
    before, at, after = (volume.gather(0, (inner + i)[None])[0] for i in (-1, 0, 1))
    peak = 0.5 * (before - after) / (before - 2 * at + after).clamp(max=-1e-6)
    return torch.where(inner == best, peak.clamp(-0.5, 0.5), 0.0)


def _votes(inverse: Tensor, cameras: Cameras, index: int, step: float) -> Tensor:
    """How many other photographs find the same depth, to one step, (height, width)."""
    rays = cameras.image_rays(index)
    points = rays.rays_o + rays.rays_d / inverse[index].view(-1, 1)
    votes = torch.zeros_like(inverse[index], dtype=torch.long)
    for j in range(len(cameras)):
        if j == index:
            continue
        found, is_seen = _seen_at(points, inverse, cameras, j, mode="nearest")
        backward, position = cameras.c2w[j, :, 2], cameras.c2w[j, :, 3]
        own = 1 / -((points - position) @ backward).view_as(found)
        votes += ((own - found).abs() < step) & is_seen
    return votes
