"""A ray should meet something solid, or nothing."""

from typing import Any, final

from torch import Tensor

from dietnerf.losses.base import AbstractRayLoss, RayLossInput


@final
class OpacityEntropy(AbstractRayLoss):
    """Entropy of whether a ray stops the light, in nats: it should stop all of it or none (VGOS,
    Sun et al. 2023, section 3.3).

    Args:
        weight: factor in the sum of all losses.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    def __init__(self, weight: float = 1e-3, **when: Any) -> None:
        super().__init__(weight, **when)

    def forward(self, step: RayLossInput) -> Tensor:
        stopped = step.rendering.opacity.clamp(1e-5, 1 - 1e-5)
        return -(stopped * stopped.log() + (1 - stopped) * (1 - stopped).log()).mean()
