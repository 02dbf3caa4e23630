"""Samples along rays in the occupied cells of a grid, as an op.

t is the distance along a ray in units of `rays_d`, which may have any length.
"""

from typing import Any

import torch
from torch import Tensor

from dietnerf.ops._arguments import OccupancyGrid
from dietnerf.ops._check import check_floats
from dietnerf.ops._define import define
from dietnerf.ops._shapes import check_shapes, shapes

# The reference evaluates every interval: this many at a time.
LATTICE_SIZE = 2**21
INPUTS = shapes(
    rays_o="n_rays 3",
    rays_d="n_rays 3",
    near="n_rays",
    far="n_rays",
    aabb="2 3",
    occupied="uint8 n_levels n_bytes",
    jitter="n_rays",
)
OUTPUTS = shapes(ts="n_samples", deltas="n_samples", ray_offsets="int64 n_rays+1", n_total="int64")


def march_rays(
    rays_o: Tensor,
    rays_d: Tensor,
    near: Tensor,
    far: Tensor,
    grid: OccupancyGrid,
    jitter: Tensor | None = None,
    capacity: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Divide each ray into intervals and keep those in occupied cells (instant-ngp, appendix E).

    A ray begins at t_0, the larger of near and its entry into the box of the last level, and ends
    at the smaller of far and its exit. Interval k is [t_k, t_k + delta_k), t_{k+1} = t_k + delta_k,

        delta_k = max(step / |rays_d|, cone_angle * t_k),

    and its sample is at t_k + jitter * delta_k. It is kept if it lies before the end and its cell
    is occupied, at the smallest level whose box contains it; with a cone angle above 0, at least at
    the smallest whose cells are as long along their longest axis as the interval, if there is one.

    Rays that miss the box, those with a NaN, and those with a jitter outside of [0, 1] have no
    samples; nor have those so far away that t does not resolve an interval. Empty space is skipped,
    so the time is linear in the samples kept and the cells crossed. Not differentiable;
    deterministic.

    Args:
        rays_o: origins, (n_rays, 3), scene units.
        rays_d: directions, (n_rays, 3), of any length; t is in units of it.
        near: no sample before this t, (n_rays,).
        far: no sample from this t on, (n_rays,).
        grid: which cells are occupied, and the length of intervals.
        jitter: position of the samples within the intervals of a ray, in [0, 1), (n_rays,); None
            for 0.5.
        capacity: number of samples returned, whatever their number: rays from the first one on
            whose samples do not fit have none, and the rest is padded with zeros that belong to no
            ray. None for as many as there are, which synchronizes with a GPU.

    Returns:
        ts: t of the samples, (n_samples,), ascending within a ray.
        deltas: lengths of their intervals in units of t, (n_samples,).
        ray_offsets: int64, (n_rays + 1,), from 0 to n_samples, with a capacity to at most that.
        n_total: number of samples including those that do not fit, int64, (); on a CPU at least
            2^31 if there are more.
    """
    floats = {"rays_o": rays_o, "rays_d": rays_d, "near": near, "far": far, "aabb": grid.aabb}
    if jitter is not None:
        floats["jitter"] = jitter
    _check_grid(grid)
    arguments = {**floats, "occupied": grid.occupied, "jitter": jitter}
    check_shapes("march_rays", INPUTS, arguments, n_bytes=grid.resolution**3 // 8)
    check_floats("march_rays", **floats)
    if len(grid.occupied) == 0:
        raise ValueError("march_rays: occupied must have one level or more, got 0")
    if capacity is not None and capacity < 0:
        raise ValueError(f"march_rays: capacity must not be negative, got {capacity}")
    ts, deltas, ray_offsets, n_total = _op(rays_o, rays_d, near, far, *grid, jitter, capacity)
    return ts, deltas, ray_offsets, n_total


def _check_grid(grid: OccupancyGrid) -> None:
    if grid.resolution < 8 or grid.resolution % 8 != 0:
        raise ValueError(f"march_rays: resolution must be a multiple of 8, got {grid.resolution}")
    if not grid.step > 0:
        raise ValueError(f"march_rays: step must be positive, got {grid.step}")
    if not grid.cone_angle >= 0:
        raise ValueError(f"march_rays: cone_angle must not be negative, got {grid.cone_angle}")


def reference(
    rays_o: Tensor,
    rays_d: Tensor,
    near: Tensor,
    far: Tensor,
    grid: OccupancyGrid,
    jitter: Tensor | None,
    capacity: int | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    low, high = grid.aabb
    cells_per_unit = grid.resolution / (high - low)
    origins = (rays_o - (low + high) / 2) * cells_per_unit  # from the center, in cells of level 0
    directions = rays_d * cells_per_unit
    extent = grid.resolution / 2 * 2 ** (len(grid.occupied) - 1)
    begin, end = _clip(origins, directions, near, far, extent)
    norms = rays_d.norm(dim=-1)
    dt = grid.step / norms
    cell_size = (high - low).amax() / grid.resolution / norms  # in units of t
    fraction = torch.full_like(near, 0.5) if jitter is None else jitter

    is_hit = (begin < end) & (dt > 0) & dt.isfinite() & (begin + dt > begin)
    is_hit &= (fraction >= 0) & (fraction <= 1)
    counts = torch.zeros_like(near, dtype=torch.int64)
    ts, deltas = [near.new_empty(0)], [near.new_empty(0)]
    for rays, n_intervals in _slices(is_hit, (end - begin) / dt):
        starts, intervals = _lattice(begin[rays], dt[rays], n_intervals, grid.cone_angle)
        candidates = starts + fraction[rays, None] * intervals  # (n_rays, n_intervals)
        points = origins[rays, None] + candidates[..., None] * directions[rays, None]
        finest = intervals if grid.cone_angle > 0 else torch.zeros_like(intervals)
        is_kept = _is_occupied(grid, points, finest, cell_size[rays, None])
        is_kept &= candidates < end[rays, None]
        counts[rays] = is_kept.sum(dim=1)
        ts.append(candidates[is_kept])
        deltas.append(intervals[is_kept])
    ray_offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return _fitted(torch.cat(ts), torch.cat(deltas), ray_offsets, capacity)


def _fitted(
    ts: Tensor, deltas: Tensor, ray_offsets: Tensor, capacity: int | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Outputs of the op, without the samples of rays that do not fit."""
    n_total = ray_offsets[-1].clone()
    if capacity is None:
        return ts, deltas, ray_offsets, n_total
    last = int(ray_offsets[ray_offsets <= capacity].amax())
    padding = ts.new_zeros(capacity - last)
    ts, deltas = (torch.cat([values[:last], padding]) for values in (ts, deltas))
    return ts, deltas, ray_offsets.clamp(max=last), n_total


def _clip(
    origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, extent: float
) -> tuple[Tensor, Tensor]:
    """The t at which rays enter and leave the box, clipped to near and far, (n_rays,) each."""
    t_per_cell = 1 / directions
    walls = torch.stack([(-extent - origins) * t_per_cell, (extent - origins) * t_per_cell])
    is_parallel, is_between = directions == 0, origins.abs() <= extent
    entry = torch.where(is_between, -torch.inf, torch.inf)
    enter = torch.where(is_parallel, entry, walls.amin(dim=0)).amax(dim=-1)
    leave = torch.where(is_parallel, -entry, walls.amax(dim=0)).amin(dim=-1)
    return torch.maximum(near, enter), torch.minimum(far, leave)


def _slices(is_hit: Tensor, n_steps: Tensor) -> list[tuple[Tensor, int]]:
    """Chunks of the rays that hit the box, and the largest number of intervals of a ray."""
    hits = is_hit.nonzero().squeeze(1)
    if len(hits) == 0:
        return []
    n_intervals = int(n_steps[hits].amax()) + 2
    return [(rays, n_intervals) for rays in hits.split(max(1, LATTICE_SIZE // n_intervals))]


def _lattice(
    begin: Tensor, dt: Tensor, n_intervals: int, cone_angle: float
) -> tuple[Tensor, Tensor]:
    """Starts and lengths of the intervals, (n_rays, n_intervals) each."""
    if cone_angle == 0:
        k = torch.arange(n_intervals, dtype=begin.dtype, device=begin.device)
        return begin[:, None] + k * dt[:, None], dt[:, None].expand(-1, n_intervals)
    starts, intervals = [], []
    for _ in range(n_intervals):
        starts.append(begin)
        intervals.append(torch.maximum(dt, cone_angle * begin))
        begin = begin + intervals[-1]
    return torch.stack(starts, dim=1), torch.stack(intervals, dim=1)


def _is_occupied(grid: OccupancyGrid, points: Tensor, finest: Tensor, cell_size: Tensor) -> Tensor:
    """Whether points (n_rays, n_intervals, 3) lie in occupied cells no smaller than `finest`."""
    bits = torch.arange(8, device=points.device)
    is_filled = (grid.occupied[..., None] >> bits & 1).bool().flatten(1)
    half = grid.resolution / 2
    farthest = points.abs().amax(dim=-1)
    levels = torch.zeros_like(farthest, dtype=torch.int64)
    for edge in (2**level for level in range(len(is_filled) - 1)):
        levels += (farthest > half * edge) | (finest > cell_size * edge)
    cells = (points / 2.0 ** levels[..., None] + half).clamp(0, grid.resolution - 1).long()
    x, y, z = cells.unbind(-1)
    return is_filled[levels, (z * grid.resolution + y) * grid.resolution + x]


def _n_samples(given: dict[str, Any]) -> dict[str, Any]:
    if given["capacity"] is not None:
        return {"n_samples": given["capacity"]}
    return {"n_samples": torch.library.get_ctx().new_dynamic_size()}


_op = define(
    "march_rays",
    reference,
    inputs=INPUTS,
    outputs=OUTPUTS,
    like="near",
    sizes=_n_samples,
)
