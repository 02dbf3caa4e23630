"""The data model of rendering: `Rays`, `Samples` along them, and a `Rendering`.

Distances `ts` are in units of `rays_d`, which need not have unit length: a point is `rays_o + t *
rays_d`. Samples are ragged: flat tensors, ray after ray, where ray `i` owns
`ray_offsets[i]:ray_offsets[i + 1]`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rays:
    """A batch of rays.

    Args:
        rays_o: origins, (n_rays, 3), scene units.
        rays_d: directions, (n_rays, 3), of any length.
        near: first distance of interest in units of `rays_d`, (n_rays,).
        far: last distance of interest in units of `rays_d`, (n_rays,).
    """

    rays_o: Tensor
    rays_d: Tensor
    near: Tensor
    far: Tensor

    def __len__(self) -> int:
        return self.rays_o.shape[0]

    def __getitem__(self, index: slice | Tensor) -> Self:
        return type(self)(*(getattr(self, field.name)[index] for field in fields(self)))

    def to(self, device: torch.device | str) -> Self:
        return type(self)(*(getattr(self, field.name).to(device) for field in fields(self)))

    @classmethod
    def cat(cls, bundles: Sequence[Self]) -> Self:
        return cls(
            *(torch.cat([getattr(b, f.name) for b in bundles]) for f in fields(cls)),
        )

    def split(self, n_rays: int) -> Iterator[Self]:
        """Consecutive batches of at most `n_rays` rays."""
        return (self[start : start + n_rays] for start in range(0, len(self), n_rays))

    @cached_property
    def norms(self) -> Tensor:
        """Lengths of the directions, (n_rays,): scene units per unit of t."""
        return self.rays_d.norm(dim=-1)

    @cached_property
    def viewdirs(self) -> Tensor:
        """Unit directions, (n_rays, 3)."""
        return self.rays_d / self.norms[:, None]


@dataclass(frozen=True)
class Histogram:
    """Weights of consecutive intervals of each ray.

    Args:
        edges: where the intervals begin and end, in units of t, (n_rays, n + 1), ascending.
        weights: of each interval, (n_rays, n).
    """

    edges: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Samples:
    """Where a field is evaluated along each ray, and the length of the interval of each sample.

    Args:
        rays: the rays that are sampled.
        ts: distances of the samples, (n_samples,), ascending within a ray.
        deltas: lengths of the intervals in units of t, (n_samples,).
        ray_offsets: int64, (n_rays + 1,), from 0 to at most n_samples. Samples behind those of the
            last ray are padding, with ts and deltas of 0.
        n_per_ray: samples of a ray, where all have the same number.
        n_total: number of samples without a capacity, int64, (), where there may be padding, which
            `ray_indices` assigns to the last ray; None otherwise.
        proposal: the histogram that the samples were drawn from, with gradients, if a loss trains
            it.
    """

    rays: Rays
    ts: Tensor
    deltas: Tensor
    ray_offsets: Tensor
    n_per_ray: int | None = None
    n_total: Tensor | None = None
    proposal: Histogram | None = None

    @classmethod
    def between(cls, rays: Rays, edges: Tensor, proposal: Histogram | None = None) -> Self:
        """One sample in the middle of each of consecutive intervals, from their ends
        (n_rays, n_per_ray + 1)."""
        n_rays, n_per_ray = len(edges), edges.shape[1] - 1
        middles = (edges[:, 1:] + edges[:, :-1]) / 2
        deltas = edges.diff(dim=1)
        ray_offsets = torch.arange(0, n_rays * n_per_ray + 1, n_per_ray, device=edges.device)
        flat = middles.flatten(), deltas.flatten()
        return cls(rays, *flat, ray_offsets, n_per_ray, proposal=proposal)

    @classmethod
    def dense(cls, rays: Rays, ts: Tensor, last_delta: float | None = None) -> Self:
        """The same number of samples on every ray, from sorted ts (n_rays, n_per_ray).

        Each sample stands for the interval up to the next one (NeRF, section 4, eq. 3), the last
        for `last_delta`, or without it for what is left up to `far`.
        """
        n_rays, n_per_ray = ts.shape
        end = rays.far[:, None] if last_delta is None else ts[:, -1:] + last_delta
        deltas = torch.cat([ts, end], dim=1).diff(dim=1)
        ray_offsets = torch.arange(0, n_rays * n_per_ray + 1, n_per_ray, device=ts.device)
        return cls(rays, ts.flatten(), deltas.flatten(), ray_offsets, n_per_ray)

    @classmethod
    def at(cls, points: Tensor, lengths: Tensor, directions: Tensor | None = None) -> Self:
        """One sample at the origin of each ray, to evaluate any field at points.

        Args:
            points: (n, 3), scene units.
            lengths: of the intervals of the samples, scene units, (n,).
            directions: unit vectors along which they are seen, (n, 3); None for any.
        """
        zeros = torch.zeros_like(lengths)
        if directions is None:
            axes = torch.eye(3, dtype=points.dtype, device=points.device)
            directions = axes[2].expand_as(points)  # created there: no GPU is waited for
        offsets = torch.arange(len(points) + 1, device=points.device)
        return cls(Rays(points, directions, zeros, lengths), zeros, lengths, offsets)

    def __len__(self) -> int:
        return self.ts.shape[0]

    @property
    def n_sampled(self) -> Tensor:
        """Number of samples, without a limit by capacity, int64, ()."""
        return self.ray_offsets[-1] if self.n_total is None else self.n_total

    def split(self, n: int) -> Iterator[Self]:
        """The samples of n consecutive parts of the rays, of nearly equal numbers of rays."""
        n_rays = len(self.rays)
        ends = [i * n_rays // n for i in range(n + 1)]
        at = self.ray_offsets[torch.tensor(ends, device=self.ray_offsets.device)].tolist()
        for i in range(n):
            rays, own = slice(ends[i], ends[i + 1]), slice(at[i], at[i + 1])
            offsets = self.ray_offsets[ends[i] : ends[i + 1] + 1] - at[i]
            yield type(self)(
                self.rays[rays], self.ts[own], self.deltas[own], offsets, self.n_per_ray
            )

    @cached_property
    def ray_indices(self) -> Tensor:
        """The ray that each sample lies on, int64, (n_samples,)."""
        ray_ids = torch.arange(len(self.rays), device=self.ray_offsets.device)
        if self.n_per_ray is not None:  # an XLA device would recompile for other counts
            return ray_ids.repeat_interleave(self.n_per_ray)
        if self.n_total is not None:
            places = torch.arange(len(self), device=self.ray_offsets.device)
            found = torch.searchsorted(self.ray_offsets, places, right=True) - 1
            return found.clamp(max=len(self.rays) - 1)
        counts = self.ray_offsets.diff()
        return ray_ids.repeat_interleave(counts, output_size=len(self))

    @cached_property
    def positions(self) -> Tensor:
        """Points in scene units, (n_samples, 3)."""
        rays = self.rays
        return rays.rays_o[self.ray_indices] + self.ts[:, None] * rays.rays_d[self.ray_indices]

    @cached_property
    def lengths(self) -> Tensor:
        """Lengths of the intervals in scene units, (n_samples,)."""
        return self.deltas * self.rays.norms[self.ray_indices]


@dataclass(frozen=True)
class Rendering:
    """Rendered rays.

    Args:
        rgb: colors in [0, 1], (n_rays, 3).
        opacity: light stopped before the last sample ends, in [0, 1], (n_rays,).
        depth: sum of weights times ts, in units of `rays_d`, (n_rays,); the background adds
            nothing.
        weights: weight of each sample in its ray's color, (n_samples,), empty where whole images
            were rendered.
        samples: what the weights belong to, None where whole images were rendered.
    """

    rgb: Tensor
    opacity: Tensor
    depth: Tensor
    weights: Tensor
    samples: Samples | None = None

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Of consecutive parts of an image, without their weights."""
        rgb, opacity, depth = (
            torch.cat([getattr(part, name) for part in parts])
            for name in ("rgb", "opacity", "depth")
        )
        return cls(rgb, opacity, depth, depth.new_empty(0))

    def split(self, n_rays: int) -> Iterator[Self]:
        """Of consecutive parts of at most `n_rays` rays, without their weights."""
        parts = (values.split(n_rays) for values in (self.rgb, self.opacity, self.depth))
        for rgb, opacity, depth in zip(*parts, strict=True):
            yield type(self)(rgb, opacity, depth, depth.new_empty(0))

    def room_for(self, n_rays: int) -> Self:
        """One of `n_rays` rays with any values, of the same types and without weights."""
        rgb, opacity, depth = self.rgb, self.opacity, self.depth
        return type(self)(
            rgb.new_empty(n_rays, 3),
            opacity.new_empty(n_rays),
            depth.new_empty(n_rays),
            depth.new_empty(0),
        )

    def put(self, first: int, part: Self) -> None:
        """Write the values of a part over those of the rays from `first` on."""
        rays = slice(first, first + len(part.rgb))
        self.rgb[rays], self.opacity[rays], self.depth[rays] = part.rgb, part.opacity, part.depth

    @classmethod
    def joined(cls, parts: Sequence[Self], samples: Samples) -> Self:
        """The rendering of consecutive parts of a batch with these samples."""
        whole = cls.cat(parts)
        return replace(whole, weights=torch.cat([p.weights for p in parts]), samples=samples)

    def over(self, background: Tensor) -> Self:
        """Blend over a background color, (3,) or (n_rays, 3)."""
        rgb = self.rgb + (1 - self.opacity[:, None]) * background
        return replace(self, rgb=rgb)
