"""Rendering a hash-grid field as one op: encoding, both networks, culling and compositing."""

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.ops._check import check_shapes, check_types
from dietnerf.ops._define import define
from dietnerf.ops._hash_grid import density_of_logits, unit_cube
from dietnerf.ops.composite import reference as composited
from dietnerf.ops.hash_encode import N_FEATURES
from dietnerf.ops.hash_encode import reference as hash_encoded


def render_hash_grid(
    table: Tensor,
    levels: Tensor,
    level_weights: Tensor,
    network: Tensor,
    directions: Tensor,
    rays_o: Tensor,
    rays_d: Tensor,
    ts: Tensor,
    deltas: Tensor,
    ray_offsets: Tensor,
    bounds: Tensor,
    width: int,
    n_geometry: int,
    colour_layers: int,
    is_unbounded: bool = False,
    early_stop: float = 1e-4,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Volume rendering of instant-ngp's field (Mueller et al. 2022) at samples along rays.

    A sample at x = rays_o + t rays_d is taken into the unit cube, encoded by `hash_encode`, and put
    through two networks without biases and with ReLU between layers. The first has one hidden layer
    and answers h (n_geometry,), of which exp(h[0]) times the inverse of the box's longest half side
    is the density; the second takes h and the ray's direction features and answers the colour
    through a sigmoid. `composite` does the rest; samples behind a transmittance of `early_stop` are
    not asked, and on the CPU what lies between table and pixel stays in the cache.

    Differentiable once in table, network and directions. On the CPU deterministic, whatever the
    number of threads. On a GPU the networks are computed in half precision, with sums in float32.

    Args:
        table, levels, level_weights: as for `hash_encode`.
        network: weights (n_out, n_in) of all layers, flat, one after the other: density hidden and
            out, then the colour layers.
        directions: features of each ray's direction, (n_rays, n_directions).
        rays_o: origins, scene units, (n_rays, 3).
        rays_d: directions of any length, (n_rays, 3).
        ts: distances in units of rays_d, (n_samples,).
        deltas: lengths of the samples' intervals in units of rays_d, (n_samples,).
        ray_offsets: int64, (n_rays + 1,), from 0 to at most n_samples; samples behind the last
            ray's have weight and gradient 0.
        bounds: lowest and highest corner of the box in scene units, (2, 3).
        width: of the hidden layers, a multiple of 16.
        n_geometry: a multiple of 16.
        colour_layers: number of hidden layers of the colour network.
        is_unbounded: contract what lies outside of the box (mip-NeRF 360, eq. 10, in the maximum
            norm); otherwise it is empty.
        early_stop: as for `composite`.

    Returns:
        weights (n_samples,), rgb (n_rays, 3), opacity (n_rays,), depth (n_rays,), as `composite`.
    """
    check_shapes(
        "render_hash_grid",
        rays_o=(rays_o, ("n_rays", 3)),
        rays_d=(rays_d, ("n_rays", 3)),
        directions=(directions, ("n_rays", "n_directions")),
        ts=(ts, ("n_samples",)),
        deltas=(deltas, ("n_samples",)),
        ray_offsets=(ray_offsets, ("n_rays+1",)),
        bounds=(bounds, (2, 3)),
        table=(table, ("n_entries", "n_features")),
        levels=(levels, ("n_levels", 3)),
        level_weights=(level_weights, ("n_levels",)),
        network=(network, ("n_weights",)),
    )
    if table.shape[1] not in N_FEATURES:
        raise ValueError(f"render_hash_grid: n_features must be 1, 2, 4 or 8, got {table.shape[1]}")
    floats = {"ts": ts, "deltas": deltas, "rays_o": rays_o, "rays_d": rays_d, "bounds": bounds}
    check_types("render_hash_grid", ray_offsets, **floats)
    inputs = (table, network, directions)
    keeps_samples = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    # The op's own autocast would make a float32 copy of the table.
    with torch.autocast(ts.device.type, enabled=False):
        weights, rgb, opacity, depth, _, _, _ = _op(
            table,
            levels,
            level_weights.float() if table.dtype != torch.float64 else level_weights,
            network.to(ts.dtype),
            directions.to(ts.dtype),
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
            keeps_samples,
        )
    return weights, rgb, opacity, depth


def reference(
    table: Tensor,
    levels: Tensor,
    level_weights: Tensor,
    network: Tensor,
    directions: Tensor,
    rays_o: Tensor,
    rays_d: Tensor,
    ts: Tensor,
    deltas: Tensor,
    ray_offsets: Tensor,
    bounds: Tensor,
    width: int,
    n_geometry: int,
    colour_layers: int,
    is_unbounded: bool,
    early_stop: float,
    keeps_samples: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Also returns `trans` as `composite` does, and what is kept of samples for the backward,
    nothing without `keeps_samples`: encoded, (n_samples, n_encoded), on the CPU zeros where one was
    culled; on a GPU their colors as well, (n_samples, 3)."""
    n_spare = len(ts) - int(ray_offsets[-1])
    ts, deltas = ts[: len(ts) - n_spare], deltas[: len(deltas) - n_spare]
    ray_indices = torch.arange(len(rays_o), device=ts.device).repeat_interleave(ray_offsets.diff())
    positions = rays_o[ray_indices] + ts[:, None] * rays_d[ray_indices]
    unit, is_outside = unit_cube(positions, bounds, is_unbounded)
    encoded = hash_encoded(table, unit, levels, level_weights)
    n_inputs = n_geometry + directions.shape[1]
    sizes = [(width, encoded.shape[1]), (n_geometry, width)]
    sizes += [(width, n_inputs), *[(width, width)] * (colour_layers - 1), (3, width)]
    weights = [
        flat.view(size)
        for flat, size in zip(network.split([n * m for n, m in sizes]), sizes, strict=True)
    ]
    geometry = _run(weights[:2], encoded)
    sigmas = density_of_logits(geometry[:, 0], bounds, is_outside)
    told = torch.cat([geometry, directions[ray_indices]], dim=1)
    rgbs = _run(weights[2:], told).sigmoid()
    lengths = deltas * rays_d.norm(dim=-1)[ray_indices]
    found, rgb, opacity, depth, trans = composited(
        sigmas, rgbs, lengths, ts, ray_offsets, early_stop
    )
    kept, colors = encoded[:0], rgbs[:0]
    if keeps_samples:
        kept = torch.where(_is_kept(found, ray_offsets)[:, None], encoded, 0.0)
        kept = F.pad(kept, (0, 0, 0, n_spare))
        colors = F.pad(rgbs, (0, 0, 0, n_spare))[: _n_colors(ts.device, len(kept))]
    return F.pad(found, (0, n_spare)), rgb, opacity, depth, trans, kept, colors


def _n_colors(device: torch.device, n_kept: int) -> int:
    """Of how many samples colors are kept: a CPU has them in the cache when it needs them."""
    return n_kept if device.type == "cuda" else 0


def _run(weights: list[Tensor], x: Tensor) -> Tensor:
    for weight in weights[:-1]:
        x = F.relu(F.linear(x, weight))
    return F.linear(x, weights[-1])


def _is_kept(weights: Tensor, ray_offsets: Tensor) -> Tensor:
    """Samples up to the last one of their ray that has a weight, (n_samples,)."""
    has_weight = (weights > 0).flip(0).to(torch.int64)
    before = torch.cat([has_weight.new_zeros(1), has_weight.cumsum(0)])  # from the end
    n = len(weights)
    ends = ray_offsets[1:].repeat_interleave(ray_offsets.diff())
    return before[n - torch.arange(n, device=weights.device)] > before[n - ends]


def _fake(
    table: Tensor,
    levels: Tensor,
    level_weights: Tensor,
    network: Tensor,
    directions: Tensor,
    rays_o: Tensor,
    rays_d: Tensor,
    ts: Tensor,
    deltas: Tensor,
    ray_offsets: Tensor,
    bounds: Tensor,
    width: int,
    n_geometry: int,
    colour_layers: int,
    is_unbounded: bool,
    early_stop: float,
    keeps_samples: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    n_rays, n_samples = rays_o.shape[0], ts.shape[0]
    n_encoded = levels.shape[0] * table.shape[1]
    opacity, depth, trans = (ts.new_empty(n_rays) for _ in range(3))
    n_kept = n_samples if keeps_samples else 0
    encoded, rgbs = (
        ts.new_empty((n_kept, n_encoded)),
        ts.new_empty((_n_colors(ts.device, n_kept), 3)),
    )
    return ts.new_empty(n_samples), ts.new_empty((n_rays, 3)), opacity, depth, trans, encoded, rgbs


_op = define(
    "render_hash_grid",
    reference,
    fake=_fake,
    outputs=("weights", "rgb", "opacity", "depth", "trans", "encoded", "rgbs"),
    differentiable=("table", "network", "directions"),
    kept=("weights", "trans", "encoded", "rgbs"),
)
