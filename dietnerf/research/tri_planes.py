"""A factorised field: features on planes, multiplied."""

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dietnerf.errors import UserError
from dietnerf.fields.base import AbstractField, FrequencyBands
from dietnerf.fields.encodings import SphericalHarmonics
from dietnerf.fields.tiny_mlp import apply_network, check_networks, make_network
from dietnerf.geometry.bounds import box_of
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Samples
from dietnerf.ops._hash_grid import density_of_logits, unit_cube

LARGEST = 4096
AXES = [[0, 1], [1, 2], [2, 0]]  # of the three planes


@final
class TriPlanes(AbstractField):
    """Three planes in several resolutions; a point's features in a level are the product of those
    of its projections onto the three (K-Planes, Fridovich-Keil et al. 2023, section 3.1).

    Where few views leave a region open, a plane carries over what it learned elsewhere along its
    axis: a prior that a hash grid does not have. With `RadiusAnnealing` over its levels it is the
    idea of SANeRF (Xiao et al. 2025) on Tri-MipRF's (Hu et al. 2023) planes, whose mip levels are
    here planes of their own.

    Args:
        n_levels: number of resolutions.
        n_features: numbers at a point of a plane.
        base_resolution, finest_resolution: cells of the first and the last level along each side of
            the box; those between grow by a constant factor.
        width: units of the hidden layers.
        n_geometry_features: inputs of the color network besides the density.
        color_layers: hidden layers of the color network.
        sh_degree: bands of spherical harmonics of the view direction, 1 to 4.
        bounds: the box that holds the scene, as for `HashGrid`.
    """

    level_weights: Tensor
    box: Tensor

    def __init__(
        self,
        n_levels: int = 4,
        n_features: int = 8,
        base_resolution: int = 32,
        finest_resolution: int = 256,
        width: int = 64,
        n_geometry_features: int = 15,
        color_layers: int = 1,
        sh_degree: int = 2,
        bounds: list[float] | None = None,
    ) -> None:
        super().__init__()
        sizes = (n_levels, n_features, base_resolution, finest_resolution)
        if min(sizes) < 1 or max(sizes) > LARGEST or base_resolution > finest_resolution:
            raise UserError(
                f"TriPlanes: n_levels is {n_levels}, n_features {n_features}, base_resolution "
                f"{base_resolution}, finest_resolution {finest_resolution}; they must be from 1 to "
                f"{LARGEST}, and the finest not below the base"
            )
        if bounds is not None and len(bounds) != 6:
            raise UserError(f"TriPlanes: bounds must be 6 numbers, got {len(bounds)}")
        check_networks("TriPlanes", width, n_geometry_features, color_layers)
        growth = (finest_resolution / base_resolution) ** (1 / max(n_levels - 1, 1))
        self.resolutions = [round(base_resolution * growth**level) for level in range(n_levels)]
        self.given_bounds = bounds
        self.register_buffer("level_weights", torch.ones(n_levels))
        self.register_buffer("box", torch.full((2, 3), math.nan))
        # K-Planes' range: a product of numbers near zero has almost no gradient.
        self.planes = nn.ParameterList(
            torch.empty(3, n_features, r + 1, r + 1).uniform_(0.1, 0.5) for r in self.resolutions
        )
        self.encode_direction = SphericalHarmonics(sh_degree)
        n_geometry = 1 + n_geometry_features
        self.density_net = make_network([n_levels * n_features, width, n_geometry])
        n_inputs = n_geometry + self.encode_direction.n_features
        self.color_net = make_network([n_inputs, *[width] * color_layers, 3])

    @property
    def bounds(self) -> Tensor | None:
        return self.box

    def grid_parameters(self) -> list[nn.Parameter]:
        return list(self.planes)

    def frequency_bands(self) -> list[FrequencyBands]:
        sizes = [1 / r for r in self.resolutions]
        return [
            FrequencyBands(
                self.level_weights, torch.tensor(sizes, device=self.level_weights.device)
            )
        ]

    def direction_bands(self) -> list[FrequencyBands]:
        bands = self.encode_direction.weights
        return [FrequencyBands(bands, 1 / torch.arange(1, len(bands) + 1, device=bands.device))]

    def prepare(self, cameras: Cameras) -> None:
        self.box.copy_(box_of(self.given_bounds, cameras, "field.bounds"))

    def density(self, samples: Samples) -> tuple[Tensor, Tensor]:
        unit, is_outside = unit_cube(samples.positions, self.box, False)
        features = apply_network(self.density_net, self._encode(unit))
        return density_of_logits(features[:, 0].float(), self.box, is_outside), features

    def color(self, features: Tensor, samples: Samples) -> Tensor:
        directions = self.encode_direction(samples.rays.viewdirs).to(features.dtype)
        inputs = torch.cat([features, directions[samples.ray_indices]], dim=1)
        return apply_network(self.color_net, inputs).float().sigmoid()

    def _encode(self, unit: Tensor) -> Tensor:
        """(n, 3) in the unit cube to (n, n_levels * n_features)."""
        places = (2 * unit - 1)[:, AXES].permute(1, 0, 2)[:, None]  # (3, 1, n, 2)
        found = []
        for planes, weight in zip(self.planes, self.level_weights, strict=True):
            met = F.grid_sample(planes, places, mode="bilinear", align_corners=True)
            found.append(weight * met[:, :, 0].prod(dim=0))
        return torch.cat(found).T
