"""The fast field: a multiresolution hash grid and two small networks."""

import math
import os
from typing import final

import torch
from torch import Tensor, nn

from dietnerf.errors import UserError
from dietnerf.fields.base import AbstractField, FrequencyBands
from dietnerf.fields.encodings import SphericalHarmonics
from dietnerf.fields.tiny_mlp import apply_network, check_networks, make_network
from dietnerf.geometry.bounds import box_of
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Rays, Rendering, Samples
from dietnerf.ops import (
    HashGridArgs,
    OccupancyGrid,
    hash_encode,
    is_compiled,
    render_hash_grid,
    trace_hash_grid,
)
from dietnerf.ops._hash_grid import density_of_logits, unit_cube
from dietnerf.ops._tiles import fits_block

EARLY_STOP = 1e-4  # transmittance below which samples are skipped
MOST_LEVELS = 64
WIDEST_ON_GPU = 64  # units of layers; cuBLAS takes wider ones


@final
class HashGrid(AbstractField):
    """instant-ngp's field (Mueller et al. 2022, section 5.4).

    A point's features, interpolated in grids of growing resolution, go through a network of one
    hidden layer to 1 + n_geometry_features numbers; the first is the logarithm of the density times
    half the longest side of the box. All of them and the spherical harmonics of the view direction
    go through a second network to the color.

    Args:
        n_levels: number of grids.
        n_features: numbers in an entry of the table, 1, 2, 4 or 8.
        log2_table_size: a grid has 2^this entries at most; its vertices share them where there are
            more.
        base_resolution, finest_resolution: cells of the first and the last grid along each side of
            the box; those between grow by a constant factor.
        width: units of the hidden layers, a multiple of 16.
        n_geometry_features: inputs of the color network besides the density, one less than a
            multiple of 16.
        color_layers: hidden layers of the color network.
        sh_degree: bands of spherical harmonics of the view direction, 1 to 4.
        bounds: the box that holds the scene, lowest and highest x, y, z: [-1.5, -1.5, -1.5, 1.5,
            1.5, 1.5]. Without it, what most training cameras see; unbounded, a cube around them
            where they look in different directions.
        is_unbounded: the scene extends beyond the box, where the grid becomes coarser with the
            distance (mip-NeRF 360, eq. 10, in the maximum norm). Otherwise it is empty there.
    """

    levels: Tensor
    level_weights: Tensor
    box: Tensor

    def __init__(
        self,
        n_levels: int = 8,
        n_features: int = 4,
        log2_table_size: int = 15,
        base_resolution: int = 16,
        finest_resolution: int = 512,
        width: int = 32,
        n_geometry_features: int = 15,
        color_layers: int = 1,
        sh_degree: int = 3,
        bounds: list[float] | None = None,
        is_unbounded: bool = False,
    ) -> None:
        super().__init__()
        _check_grid(n_levels, n_features, log2_table_size, base_resolution, finest_resolution)
        check_networks("HashGrid", width, n_geometry_features, color_layers)
        if bounds is not None and len(bounds) != 6:
            raise UserError(f"HashGrid: bounds must be 6 numbers, got {len(bounds)}")
        levels = level_rows(n_levels, log2_table_size, base_resolution, finest_resolution)
        n_entries = int(levels[:, 2].sum())
        _check_memory(n_entries * n_features)
        self.width, self.n_geometry = width, 1 + n_geometry_features
        self.given_bounds = bounds
        self.is_unbounded = is_unbounded
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("level_weights", torch.ones(n_levels))  # 0 to 1, coarse to fine
        self.register_buffer("box", torch.full((2, 3), math.nan))  # until prepare() or a checkpoint
        self.table = nn.Parameter(torch.empty(n_entries, n_features).uniform_(-1e-4, 1e-4))
        self.encode_direction = SphericalHarmonics(sh_degree)
        n_inputs = self.n_geometry + self.encode_direction.n_features
        self.density_net = make_network([n_levels * n_features, width, self.n_geometry])
        self.color_net = make_network([n_inputs, *[width] * color_layers, 3])

    early_stop = EARLY_STOP

    @property
    def bounds(self) -> Tensor | None:
        return self.box

    def grid_parameters(self) -> list[nn.Parameter]:
        return [self.table]

    def frequency_bands(self) -> list[FrequencyBands]:
        sizes = 1 / self.levels[:, 0].float()
        # In space beyond the box the unit cube is twice as large.
        return [FrequencyBands(self.level_weights, 2 * sizes if self.is_unbounded else sizes)]

    def direction_bands(self) -> list[FrequencyBands]:
        bands = self.encode_direction.weights
        return [FrequencyBands(bands, 1 / torch.arange(1, len(bands) + 1, device=bands.device))]

    def prepare(self, cameras: Cameras) -> None:
        """Set the box: the option if it was given, or else what the cameras see."""
        box = box_of(self.given_bounds, cameras, "field.bounds", self.is_unbounded)
        self.box.copy_(box)

    def samples_per_chunk(self, device: torch.device) -> int:
        # The fused op keeps nothing of a sample but its weight.
        return 1 << 20 if self._is_fused(device) else super().samples_per_chunk(device)

    def render(self, samples: Samples) -> Rendering:
        rays = samples.rays
        if not self._is_fused(samples.ts.device) or _is_differentiated(rays):
            return super().render(samples)
        weights, rgb, opacity, depth = render_hash_grid(
            self._along(rays), samples.ts, samples.deltas, samples.ray_offsets
        )
        return Rendering(rgb, opacity, depth, weights, samples)

    def can_trace(self, device: torch.device) -> bool:
        return is_compiled("trace_hash_grid", device) and self._is_fused(device)

    @torch.no_grad()
    def trace(self, rays: Rays, grid: OccupancyGrid) -> Rendering:
        rgb, opacity, depth = trace_hash_grid(self._along(rays), rays.near, rays.far, grid)
        return Rendering(rgb, opacity, depth, depth.new_empty(0))

    def _along(self, rays: Rays) -> HashGridArgs:
        """The arguments of the fused ops."""
        layers = (*self.density_net, *self.color_net)
        return HashGridArgs(
            table=self._stored_table(rays.near.device),
            levels=self.levels,
            level_weights=self.level_weights,
            network=torch.cat([layer.weight.flatten() for layer in layers]),
            directions=self.encode_direction(rays.viewdirs),
            rays_o=rays.rays_o,
            rays_d=rays.rays_d,
            aabb=self.box,
            width=self.width,
            n_geometry=self.n_geometry,
            color_layers=len(self.color_net) - 1,
            is_unbounded=self.is_unbounded,
            early_stop=self.early_stop,
        )

    def _is_fused(self, device: torch.device) -> bool:
        if not is_compiled("render_hash_grid", device):
            return False
        # On a GPU the op's networks are in half precision, which the user has to choose.
        return device.type == "cpu" or (
            torch.is_autocast_enabled(device.type)
            and self.width <= WIDEST_ON_GPU
            and fits_block(
                device,
                len(self.levels) * self.table.shape[1],
                self.width,
                self.n_geometry,
                self.encode_direction.n_features,
                len(self.color_net) - 1,
            )
        )

    def _stored_table(self, device: torch.device) -> Tensor:
        is_half = torch.is_autocast_enabled(device.type)
        return self.table.to(torch.get_autocast_dtype(device.type)) if is_half else self.table

    def density(self, samples: Samples) -> tuple[Tensor, Tensor]:
        unit, is_outside = unit_cube(samples.positions, self.box, self.is_unbounded)
        table = self._stored_table(unit.device)
        encoded = hash_encode(table, unit, self.levels, self.level_weights)
        features = apply_network(self.density_net, encoded)
        return density_of_logits(features[:, 0].float(), self.box, is_outside), features

    def color(self, features: Tensor, samples: Samples) -> Tensor:
        directions = self.encode_direction(samples.rays.viewdirs).to(features.dtype)
        inputs = torch.cat([features, directions[samples.ray_indices]], dim=1)
        return apply_network(self.color_net, inputs).float().sigmoid()


def _is_differentiated(rays: Rays) -> bool:
    """Whether gradients of origins and directions are needed, which the fused op does not
    compute."""
    return rays.rays_o.requires_grad or rays.rays_d.requires_grad


def level_rows(
    n_levels: int, log2_table_size: int, base_resolution: int, finest_resolution: int
) -> Tensor:
    """Resolution, first entry and number of entries of each grid, int64, (n_levels, 3)."""
    rows, first = [], 0
    growth = finest_resolution / base_resolution
    for level in range(n_levels):
        resolution = round(base_resolution * growth ** (level / max(n_levels - 1, 1)))
        n_vertices = (resolution + 1) ** 3
        n_entries = min(-(-n_vertices // 8) * 8, 2**log2_table_size)
        rows.append([resolution, first, n_entries])
        first += n_entries
    return torch.tensor(rows, device="cpu")


def _check_grid(
    n_levels: int, n_features: int, log2_table_size: int, base: int, finest: int
) -> None:
    if not 1 <= n_levels <= MOST_LEVELS:
        raise UserError(f"HashGrid: n_levels must be 1 to {MOST_LEVELS}, got {n_levels}")
    if n_features not in (1, 2, 4, 8):
        raise UserError(f"HashGrid: n_features must be 1, 2, 4 or 8, got {n_features}")
    if not 3 <= log2_table_size <= 30:
        raise UserError(f"HashGrid: log2_table_size must be 3 to 30, got {log2_table_size}")
    if not 1 <= base <= finest <= 1 << 20:
        raise UserError(
            "HashGrid: base_resolution must be at least 1, and finest_resolution not smaller nor "
            f"above 2^20, got {base} and {finest}"
        )


def _check_memory(n_numbers: int) -> None:
    """The table, its gradient and Adam's two moments must fit into what the machine has."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return
    needed, there = 16 * n_numbers, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise UserError(
            f"HashGrid: training this table needs {needed / 1e9:.0f} GB of memory, and there are "
            f"{there / 1e9:.0f}: choose a smaller log2_table_size"
        )
