"""A training loss of one's own: the distance of colors, not squared, which outliers move less.

    PYTHONPATH=examples dietnerf fit --config configs/quickstart.yaml --run runs/distance \
        --model.losses+ "{class_path: custom_loss.ColorDistance, init_args: {weight: 0.1}}"
"""

from typing import Any, final

from torch import Tensor

from dietnerf.losses import AbstractRayLoss, RayLossInput


@final
class ColorDistance(AbstractRayLoss):
    """Mean distance between the rendered and the photographed color of a ray.

    Args:
        weight: factor in the sum of all losses.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    def __init__(self, weight: float = 0.1, **when: Any) -> None:
        super().__init__(weight, **when)

    def forward(self, step: RayLossInput) -> Tensor:
        return ((step.rendering.rgb - step.target).square().sum(dim=1) + 1e-6).sqrt().mean()
