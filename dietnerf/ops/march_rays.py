"""Samples along rays where a grid of bits says that there may be something, as an op."""

import torch
from torch import Tensor

from dietnerf.ops._check import Dim, check_floats, check_shapes
from dietnerf.ops._define import define

# The reference looks at every interval: so many at a time.
LATTICE_SIZE = 2**21


def march_rays(
    rays_o: Tensor,
    rays_d: Tensor,
    near: Tensor,
    far: Tensor,
    bounds: Tensor,
    occupied: Tensor,
    resolution: int,
    step: float,
    cone_angle: float = 0.0,
    jitter: Tensor | None = None,
    capacity: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Divide each ray into intervals and keep those in occupied cells (instant-ngp, appendix E).

    Level k of the grid has resolution^3 cells in `bounds` enlarged 2^k times about its centre. A
    ray begins at t_0, the larger of near and its entry into the box of the last level, and ends at
    the smaller of far and its exit. Interval k is [t_k, t_k + delta_k), t_{k+1} = t_k + delta_k,

        delta_k = max(step / |rays_d|, cone_angle * t_k),

    and its sample stands at t_k + jitter * delta_k. It is kept where it comes before the end and
    its cell is occupied, at the smallest level whose box contains it; with a cone angle above 0, at
    least at the smallest whose cells are as long along their longest axis as the interval, if there
    is one.

    Rays that miss the box, those with a NaN, and those with a jitter outside of [0, 1] have no
    samples; nor have those so far away that t does not tell two intervals apart. Empty cells are
    leapt over, so the time goes with the samples kept and the cells crossed. Not differentiable;
    deterministic.

    Args:
        rays_o: origins, (n_rays, 3), scene units.
        rays_d: directions, (n_rays, 3), of any length; t is in units of it.
        near: no sample before this, (n_rays,), in units of t.
        far: no sample from here on, (n_rays,), in units of t.
        bounds: lowest and highest corner of the box of level 0, (2, 3), scene units.
        occupied: uint8, (n_levels, resolution^3 / 8). Cell (x, y, z) of a level is bit i % 8,
            counted from the lowest, of byte i / 8, i = (z * resolution + y) * resolution + x.
        resolution: cells along each axis, a multiple of 8.
        step: length of an interval, scene units, at least the 2^24th part of the box's diagonal
            (without a cone angle, of the last level's box). No ray has more than 2^24 of them.
        cone_angle: by how much intervals grow with t, in units of t per unit of t.
        jitter: where in its intervals a ray's samples stand, in [0, 1), (n_rays,); None for 0.5.
        capacity: how many samples are returned, whatever their number: rays from the first one on
            whose samples find no room have none, and behind the last ray's there are zeros, which
            belong to none. None for as many as there are, for which a GPU is waited for.

    Returns:
        ts: places of the samples in units of t, (n_samples,), ascending within a ray.
        deltas: lengths of their intervals in units of t, (n_samples,).
        ray_offsets: int64, (n_rays + 1,), from 0 to n_samples, with a capacity to at most that.
        n_wanted: how many samples there are, also those that find no room, int64, (); on a CPU at
            least 2^31 where there are more.
    """
    floats = {"rays_o": rays_o, "rays_d": rays_d, "near": near, "far": far, "bounds": bounds}
    if jitter is not None:
        floats["jitter"] = jitter
    _check_sizes(floats, occupied, resolution)
    check_floats("march_rays", **floats)
    if occupied.dtype != torch.uint8:
        raise ValueError(f"march_rays: occupied must be uint8, got {occupied.dtype}")
    if occupied.device != rays_o.device:
        raise ValueError(
            f"march_rays: occupied is on {occupied.device}, but rays_o on {rays_o.device}"
        )
    if not step > 0:
        raise ValueError(f"march_rays: step must be positive, got {step}")
    if not cone_angle >= 0:
        raise ValueError(f"march_rays: cone_angle must not be negative, got {cone_angle}")
    if capacity is not None and capacity < 0:
        raise ValueError(f"march_rays: capacity must not be negative, got {capacity}")
    ts, deltas, ray_offsets, n_wanted = _op(
        rays_o, rays_d, near, far, bounds, occupied, resolution, step, cone_angle, jitter, capacity
    )
    return ts, deltas, ray_offsets, n_wanted


def _check_sizes(floats: dict[str, Tensor], occupied: Tensor, resolution: int) -> None:
    if resolution < 8 or resolution % 8 != 0:
        raise ValueError(f"march_rays: resolution must be a multiple of 8, got {resolution}")
    dims: dict[str, tuple[Dim, ...]] = {
        "rays_o": ("n_rays", 3),
        "rays_d": ("n_rays", 3),
        "bounds": (2, 3),
    }
    sizes = {name: (value, dims.get(name, ("n_rays",))) for name, value in floats.items()}
    check_shapes("march_rays", **sizes, occupied=(occupied, ("n_levels", resolution**3 // 8)))
    if len(occupied) == 0:
        raise ValueError("march_rays: occupied must have one level or more, got 0")


def reference(
    rays_o: Tensor,
    rays_d: Tensor,
    near: Tensor,
    far: Tensor,
    bounds: Tensor,
    occupied: Tensor,
    resolution: int,
    step: float,
    cone_angle: float,
    jitter: Tensor | None,
    capacity: int | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    low, high = bounds
    cells_per_unit = resolution / (high - low)
    origins = (rays_o - (low + high) / 2) * cells_per_unit  # from the centre, in cells of level 0
    directions = rays_d * cells_per_unit
    extent = resolution / 2 * 2 ** (len(occupied) - 1)
    begin, end = _clip(origins, directions, near, far, extent)
    norms = rays_d.norm(dim=-1)
    dt = step / norms
    cell_size = (high - low).amax() / resolution / norms  # in units of t
    share = torch.full_like(near, 0.5) if jitter is None else jitter
    is_filled = (occupied[..., None] >> torch.arange(8, device=near.device) & 1).bool().flatten(1)

    is_hit = (begin < end) & (dt > 0) & dt.isfinite() & (begin + dt > begin)
    is_hit &= (share >= 0) & (share <= 1)
    counts = torch.zeros_like(near, dtype=torch.int64)
    ts, deltas = [near.new_empty(0)], [near.new_empty(0)]
    for rays, n_intervals in _slices(is_hit, (end - begin) / dt):
        starts, intervals = _lattice(begin[rays], dt[rays], n_intervals, cone_angle)
        places = starts + share[rays, None] * intervals  # (n_rays, n_intervals)
        points = origins[rays, None] + places[..., None] * directions[rays, None]
        finest = intervals if cone_angle > 0 else torch.zeros_like(intervals)
        is_kept = _look_up(is_filled, points, finest, cell_size[rays, None], resolution)
        is_kept &= places < end[rays, None]
        counts[rays] = is_kept.sum(dim=1)
        ts.append(places[is_kept])
        deltas.append(intervals[is_kept])
    ray_offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    n_wanted = ray_offsets[-1].clone()
    if capacity is None:
        return torch.cat(ts), torch.cat(deltas), ray_offsets, n_wanted
    last = int(ray_offsets[ray_offsets <= capacity].amax())
    spare = near.new_zeros(capacity - last)
    kept_ts, kept_deltas = (torch.cat([torch.cat(v)[:last], spare]) for v in (ts, deltas))
    return kept_ts, kept_deltas, ray_offsets.clamp(max=last), n_wanted


def _clip(
    origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, extent: float
) -> tuple[Tensor, Tensor]:
    """Where rays are between near and far and in the box, (n_rays,) each."""
    t_per_cell = 1 / directions
    walls = torch.stack([(-extent - origins) * t_per_cell, (extent - origins) * t_per_cell])
    is_parallel, is_between = directions == 0, origins.abs() <= extent
    entry = torch.where(is_between, -torch.inf, torch.inf)
    enter = torch.where(is_parallel, entry, walls.amin(dim=0)).amax(dim=-1)
    leave = torch.where(is_parallel, -entry, walls.amax(dim=0)).amin(dim=-1)
    return torch.maximum(near, enter), torch.minimum(far, leave)


def _slices(is_hit: Tensor, n_steps: Tensor) -> list[tuple[Tensor, int]]:
    """Rays that hit the box, few enough at a time, and how many intervals the longest has."""
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


def _look_up(
    is_filled: Tensor, points: Tensor, finest: Tensor, cell_size: Tensor, resolution: int
) -> Tensor:
    """Whether points (n_rays, n_intervals, 3) lie in occupied cells no smaller than `finest`."""
    half = resolution / 2
    farthest = points.abs().amax(dim=-1)
    levels = torch.zeros_like(farthest, dtype=torch.int64)
    for edge in (2**level for level in range(len(is_filled) - 1)):
        levels += (farthest > half * edge) | (finest > cell_size * edge)
    cells = (points / 2.0 ** levels[..., None] + half).clamp(0, resolution - 1).long()
    x, y, z = cells.unbind(-1)
    return is_filled[levels, (z * resolution + y) * resolution + x]


def _fake(
    rays_o: Tensor,
    rays_d: Tensor,
    near: Tensor,
    far: Tensor,
    bounds: Tensor,
    occupied: Tensor,
    resolution: int,
    step: float,
    cone_angle: float,
    jitter: Tensor | None,
    capacity: int | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n_samples = torch.library.get_ctx().new_dynamic_size() if capacity is None else capacity
    ray_offsets = near.new_empty(len(near) + 1, dtype=torch.int64)
    ts, deltas = near.new_empty(n_samples), near.new_empty(n_samples)
    return ts, deltas, ray_offsets, ray_offsets.new_empty(())


_op = define(
    "march_rays",
    reference,
    fake=_fake,
    outputs=("ts", "deltas", "ray_offsets", "n_wanted"),
    differentiable=(),
)
