"""A smooth network answers alike nearby."""

from typing import Any, final

import torch
from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.fields.tiny_mlp import BoundedLinear
from dietnerf.losses.base import AbstractSceneLoss, Moment


@final
class Lipschitz(AbstractSceneLoss):
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

    def forward(self, moment: Moment) -> Tensor:
        products = []
        for module in moment.field.modules():
            layers = [layer for layer in module.children() if isinstance(layer, BoundedLinear)]
            if layers:
                products.append(torch.stack([layer.bound for layer in layers]).prod())
        if not products:
            raise UserError(
                "Lipschitz: the field has no bounded layers; give HashGrid has_bounded_networks: "
                "true, or take the loss out"
            )
        return torch.stack(products).sum()
