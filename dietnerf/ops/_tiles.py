"""Which networks fit into the shared memory of the fused ops on a GPU: csrc/tile_mlp/layout.h in
Python."""

from typing import Any

import torch

TILE = 64  # samples
MAX_COLOR_LAYERS = 5  # hidden ones; kMaxLayers has three more


def fits_block(
    device: torch.device,
    n_encoded: int,
    width: int,
    n_geometry: int,
    n_directions: int,
    color_layers: int,
) -> bool:
    """Whether a block of threads on a GPU has shared memory for networks of this shape."""
    if color_layers > MAX_COLOR_LAYERS:
        return False
    needed = shared_memory(n_encoded, width, n_geometry, n_directions, color_layers)
    card: Any = torch.cuda.get_device_properties(device)  # torch's stubs lack the number
    return bool(needed <= card.shared_memory_per_block_optin)


def shared_memory(
    n_encoded: int, width: int, n_geometry: int, n_directions: int, color_layers: int
) -> int:
    """Bytes of a block of the backward kernel, which needs the most: weights and inputs of all
    layers and two layers' gradients in half precision, staged sums and outputs in float32."""
    sizes = [(n_encoded, width), (width, n_geometry), (n_geometry + n_directions, width)]
    sizes += [*[(width, width)] * (color_layers - 1), (width, 3)]
    widest = max(_to_16(n) for size in sizes for n in size)
    halves = [_to_16(n_out) * _row(n_in) for n_in, n_out in sizes]
    halves += [TILE * _row(n_in) for n_in, _ in sizes]
    halves += [TILE * _row(widest)] * 2
    floats = [TILE * 20, TILE, TILE * 4]  # staged sums, logits, outputs
    return sum(_aligned(2 * n) for n in halves) + sum(_aligned(4 * n) for n in floats)


def _to_16(n: int) -> int:
    return -(-n // 16) * 16


def _row(n: int) -> int:
    """Elements from one row to the next."""
    return _to_16(n) + 8


def _aligned(n_bytes: int) -> int:
    return -(-n_bytes // 128) * 128
