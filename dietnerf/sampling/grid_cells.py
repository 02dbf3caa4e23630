"""Cells of an occupancy grid: which hold a point, which are updated next, and how bits are packed.

Level k of a grid spans its box enlarged 2^k times and has resolution^3 cells. They are numbered
with x fastest, one level after the other.
"""

import math

import torch
from torch import Tensor

from dietnerf.geometry.bounds import count_views, seen_by_enough
from dietnerf.geometry.cameras import Cameras
from dietnerf.synchronization import is_sync_free

# Which cells an update evaluates after warm-up: some of all, so that an emptied one can come back
# (after 128 updates on average), and some of the occupied ones, so that what the field clears is
# dropped soon. With 128^3 cells of which 5 % are occupied that is 30,000 points, about as many as a
# training step has samples, but without a backward pass and only every `update_every` steps.
FRACTION_OF_ALL = 1 / 128
OCCUPIED_INTERVAL = 8
MAX_OCCUPIED = 1 / 32  # share of all cells, where the number of occupied ones is not read
GATHER_BITS = sum(1 << (56 - 7 * i) for i in range(8))  # a factor that moves bit 8 i to 56 + i


def pack_bits(mask: Tensor) -> Tensor:
    """Bool (n_levels, n_cells) -> uint8 (n_levels, n_cells / 8), the first cell the lowest bit."""
    eights = mask.view(torch.int64)  # on a little-endian machine cell i is bit 8 i
    return (eights * GATHER_BITS >> 56).to(torch.uint8)


def bits_at(points: Tensor, bits: Tensor, bounds: Tensor, resolution: int) -> Tensor:
    """The bit of the cell around each point, False outside of all levels.

    Args:
        points: scene units, (n_points, 3).
        bits: of all cells, packed, uint8, (n_levels, resolution^3 / 8).
        bounds: the box, (2, 3).
        resolution: cells along each axis of a level.

    Returns:
        bool, (n_points,).
    """
    middle, half = bounds.mean(dim=0), (bounds[1] - bounds[0]) / 2
    places = (points - middle) / half
    levels = places.abs().amax(dim=-1).log2().ceil().clamp(min=0).long()
    fractions = (places / 2.0 ** levels[:, None] + 1) / 2
    x, y, z = (fractions * resolution).long().clamp(0, resolution - 1).unbind(-1)
    cells = x + resolution * (y + resolution * z)
    is_inside = levels < len(bits)
    eights = bits[levels.where(is_inside, 0), cells // 8]
    return is_inside & ((eights >> (cells % 8).to(torch.uint8)) & 1).bool()


def fraction_of_bits(bits: Tensor) -> Tensor:
    """The share of packed bits that are set, ()."""
    n_bits = torch.tensor([i.bit_count() for i in range(256)], device=bits.device)
    return n_bits[bits.int()].float().mean() / 8


def random_points(
    cells: Tensor, bounds: Tensor, resolution: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """One random point in each cell.

    Returns:
        points: scene units, (n_cells, 3).
        scales: by how much the level of each cell is larger than the box, (n_cells,).
    """
    n = resolution
    levels = cells // n**3
    corners = torch.stack([cells % n, cells // n % n, cells // n**2 % n], dim=-1)
    inside = torch.rand(corners.shape, generator=generator, device=cells.device)
    scales = 2.0**levels
    from_center = ((corners + inside) / n - 0.5) * scales[:, None]
    low, high = bounds
    return (low + high) / 2 + from_center * (high - low), scales


def cells_in_view(
    cameras: Cameras, bounds: Tensor, level: int, resolution: int, min_fraction: float
) -> Tensor:
    """Which cells of a level at least a fraction of the cameras see, bool, (resolution^3,)."""
    middle, half = bounds.mean(dim=0), (bounds[1] - bounds[0]) / 2
    box = torch.stack([middle - 2**level * half, middle + 2**level * half])
    counts = count_views(box.cpu(), cameras, resolution // 2)  # blocks of 2^3 will do
    is_seen = seen_by_enough(counts, min_fraction, len(cameras))
    for axis in range(3):
        is_seen = is_seen.repeat_interleave(2, dim=axis)
    return is_seen.permute(2, 1, 0).flatten()


def cells_to_update(is_occupied: Tensor, generator: torch.Generator) -> Tensor:
    """Random cells of all, and every n-th of the occupied ones from a random one on.

    Args:
        is_occupied: bool, (n_cells,).
        generator: on the same device.

    Returns:
        Numbers of cells, int64; where the host would wait for their number it is fixed.
    """
    n_cells, device = len(is_occupied), is_occupied.device

    def draw(below: int, n: int) -> Tensor:
        return torch.randint(below, (n,), generator=generator, device=device)

    of_all = draw(n_cells, math.ceil(FRACTION_OF_ALL * n_cells))
    if not is_sync_free(device):
        start = torch.rand(1, generator=generator, device=device)
        return torch.cat([of_all, fixed_number_of(is_occupied, of_all[:1], start)])
    occupied = is_occupied.nonzero().squeeze(1)
    first = int(draw(OCCUPIED_INTERVAL, 1))
    return torch.cat([of_all, occupied[first::OCCUPIED_INTERVAL]])


def fixed_number_of(is_occupied: Tensor, other: Tensor, start: Tensor) -> Tensor:
    """Every n-th of the occupied cells, as many numbers whatever the mask is.

    n is at least `OCCUPIED_INTERVAL`, and so large that at most a fraction `MAX_OCCUPIED` of all
    cells is returned.

    Args:
        is_occupied: bool, (n_cells,).
        other: the cell that fills the places left over, (1,).
        start: where among the first n the first one is, (1,) in [0, 1).
    """
    counts = is_occupied.cumsum(0)
    n_places = math.ceil(MAX_OCCUPIED * len(counts))
    interval = ((counts[-1] + n_places - 1) // n_places).clamp(min=OCCUPIED_INTERVAL)
    places = torch.arange(n_places, device=counts.device)
    numbers = (start * interval).long() + 1 + interval * places  # counted from 1
    return torch.where(numbers <= counts[-1], torch.searchsorted(counts, numbers), other)
