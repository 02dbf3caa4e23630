"""The small networks behind a grid: no biases, ReLU between layers."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from dietnerf.errors import UserError

WIDEST, MOST_LAYERS = 4096, 16


def make_network(widths: list[int]) -> nn.ModuleList:
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
    """Refuse sizes that the compiled kernels do not take.

    Raises:
        UserError: names the size.
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
