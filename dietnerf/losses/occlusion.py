"""No density right in front of the cameras."""

from typing import Any, final

from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.losses.base import AbstractRayLoss, RayLossInput


@final
class Occlusion(AbstractRayLoss):
    """Weight of the samples near the camera, the mean over rays (FreeNeRF, Yang et al. 2023,
    section 3.4, eq. 6).

    The paper sums the densities of the first samples; here it is their weights, which are
    proportional to them where nothing is in front, and do not depend on the number of samples.

    Args:
        weight: factor in the sum of all losses.
        share: fraction of the distance from near to far that counts as near the camera.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    needs_samples = True

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
