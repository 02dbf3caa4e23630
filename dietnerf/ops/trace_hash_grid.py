"""Pictures of a hash-grid field as one op: marching, encoding, both networks and compositing."""

import torch
from torch import Tensor

from dietnerf.ops._check import check_shapes
from dietnerf.ops._define import define
from dietnerf.ops.march_rays import reference as marched
from dietnerf.ops.render_hash_grid import reference as rendered


def trace_hash_grid(
    table: Tensor,
    levels: Tensor,
    level_weights: Tensor,
    network: Tensor,
    directions: Tensor,
    rays_o: Tensor,
    rays_d: Tensor,
    near: Tensor,
    far: Tensor,
    bounds: Tensor,
    grid_bounds: Tensor,
    occupied: Tensor,
    resolution: int,
    step: float,
    cone_angle: float,
    width: int,
    n_geometry: int,
    colour_layers: int,
    is_unbounded: bool = False,
    early_stop: float = 1e-4,
) -> tuple[Tensor, Tensor, Tensor]:
    """What `render_hash_grid` shows at the samples of `march_rays`, without the samples.

    On a GPU rays are followed sample by sample until they leave the box or have no light left, so
    that nothing behind a surface is asked, and the host waits for nothing. The networks are
    computed in half precision, with sums in float32. Not differentiable; deterministic.

    Args:
        table, levels, level_weights, network, directions, rays_o, rays_d, bounds, width,
        n_geometry, colour_layers, is_unbounded, early_stop: as for `render_hash_grid`.
        near, far, occupied, resolution, step, cone_angle: as for `march_rays`.
        grid_bounds: the box of level 0 of the occupancy grid, the `bounds` of `march_rays`.

    Returns:
        rgb (n_rays, 3), opacity (n_rays,), depth (n_rays,), as `composite`.
    """
    check_shapes(
        "trace_hash_grid",
        rays_o=(rays_o, ("n_rays", 3)),
        rays_d=(rays_d, ("n_rays", 3)),
        near=(near, ("n_rays",)),
        far=(far, ("n_rays",)),
        directions=(directions, ("n_rays", "n_directions")),
        bounds=(bounds, (2, 3)),
        grid_bounds=(grid_bounds, (2, 3)),
        table=(table, ("n_entries", "n_features")),
        levels=(levels, ("n_levels", 3)),
        level_weights=(level_weights, ("n_levels",)),
        occupied=(occupied, ("n_grids", resolution**3 // 8)),
    )
    # The op's own autocast would make a float32 copy of the table.
    with torch.autocast(rays_o.device.type, enabled=False):
        rgb, opacity, depth = _op(
            table,
            levels,
            level_weights,
            network.to(rays_o.dtype),
            directions.to(rays_o.dtype),
            rays_o,
            rays_d,
            near,
            far,
            bounds,
            grid_bounds,
            occupied,
            resolution,
            step,
            cone_angle,
            width,
            n_geometry,
            colour_layers,
            is_unbounded,
            early_stop,
        )
    return rgb, opacity, depth


def reference(
    table: Tensor,
    levels: Tensor,
    level_weights: Tensor,
    network: Tensor,
    directions: Tensor,
    rays_o: Tensor,
    rays_d: Tensor,
    near: Tensor,
    far: Tensor,
    bounds: Tensor,
    grid_bounds: Tensor,
    occupied: Tensor,
    resolution: int,
    step: float,
    cone_angle: float,
    width: int,
    n_geometry: int,
    colour_layers: int,
    is_unbounded: bool,
    early_stop: float,
) -> tuple[Tensor, Tensor, Tensor]:
    ts, deltas, ray_offsets, _ = marched(
        rays_o, rays_d, near, far, grid_bounds, occupied, resolution, step, cone_angle, None, None
    )
    _, rgb, opacity, depth, *_ = rendered(
        table,
        levels,
        level_weights,
        network,
        directions,
        rays_o,
        rays_d,
        ts,
        deltas,
        ray_offsets,
        bounds,
        width,
        n_geometry,
        colour_layers,
        is_unbounded,
        early_stop,
        keeps_samples=False,
    )
    return rgb, opacity, depth


def _fake(
    table: Tensor,
    levels: Tensor,
    level_weights: Tensor,
    network: Tensor,
    directions: Tensor,
    rays_o: Tensor,
    rays_d: Tensor,
    near: Tensor,
    far: Tensor,
    bounds: Tensor,
    grid_bounds: Tensor,
    occupied: Tensor,
    resolution: int,
    step: float,
    cone_angle: float,
    width: int,
    n_geometry: int,
    colour_layers: int,
    is_unbounded: bool,
    early_stop: float,
) -> tuple[Tensor, Tensor, Tensor]:
    n_rays = rays_o.shape[0]
    return near.new_empty((n_rays, 3)), near.new_empty(n_rays), near.new_empty(n_rays)


_op = define(
    "trace_hash_grid",
    reference,
    fake=_fake,
    outputs=("rgb", "opacity", "depth"),
    differentiable=(),
)
