"""The field of the paper: a multilayer perceptron over encoded positions and view directions."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dietnerf.errors import UserError
from dietnerf.fields.base import AbstractField, FrequencyBands
from dietnerf.fields.encodings import FrequencyEncoding
from dietnerf.geometry.rays import Samples

MOST_LAYERS, WIDEST = 64, 16384


class MLP(AbstractField):
    """NeRF's field (NeRF, section 3 and appendix A), as in the DietNeRF authors' code.

    The defaults are the paper's 8 layers of 256 with 595,844 parameters. Simplified NeRF is the
    same field with `position_octaves=6` and `direction_octaves=None`.

    Args:
        depth: number of hidden layers of the trunk.
        width: units in each; the color layer has half as many.
        skip: the encoded position enters again after this layer (counted from 0), if another one
            follows; None for never.
        position_octaves: frequencies of the position encoding.
        direction_octaves: frequencies of the view-direction encoding; None for a color that is the
            same from everywhere.
        density_activation: relu is the authors' choice; with few views on a white background it
            often starts out negative everywhere, gets no gradient, and stays white. softplus always
            has a gradient.
    """

    def __init__(
        self,
        depth: int = 8,
        width: int = 256,
        skip: int | None = 4,
        position_octaves: int = 10,
        direction_octaves: int | None = 4,
        density_activation: Literal["softplus", "relu"] = "softplus",
    ) -> None:
        super().__init__()
        if not (1 <= depth <= MOST_LAYERS and 1 <= width <= WIDEST):
            raise UserError(
                f"MLP: depth must be 1 to {MOST_LAYERS} and width 1 to {WIDEST}, got {depth} and "
                f"{width}"
            )
        self.skip = skip
        self.density_activation = density_activation
        self.encode_position = FrequencyEncoding(position_octaves)
        n_encoded = self.encode_position.n_features
        widths_in = [n_encoded] + [
            width + (n_encoded if i == skip else 0) for i in range(depth - 1)
        ]
        self.trunk = nn.ModuleList(nn.Linear(n_in, width) for n_in in widths_in)
        self.sigma_head = nn.Linear(width, 1)
        if direction_octaves is None:
            self.encode_direction = None
            self.rgb_head = nn.Linear(width, 3)
        else:
            self.encode_direction = FrequencyEncoding(direction_octaves)
            self.bottleneck = nn.Linear(width, width)
            self.color_layer = nn.Linear(width + self.encode_direction.n_features, width // 2)
            self.rgb_head = nn.Linear(width // 2, 3)
        self._initialize()

    def _initialize(self) -> None:
        relu_layers = {*self.trunk, getattr(self, "color_layer", None)}
        for module in self.modules():
            if isinstance(module, nn.Linear):
                gain = nn.init.calculate_gain("relu") if module in relu_layers else 1.0
                nn.init.xavier_uniform_(module.weight, gain)
                nn.init.zeros_(module.bias)

    def frequency_bands(self) -> list[FrequencyBands]:
        return [_octaves(self.encode_position)]

    def direction_bands(self) -> list[FrequencyBands]:
        return [] if self.encode_direction is None else [_octaves(self.encode_direction)]

    def density(self, samples: Samples) -> tuple[Tensor, Tensor]:
        encoded = self.encode_position(samples.positions)
        hidden = encoded
        for i, layer in enumerate(self.trunk):
            hidden = F.relu(layer(hidden), inplace=True)
            if i == self.skip and i + 1 < len(self.trunk):
                hidden = torch.cat([encoded.to(hidden.dtype), hidden], dim=-1)
        raw_sigmas = self.sigma_head(hidden).squeeze(-1).float()
        if self.density_activation == "relu":
            return F.relu(raw_sigmas), hidden
        return F.softplus(
            raw_sigmas - 1
        ), hidden  # shifted so that it starts out thin, as in mip-NeRF

    def color(self, features: Tensor, samples: Samples) -> Tensor:
        if self.encode_direction is not None:
            features = F.relu(self._toward_color(features, samples), inplace=True)
        return self.rgb_head(features).float().sigmoid()

    def _toward_color(self, features: Tensor, samples: Samples) -> Tensor:
        """color_layer(cat(bottleneck(features), directions)), with a tenth of the network saved.

        Nothing nonlinear stands between the two layers, so their matrices are multiplied first,
        once for all samples.
        """
        assert self.encode_direction is not None
        of_bottleneck, of_direction = self.color_layer.weight.split(
            [self.bottleneck.out_features, self.encode_direction.n_features], dim=1
        )
        weight = of_bottleneck @ self.bottleneck.weight
        bias = of_bottleneck @ self.bottleneck.bias + self.color_layer.bias
        directions = self.encode_direction(samples.rays.viewdirs)[samples.ray_indices]
        return torch.addmm(F.linear(directions, of_direction, bias), features, weight.T)


def _octaves(encoding: FrequencyEncoding) -> FrequencyBands:
    """Half waves, with pi scene units for the side of the box that the MLP does not have."""
    octaves = torch.arange(encoding.n_octaves, device=encoding.weights.device)
    return FrequencyBands(encoding.weights, 2.0**-octaves)
