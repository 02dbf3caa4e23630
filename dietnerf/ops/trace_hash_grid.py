"""Images of a hash-grid field as one op: marching, encoding, both networks and compositing."""

import torch
from torch import Tensor

from dietnerf.ops._arguments import HashGridArgs, OccupancyGrid
from dietnerf.ops._define import define
from dietnerf.ops._shapes import check_shapes, shapes
from dietnerf.ops.march_rays import reference as marched
from dietnerf.ops.render_hash_grid import FIELD_INPUTS, in_dtype
from dietnerf.ops.render_hash_grid import reference as rendered

INPUTS = FIELD_INPUTS | shapes(
    near="n_rays", far="n_rays", grid_aabb="2 3", occupied="uint8 n_grids n_bytes"
)


def trace_hash_grid(
    field: HashGridArgs, near: Tensor, far: Tensor, grid: OccupancyGrid
) -> tuple[Tensor, Tensor, Tensor]:
    """The rendering by `render_hash_grid` of the samples of `march_rays`, in one pass.

    On a GPU rays are followed sample by sample until they leave the box or their transmittance is
    below `early_stop`, so that nothing behind a surface is evaluated, and the host does not
    synchronize. The networks are evaluated in half precision, with sums in float32. Not
    differentiable; deterministic.

    Args:
        field: the field, and the rays.
        near, far, grid: as for `march_rays`.

    Returns:
        rgb (n_rays, 3), opacity (n_rays,), depth (n_rays,), as `composite`.
    """
    own = {"near": near, "far": far, "grid_aabb": grid.aabb, "occupied": grid.occupied}
    check_shapes("trace_hash_grid", INPUTS, field._asdict() | own, n_bytes=grid.resolution**3 // 8)
    # The op's own autocast would make a float32 copy of the table.
    with torch.autocast(near.device.type, enabled=False):
        rgb, opacity, depth = _op(*in_dtype(field, field.rays_o.dtype), near, far, *grid)
    return rgb, opacity, depth


def reference(
    field: HashGridArgs, near: Tensor, far: Tensor, grid: OccupancyGrid
) -> tuple[Tensor, Tensor, Tensor]:
    ts, deltas, ray_offsets, _ = marched(field.rays_o, field.rays_d, near, far, grid, None, None)
    _, rgb, opacity, depth, *_ = rendered(field, ts, deltas, ray_offsets, saves_samples=False)
    return rgb, opacity, depth


_op = define(
    "trace_hash_grid",
    reference,
    inputs=INPUTS,
    outputs=shapes(rgb="n_rays 3", opacity="n_rays", depth="n_rays"),
    like="near",
)
