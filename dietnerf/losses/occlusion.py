"""Nothing should hang in front of the lens."""

from typing import Any, final

from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.losses.base import AbstractRayLoss, RayLossInput


@final
class Occlusion(AbstractRayLoss):
    """Weight of the samples near the camera, the mean over rays (FreeNeRF, Yang et al. 2023,
    section 3.4, eq. 6).

    The paper sums up the densities of the first samples; here their weights are, which grow alike
    where nothing is in front of them and do not depend on how many samples there are.

    Args:
        weight: factor in the sum of all losses.
        share: of the way from near to far that counts as near the camera.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    def __init__(self, weight: float = 0.01, share: float = 0.1, **when: Any) -> None:
        super().__init__(weight, **when)
        if not 0 < share <= 1:
            raise UserError(f"Occlusion: share must be in (0, 1], got {share}")
        self.share = share

    def forward(self, step: RayLossInput) -> Tensor:
        samples = step.rendering.samples
        assert samples is not None, "training rays are rendered with their samples"
        rays = samples.rays
        until = rays.near + self.share * (rays.far - rays.near)
        is_near = samples.ts < until[samples.ray_indices]
        return (step.rendering.weights * is_near).sum() / len(rays)
