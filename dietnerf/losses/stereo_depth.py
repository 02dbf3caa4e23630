"""Supervision by depths at which the training photographs agree."""

from typing import final

import torch
from torch import Tensor

from dietnerf.data.dataset import ImageDataset
from dietnerf.data.stereo import StereoDepths
from dietnerf.geometry.rays import Rays
from dietnerf.losses.known_depth import AbstractDepthLoss

LEAST = 0.1  # share of a known depth, below which a rendered one makes no more difference


@final
class StereoDepth(AbstractDepthLoss):
    """Difference of the expected inverse depth from that at which the training photographs agree,
    relative to the largest that they agree on: depth out of few photos without any given.

    Before the training they are compared by a plane sweep (`geometry/plane_sweep.py`), which takes
    about a second a photo; what two others do not confirm does not count. Inverse depths are
    compared, because those are what photographs tell equally well at any distance.

    Args:
        weight: factor in the sum of all losses.
        n_rays: pixels in a step.
        is_optional: where photographs agree nowhere, warn and switch the loss off, instead of
            refusing to train.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    def prepare(self, dataset: ImageDataset, background: Tensor, device: torch.device) -> None:
        found = StereoDepths.of(dataset, background)
        needs = "training photos that show the same from places far enough apart"
        self.keep_known(found.depths, found.cameras, needs)
        if len(self.depths):
            self.largest = float(1 / self.depths.min())

    def share_of(self, found: Tensor, known: Tensor, rays: Rays) -> Tensor:
        least = LEAST * known  # so that rays that end at their camera do not outweigh all others
        return (1 / found.maximum(least) - 1 / known) / self.largest
