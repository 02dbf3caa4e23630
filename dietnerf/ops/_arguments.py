"""Groups of arguments that several ops share; an op's schema has their fields one by one."""

from typing import NamedTuple

from torch import Tensor


class HashGridArgs(NamedTuple):
    """A hash-grid field (instant-ngp, Mueller et al. 2022) and the rays along which it is rendered.

    Args:
        table, levels, level_weights: as for `hash_encode`.
        network: weights (n_out, n_in) of all layers, flattened and concatenated: density hidden and
            output layer, then the color layers, (n_weights,).
        directions: encoded view direction of each ray, (n_rays, n_directions).
        rays_o: origins, scene units, (n_rays, 3).
        rays_d: directions of any length, (n_rays, 3).
        aabb: lowest and highest corner of the field's box, scene units, (2, 3).
        width: units of the hidden layers, a multiple of 16.
        n_geometry: outputs of the density network, a multiple of 16.
        color_layers: number of hidden layers of the color network.
        is_unbounded: contract space outside of the box (mip-NeRF 360, eq. 10, in the maximum norm)
            instead of treating it as empty.
        early_stop: transmittance below which the samples behind are skipped.
    """

    table: Tensor
    levels: Tensor
    level_weights: Tensor
    network: Tensor
    directions: Tensor
    rays_o: Tensor
    rays_d: Tensor
    aabb: Tensor
    width: int
    n_geometry: int
    color_layers: int
    is_unbounded: bool = False
    early_stop: float = 1e-4


class OccupancyGrid(NamedTuple):
    """Nested occupancy grids (instant-ngp, appendix E), and how finely rays sample them.

    Level k has resolution^3 cells in `aabb` enlarged 2^k times about its center.

    Args:
        aabb: lowest and highest corner of the box of level 0, scene units, (2, 3).
        occupied: uint8, (n_levels, resolution^3 / 8). Cell (x, y, z) of a level is bit i % 8,
            counted from the lowest, of byte i / 8, i = (z * resolution + y) * resolution + x.
        resolution: cells along each axis, a multiple of 8.
        step: length of an interval, scene units, at least the 2^24th part of the box's diagonal
            (without a cone angle, of the last level's box). No ray has more than 2^24 of them.
        cone_angle: by how much intervals grow with t, in units of t per unit of t.
    """

    aabb: Tensor
    occupied: Tensor
    resolution: int
    step: float
    cone_angle: float = 0.0
