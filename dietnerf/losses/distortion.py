"""Concentrated weights along each ray."""

from typing import Any, final

from torch import Tensor

from dietnerf.geometry.rays import Rendering
from dietnerf.losses.base import AbstractRayLoss, RayLossInput
from dietnerf.ops import distortion


@final
class Distortion(AbstractRayLoss):
    """How far the weights of a ray are spread out, as a fraction of the distance from near to far
    (mip-NeRF 360, eq. 15), the mean over rays.

    Early in training it makes surfaces form too soon: give it a `ramp`.

    Args:
        weight: factor in the sum of all losses.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    needs_samples = True

    def __init__(self, weight: float = 0.01, **when: Any) -> None:
        super().__init__(weight, **when)

    def forward(self, step: RayLossInput) -> Tensor:
        loss = _distortion(step.rendering)
        return loss if step.coarse is None else loss + _distortion(step.coarse)


def _distortion(rendering: Rendering) -> Tensor:
    samples = rendering.samples
    assert samples is not None, "training rays are rendered with their samples"
    found = distortion(rendering.weights, samples.ts, samples.deltas, samples.ray_offsets)
    return (found / (samples.rays.far - samples.rays.near)).mean()
