"""Rendering a hash-grid field as one op: encoding, both networks, culling and compositing."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.ops._arguments import HashGridArgs
from dietnerf.ops._check import check_floats
from dietnerf.ops._define import define
from dietnerf.ops._hash_grid import density_of_logits, unit_cube
from dietnerf.ops._shapes import check_shapes, shapes
from dietnerf.ops.composite import reference as composited
from dietnerf.ops.hash_encode import check_table
from dietnerf.ops.hash_encode import reference as hash_encoded

FIELD_INPUTS = shapes(
    rays_o="n_rays 3",
    rays_d="n_rays 3",
    directions="n_rays n_directions",
    aabb="2 3",
    table="n_entries n_features",
    levels="int64 n_levels 3",
    level_weights="n_levels",
    network="n_weights",
)
INPUTS = FIELD_INPUTS | shapes(ts="n_samples", deltas="n_samples", ray_offsets="int64 n_rays+1")
OUTPUTS = shapes(
    weights="n_samples",
    rgb="n_rays 3",
    opacity="n_rays",
    depth="n_rays",
    trans="n_rays",
    encoded="n_saved n_encoded",
    rgbs="n_saved_rgbs 3",
)


def render_hash_grid(
    field: HashGridArgs, ts: Tensor, deltas: Tensor, ray_offsets: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Volume rendering of instant-ngp's field (Mueller et al. 2022) at samples along rays.

    A sample at x = rays_o + t rays_d is mapped to the unit cube, encoded by `hash_encode`, and
    evaluated by two networks without biases and with ReLU between layers. The first has one hidden
    layer and the output h (n_geometry,), of which exp(h[0]) divided by the box's longest half side
    is the density; the second takes h and the ray's encoded direction, and its output is the color
    after a sigmoid. `composite` does the rest; samples behind a transmittance of `early_stop` are
    not evaluated, and on the CPU everything between table and pixel stays in the cache.

    Differentiable once in table, network and directions. On the CPU deterministic, whatever the
    number of threads. On a GPU the networks are evaluated in half precision, with sums in float32.

    Args:
        field: the field, and the rays.
        ts: distances along the rays in units of rays_d, (n_samples,).
        deltas: lengths of the samples' intervals in units of rays_d, (n_samples,).
        ray_offsets: int64, (n_rays + 1,), from 0 to at most n_samples; samples behind the last
            ray's have weight and gradient 0.

    Returns:
        weights (n_samples,), rgb (n_rays, 3), opacity (n_rays,), depth (n_rays,), as `composite`.
    """
    floats = {"ts": ts, "deltas": deltas}
    check_shapes(
        "render_hash_grid", INPUTS, {**field._asdict(), **floats, "ray_offsets": ray_offsets}
    )
    check_table("render_hash_grid", field.table)
    check_floats(
        "render_hash_grid", **floats, rays_o=field.rays_o, rays_d=field.rays_d, aabb=field.aabb
    )
    inputs = (field.table, field.network, field.directions)
    saves_samples = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    # The op's own autocast would make a float32 copy of the table.
    with torch.autocast(ts.device.type, enabled=False):
        weights, rgb, opacity, depth, *_ = _op(
            *in_dtype(field, ts.dtype), ts, deltas, ray_offsets, saves_samples
        )
    return weights, rgb, opacity, depth


def in_dtype(field: HashGridArgs, dtype: torch.dtype) -> HashGridArgs:
    """The arguments with network, directions and level weights in the dtype of the rays; the table
    stays in the dtype in which it is stored."""
    return field._replace(
        level_weights=field.level_weights.to(dtype),
        network=field.network.to(dtype),
        directions=field.directions.to(dtype),
    )


def reference(
    field: HashGridArgs, ts: Tensor, deltas: Tensor, ray_offsets: Tensor, saves_samples: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Also returns `trans` as `composite` does, and what is saved of samples for the backward op,
    nothing without `saves_samples`: encoded, (n_samples, n_encoded), on the CPU zeros for skipped
    ones; on a GPU their colors as well, (n_samples, 3)."""
    n_spare = len(ts) - int(ray_offsets[-1])
    ts, deltas = ts[: len(ts) - n_spare], deltas[: len(deltas) - n_spare]
    n_rays = len(field.rays_o)
    ray_indices = torch.arange(n_rays, device=ts.device).repeat_interleave(ray_offsets.diff())
    positions = field.rays_o[ray_indices] + ts[:, None] * field.rays_d[ray_indices]
    unit, is_outside = unit_cube(positions, field.aabb, field.is_unbounded)
    encoded = hash_encoded(field.table, unit, field.levels, field.level_weights)
    layers = _layers(field, encoded.shape[1])
    geometry = _evaluate(layers[:2], encoded)
    sigmas = density_of_logits(geometry[:, 0], field.aabb, is_outside)
    inputs = torch.cat([geometry, field.directions[ray_indices]], dim=1)
    rgbs = _evaluate(layers[2:], inputs).sigmoid()
    lengths = deltas * field.rays_d.norm(dim=-1)[ray_indices]
    weights, rgb, opacity, depth, trans = composited(
        sigmas, rgbs, lengths, ts, ray_offsets, field.early_stop
    )
    saved, saved_rgbs = encoded[:0], rgbs[:0]
    if saves_samples:
        saved = torch.where(_is_composited(weights, ray_offsets)[:, None], encoded, 0.0)
        saved = F.pad(saved, (0, 0, 0, n_spare))
        saved_rgbs = F.pad(rgbs, (0, 0, 0, n_spare))[: _n_saved_rgbs(ts.device, len(saved))]
    return F.pad(weights, (0, n_spare)), rgb, opacity, depth, trans, saved, saved_rgbs


def _layers(field: HashGridArgs, n_encoded: int) -> list[Tensor]:
    """The weights (n_out, n_in) of all layers."""
    width, n_geometry = field.width, field.n_geometry
    n_inputs = n_geometry + field.directions.shape[1]
    sizes = [(width, n_encoded), (n_geometry, width), (width, n_inputs)]
    sizes += [*[(width, width)] * (field.color_layers - 1), (3, width)]
    flat = field.network.split([n * m for n, m in sizes])
    return [weight.view(size) for weight, size in zip(flat, sizes, strict=True)]


def _n_saved_rgbs(device: torch.device, n_saved: int) -> int:
    """On a CPU the backward recomputes colors in the cache."""
    return n_saved if device.type == "cuda" else 0


def _evaluate(weights: list[Tensor], x: Tensor) -> Tensor:
    for weight in weights[:-1]:
        x = F.relu(F.linear(x, weight))
    return F.linear(x, weights[-1])


def _is_composited(weights: Tensor, ray_offsets: Tensor) -> Tensor:
    """Samples up to the last one of their ray that has a weight, (n_samples,)."""
    has_weight = (weights > 0).flip(0).to(torch.int64)
    before = torch.cat([has_weight.new_zeros(1), has_weight.cumsum(0)])  # from the end
    n = len(weights)
    ends = ray_offsets[1:].repeat_interleave(ray_offsets.diff())
    return before[n - torch.arange(n, device=weights.device)] > before[n - ends]


def _sizes(given: dict[str, Any]) -> dict[str, Any]:
    n_saved = len(given["ts"]) if given["saves_samples"] else 0
    return {
        "n_encoded": len(given["levels"]) * given["table"].shape[1],
        "n_saved": n_saved,
        "n_saved_rgbs": _n_saved_rgbs(given["ts"].device, n_saved),
    }


_op = define(
    "render_hash_grid",
    reference,
    inputs=INPUTS,
    outputs=OUTPUTS,
    like="ts",
    sizes=_sizes,
    differentiable=("table", "network", "directions"),
    saved=("weights", "trans", "encoded", "rgbs"),
)
