"""Supervision by depth maps or sparse points."""

from typing import final

import torch
from torch import Tensor

from dietnerf.data.dataset import ImageDataset
from dietnerf.geometry.rays import Rays
from dietnerf.losses.known_depth import AbstractDepthLoss


@final
class Depth(AbstractDepthLoss):
    """Difference of the expected depth from depth maps or sparse points, relative to the distance
    from near to far, the mean over random pixels of known depth (DS-NeRF, Deng et al. 2022, section
    4.1, with the absolute difference in place of the KL divergence, and a smooth corner).

    Transmitted light counts as if it ended at far, so that rays have to become opaque, too.

    Args:
        weight: factor in the sum of all losses.
        n_rays: pixels in a step.
        is_optional: where no training photo has known depths, warn and switch the loss off, instead
            of refusing to train.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    def prepare(self, dataset: ImageDataset, background: Tensor, device: torch.device) -> None:
        depths = torch.zeros(dataset.images.shape[:3]) if dataset.depths is None else dataset.depths
        if dataset.masks is not None:
            depths = depths.where(dataset.masks, 0.0)
        needs = "depth maps or sparse points, which the training photos lack"
        self.keep_known(depths, dataset.cameras, needs)

    def share_of(self, found: Tensor, known: Tensor, rays: Rays) -> Tensor:
        return (found - known) / (rays.far - rays.near)
