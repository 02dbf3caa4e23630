"""The small networks behind a grid: no biases, ReLU between layers."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dietnerf.errors import UserError

WIDEST, MOST_LAYERS = 4096, 16


class BoundedLinear(nn.Module):
    """A linear layer without bias that stretches distances, in the maximum norm, by no more than a
    bound that is learned with it (Liu et al. 2022, "Learning Smooth Neural Functions via Lipschitz
    Regularization", section 4).
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.raw_weight = nn.Parameter(torch.empty(n_out, n_in))
        nn.init.xavier_uniform_(self.raw_weight)
        largest = self.raw_weight.detach().abs().sum(dim=1).max()
        self.raw_bound = nn.Parameter(largest.expm1().log())  # so that softplus gives it back

    @property
    def bound(self) -> Tensor:
        return F.softplus(self.raw_bound)

    @property
    def weight(self) -> Tensor:
        sums = self.raw_weight.abs().sum(dim=1, keepdim=True)
        return self.raw_weight * (self.bound / sums).clamp(max=1.0)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


def make_network(widths: list[int], is_bounded: bool = False) -> nn.ModuleList:
    if is_bounded:
        return nn.ModuleList(BoundedLinear(n, m) for n, m in pairwise(widths))
    layers = [nn.Linear(n, m, bias=False) for n, m in pairwise(widths)]
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
    return nn.ModuleList(layers)


def apply_network(layers: nn.ModuleList, x: Tensor) -> Tensor:
    for layer in layers[:-1]:
        x = F.relu(layer(x), inplace=True)
    outputs: Tensor = layers[-1](x)
    return outputs


def check_networks(field: str, width: int, n_geometry_features: int, color_layers: int) -> None:
    """Sizes that the compiled kernels take, too.

    Raises:
        UserError: one is none of them.
    """
    if not 16 <= width <= WIDEST or width % 16:
        raise UserError(f"{field}: width must be a multiple of 16 up to {WIDEST}, got {width}")
    if not 15 <= n_geometry_features < WIDEST or (1 + n_geometry_features) % 16:
        raise UserError(
            f"{field}: n_geometry_features must be one less than a multiple of 16 up to {WIDEST}, "
            f"got {n_geometry_features}"
        )
    if not 1 <= color_layers <= MOST_LAYERS:
        raise UserError(f"{field}: color_layers must be 1 to {MOST_LAYERS}, got {color_layers}")
