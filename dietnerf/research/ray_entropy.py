"""Rays that meet one surface."""

from typing import Any, final

import torch
from torch import Tensor

from dietnerf.losses.base import AbstractRayLoss, RayLossInput

TINY = 1e-10


@final
class RayEntropy(AbstractRayLoss):
    """Entropy of the normalized weights along a ray, in nats (InfoNeRF, Kim et al. 2022, eq. 7).

    The paper normalizes the opacities of the samples; with weights, what lies behind a surface does
    not count.

    Args:
        weight: factor in the sum of all losses.
        min_opacity: rays that are less opaque than this see the background and do not count.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    needs_samples = True

    def __init__(self, weight: float = 1e-3, min_opacity: float = 0.1, **when: Any) -> None:
        super().__init__(weight, **when)
        self.min_opacity = min_opacity

    def forward(self, step: RayLossInput) -> Tensor:
        rendering = step.rendering
        assert rendering.samples is not None, "training rays are rendered with their samples"
        rays, weights = rendering.samples.ray_indices, rendering.weights
        total = torch.zeros_like(rendering.opacity).index_add(0, rays, weights)
        shares = weights / total.clamp(min=TINY)[rays]
        terms = -shares * (shares + TINY).log()
        entropies = torch.zeros_like(total).index_add(0, rays, terms)
        return (entropies * (rendering.opacity.detach() > self.min_opacity)).mean()
