"""A training loss of one's own: the absolute error of the colors, which outliers move less.

    PYTHONPATH=examples dietnerf fit --config configs/quickstart.yaml --run runs/absolute \
        --model.losses+ "{class_path: custom_loss.AbsoluteError, init_args: {weight: 0.1}}"
"""

from typing import Any, final

from torch import Tensor

from dietnerf.losses import AbstractRayLoss, RayLossInput


@final
class AbsoluteError(AbstractRayLoss):
    """Mean absolute difference between rendered and photographed colors.

    Args:
        weight: factor in the sum of all losses.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    def __init__(self, weight: float = 0.1, **when: Any) -> None:
        super().__init__(weight, **when)

    def forward(self, step: RayLossInput) -> Tensor:
        return (step.rendering.rgb - step.target).abs().mean()
