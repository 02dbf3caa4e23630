"""Multiresolution hash encoding: features interpolated in grids of many sizes, as an op."""

import torch
from torch import Tensor

from dietnerf.ops._check import HALVES, check_floats
from dietnerf.ops._define import define
from dietnerf.ops._shapes import check_shapes, shapes

PRIMES = (2654435761, 805459861)  # of y and z; that of x is 1
N_FEATURES = (1, 2, 4, 8)
INPUTS = shapes(
    table="n_entries n_features",
    positions="n 3",
    levels="int64 n_levels 3",
    level_weights="n_levels",
)


def hash_encode(table: Tensor, positions: Tensor, levels: Tensor, level_weights: Tensor) -> Tensor:
    """Interpolate each level's features trilinearly, and scale the level by its weight.

    A level of resolution r has r cells along each axis of the unit cube. A vertex (x, y, z) has
    its own entry x + (r + 1) (y + (r + 1) z) if the level has (r + 1)^3 or more, and otherwise
    shares entry (x ^ 2654435761 y ^ 805459861 z) mod n_entries, in uint32 (instant-ngp, section 3,
    eq. 4).

    Differentiable once in table, positions (the slope within a cell) and level_weights. The CPU's
    kernel is deterministic; on CUDA, and in the reference, the gradients of table and level_weights
    are summed in any order. Sums are in the dtype of positions; under autocast this is float32, and
    the table stays as it is.

    Args:
        table: entries of all levels, (n_entries, n_features) with 1, 2, 4 or 8 features; in the
            dtype of positions, or float16 or bfloat16 with float32 positions.
        positions: points in [0, 1], (n, 3).
        levels: int64, (n_levels, 3): resolution, first entry in the table, number of entries, which
            must be a power of two where it is below (r + 1)^3. The slices lie in order.
        level_weights: (n_levels,); a level of weight 0 is skipped.

    Returns:
        features: (n, n_levels * n_features), level after level.
    """
    device_type = positions.device.type
    if torch.is_autocast_enabled(device_type):
        # The op's own autocast would make a float32 copy of the table.
        with torch.autocast(device_type, enabled=False):
            return hash_encode(table, _full(positions), levels, _full(level_weights))
    floats = {"positions": positions, "level_weights": level_weights}
    check_shapes("hash_encode", INPUTS, {**floats, "table": table, "levels": levels})
    check_table("hash_encode", table)
    if table.dtype not in HALVES or positions.dtype == torch.float64:
        floats["table"] = table
    check_floats("hash_encode", **floats)
    features: Tensor = _op(table, positions, levels, level_weights)
    return features


def check_table(op: str, table: Tensor) -> None:
    if table.shape[1] not in N_FEATURES:
        raise ValueError(f"{op}: n_features must be 1, 2, 4 or 8, got {table.shape[1]}")


def reference(table: Tensor, positions: Tensor, levels: Tensor, level_weights: Tensor) -> Tensor:
    rows = table.to(positions.dtype)
    slices = levels.tolist()
    _check_levels(slices, len(table))
    features = [
        weight * _interpolate(rows[start : start + n], positions, resolution)
        for (resolution, start, n), weight in zip(slices, level_weights, strict=True)
    ]
    return torch.cat(features, dim=1)


def _check_levels(slices: list[list[int]], n_entries: int) -> None:
    end = 0
    for resolution, start, n in slices:
        fits = n >= (resolution + 1) ** 3 or (n > 0 and n & (n - 1) == 0)
        if not (1 <= resolution <= 1 << 20 and end <= start and start + n <= n_entries and fits):
            raise ValueError(
                "hash_encode: levels must be slices of the table in order, with (resolution + 1)^3 "
                "entries or more, or else a power of two"
            )
        end = start + n


def _interpolate(entries: Tensor, positions: Tensor, resolution: int) -> Tensor:
    """One level: entries (n_entries, n_features) at positions (n, 3) to (n, n_features)."""
    scaled = positions * resolution
    low = scaled.detach().long().clamp(0, resolution - 1)
    upper = scaled - low
    corners = torch.tensor([[i & 1, i >> 1 & 1, i >> 2] for i in range(8)], device=low.device)
    x, y, z = torch.where(corners.bool(), upper[:, None], 1 - upper[:, None]).unbind(-1)
    ids = _entry_ids(low[:, None] + corners, resolution, len(entries))
    return ((x * y * z)[:, :, None] * entries[ids]).sum(dim=1)


def _entry_ids(vertices: Tensor, resolution: int, n_entries: int) -> Tensor:
    """Which entry of its level belongs to each vertex, (..., 3) to (...)."""
    x, y, z = vertices.unbind(-1)
    n_vertices = resolution + 1
    if n_vertices**3 <= n_entries:
        return x + n_vertices * (y + n_vertices * z)
    # The low bits of a product depend on low bits alone, so int64 gives those of uint32.
    return (x ^ (y * PRIMES[0]) ^ (z * PRIMES[1])) & (n_entries - 1)


def _full(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in HALVES else tensor


_op = define(
    "hash_encode",
    reference,
    inputs=INPUTS,
    outputs=shapes(features="n n_encoded"),
    like="positions",
    sizes=lambda given: {"n_encoded": len(given["levels"]) * given["table"].shape[1]},
    differentiable=("table", "positions", "level_weights"),
)
