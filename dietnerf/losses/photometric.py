"""Mean squared error of colors."""

from typing import Any, final

from torch import Tensor
from torch.nn import functional as F

from dietnerf.losses.base import AbstractRayLoss, RayLossInput


@final
class Photometric(AbstractRayLoss):
    """Mean squared error of the fine and the coarse colors (NeRF, section 5.3, eq. 6).

    Args:
        weight: factor in the sum of all losses.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    def __init__(self, weight: float = 1.0, **when: Any) -> None:
        super().__init__(weight, **when)

    def forward(self, step: RayLossInput) -> Tensor:
        loss = F.mse_loss(step.rendering.rgb, step.target)
        if step.coarse is not None:
            loss = loss + F.mse_loss(step.coarse.rgb, step.target)
        return loss
