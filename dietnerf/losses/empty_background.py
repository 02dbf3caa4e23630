"""Where the photograph shows the background, there is nothing."""

from typing import Any, final

from torch import Tensor

from dietnerf.losses.base import AbstractRayLoss, Step


@final
class EmptyBackground(AbstractRayLoss):
    """Mean squared opacity of the rays whose photograph shows exactly the colour that is behind the
    scene.

    A white cloud before a white background costs the photometric loss nothing, and hides what is
    behind it from other views. This takes no transparency from the photographs, but it takes an
    object's own spots of that very colour for holes.

    Args:
        weight: factor in the sum of all losses.
        tolerance: by how much a channel may differ, in [0, 1].
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    def __init__(self, weight: float = 0.1, tolerance: float = 1 / 512, **when: Any) -> None:
        super().__init__(weight, **when)
        self.tolerance = tolerance

    def forward(self, step: Step) -> Tensor:
        is_empty = (step.target - step.background).abs().amax(dim=1) <= self.tolerance
        loss = (step.rendering.opacity.square() * is_empty).mean()
        if step.coarse is not None:
            loss = loss + (step.coarse.opacity.square() * is_empty).mean()
        return loss
