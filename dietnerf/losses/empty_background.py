"""No density where photographs show the background."""

import warnings
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.data.dataset import ImageDataset
from dietnerf.losses.base import AbstractRayLoss, RayLossInput

NEAR = 0.1  # by how much a channel may differ for a color to be almost the background's
PATCH = 5  # pixels along each side that must all be so: outlines, which are mixed, are narrower
MOST = 0.02  # of what a photograph shows may be such a surface


@final
class EmptyBackground(AbstractRayLoss):
    """Mean squared opacity of rays whose pixel has exactly the color of the background.

    A white cloud before a white background costs the photometric loss nothing, and hides what is
    behind it from other views. The loss needs no alpha, but mistakes spots of an object that have
    the color of the background for holes. So it is switched off, with a warning, where a photograph
    shows surfaces of almost that color, such as a white plate in the sun before a white background.

    Args:
        weight: factor in the sum of all losses.
        tolerance: by how much a channel may differ, in [0, 1].
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    def __init__(self, weight: float = 0.1, tolerance: float = 1 / 512, **when: Any) -> None:
        super().__init__(weight, **when)
        self.tolerance = tolerance
        self.is_fooled = False

    def prepare(self, dataset: ImageDataset, background: Tensor, device: torch.device) -> None:
        shares = [
            _almost_background(dataset.image(i, background), background, self.tolerance)
            for i in range(len(dataset))
        ]
        largest = max(range(len(dataset)), key=shares.__getitem__)
        self.is_fooled = shares[largest] > MOST
        if self.is_fooled:
            warnings.warn(
                f"EmptyBackground does not count: {shares[largest]:.0%} of what "
                f"{dataset.names[largest]} shows is almost of the background's color, so that "
                "spots of exactly that color may be part of it",
                stacklevel=2,
            )

    def weight_at(self, step: int, n_steps: int) -> float:
        return 0.0 if self.is_fooled else super().weight_at(step, n_steps)

    def forward(self, step: RayLossInput) -> Tensor:
        is_empty = (step.target - step.background).abs().amax(dim=1) <= self.tolerance
        loss = (step.rendering.opacity.square() * is_empty).mean()
        if step.coarse is not None:
            loss = loss + (step.coarse.opacity.square() * is_empty).mean()
        return loss


def _almost_background(image: Tensor, background: Tensor, tolerance: float) -> float:
    """The share of what an image (height, width, 3) shows before the background that is a surface
    of almost its color."""
    difference = (image - background).abs().amax(dim=-1)
    is_shown = difference > tolerance
    is_far = (difference > NEAR).float()[None, None]
    has_far_beside = F.max_pool2d(is_far, PATCH, stride=1, padding=PATCH // 2)[0, 0] > 0
    found = (is_shown & ~has_far_beside).sum() / is_shown.sum().clamp(min=1)
    return float(found)
