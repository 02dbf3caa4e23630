"""The loss that trains proposals: they must bound the weights of the field."""

from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.geometry.rays import Histogram
from dietnerf.losses.base import AbstractRayLoss, RayLossInput

EPSILON = 1e-5  # the denominator's, for weights of zero


@final
class Interlevel(AbstractRayLoss):
    """By how much the weights of a ray exceed those of the proposal that its samples were drawn
    from (mip-NeRF 360, eq. 13), the mean over rays. It trains the sampler `Proposal`, and leaves
    the field as it is.

    Args:
        weight: factor in the sum of all losses.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    needs_samples = True

    def __init__(self, weight: float = 1.0, **when: Any) -> None:
        super().__init__(weight, **when)

    def forward(self, step: RayLossInput) -> Tensor:
        samples = step.rendering.samples
        assert samples is not None, "training rays are rendered with their samples"
        assert samples.proposal is not None, "the system checks that the sampler proposes"
        weights, ts, half = (
            values.view(len(samples.rays), -1)
            for values in (step.rendering.weights.detach(), samples.ts, samples.deltas / 2)
        )
        bound = _mass_around(samples.proposal, ts - half, ts + half)
        excess = F.relu(weights - bound).square() / (weights + EPSILON)
        return excess.sum(dim=1).mean()


def _mass_around(proposal: Histogram, starts: Tensor, ends: Tensor) -> Tensor:
    """The weight of all intervals of a proposal that overlap others (n_rays, n)."""
    mass = F.pad(proposal.weights.cumsum(dim=1), (1, 0))
    first = torch.searchsorted(proposal.edges, starts.contiguous(), right=True) - 1
    last = torch.searchsorted(proposal.edges, ends.contiguous())
    n = proposal.weights.shape[1]
    return mass.gather(1, last.clamp(max=n)) - mass.gather(1, first.clamp(min=0))
