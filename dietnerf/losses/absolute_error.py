"""The rendered colors should be the photographed ones, by their absolute difference."""

from typing import Any, final

from torch import Tensor
from torch.nn import functional as F

from dietnerf.losses.base import AbstractRayLoss, RayLossInput


@final
class AbsoluteError(AbstractRayLoss):
    """Mean absolute error of the colors (3D Gaussian Splatting, Kerbl et al. 2023, eq. 7): large
    errors count less than in `Photometric`.

    Args:
        weight: factor in the sum of all losses.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    def __init__(self, weight: float = 1.0, **when: Any) -> None:
        super().__init__(weight, **when)

    def forward(self, step: RayLossInput) -> Tensor:
        return F.l1_loss(step.rendering.rgb, step.target)
