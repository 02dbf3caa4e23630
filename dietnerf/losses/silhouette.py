"""Supervision by the alpha of photographs."""

from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.data.dataset import ImageDataset, require_alpha
from dietnerf.losses.base import AbstractRayLoss, RayLossInput


@final
class Silhouette(AbstractRayLoss):
    """Mean squared error of the opacity of training rays, against the alpha of the photographs.

    This is more supervision than the paper has; random backgrounds supervise the same through
    colors alone.

    Args:
        weight: factor in the sum of all losses.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    def __init__(self, weight: float = 0.1, **when: Any) -> None:
        super().__init__(weight, **when)

    def prepare(self, dataset: ImageDataset, background: Tensor, device: torch.device) -> None:
        require_alpha(dataset, "the loss Silhouette")

    def forward(self, step: RayLossInput) -> Tensor:
        assert step.alpha is not None, "prepare() has seen to it"
        loss = F.mse_loss(step.rendering.opacity, step.alpha)
        if step.coarse is not None:
            loss = loss + F.mse_loss(step.coarse.opacity, step.alpha)
        return loss
