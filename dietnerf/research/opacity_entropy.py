"""Rays that are either opaque or transparent."""

from typing import Any, final

from torch import Tensor

from dietnerf.losses.base import AbstractRayLoss, RayLossInput


@final
class OpacityEntropy(AbstractRayLoss):
    """Binary entropy of the opacity of rays, in nats: each should be 0 or 1 (VGOS, Sun et al. 2023,
    section 3.3).

    Args:
        weight: factor in the sum of all losses.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    def __init__(self, weight: float = 1e-3, **when: Any) -> None:
        super().__init__(weight, **when)

    def forward(self, step: RayLossInput) -> Tensor:
        stopped = step.rendering.opacity.clamp(1e-5, 1 - 1e-5)
        return -(stopped * stopped.log() + (1 - stopped) * (1 - stopped).log()).mean()
