"""A smooth network answers alike nearby."""

from typing import Any, final

import torch
from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.fields.base import AbstractField
from dietnerf.fields.tiny_mlp import BoundedLinear
from dietnerf.losses.base import AbstractRegularizer, SceneContext


@final
class Lipschitz(AbstractRegularizer):
    """By how much a field's networks may stretch distances: the product of their layers' bounds,
    summed over networks (Liu et al. 2022, section 4, eq. 7; CombiNeRF, Bonotto et al. 2024).

    Needs a field with such layers: `HashGrid` with `has_bounded_networks`.

    Args:
        weight: factor in the sum of all losses.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    def __init__(self, weight: float = 1e-6, **when: Any) -> None:
        super().__init__(weight, **when)
        self.scalars = {}

    def check(self, field: AbstractField) -> None:
        if not _products(field):
            raise UserError(
                "Lipschitz: the field has no bounded layers; give HashGrid has_bounded_networks: "
                "true, or take the loss out"
            )

    def forward(self, context: SceneContext) -> Tensor:
        return torch.stack(_products(context.field)).sum()


def _products(field: AbstractField) -> list[Tensor]:
    """The product of the bounds of each network that has them."""
    found = []
    for module in field.modules():
        layers = [layer for layer in module.children() if isinstance(layer, BoundedLinear)]
        if layers:
            found.append(torch.stack([layer.bound for layer in layers]).prod())
    return found
