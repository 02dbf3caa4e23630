"""Supervision by depths at which the training photographs agree."""

from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.data.dataset import ImageDataset
from dietnerf.geometry.plane_sweep import sweep
from dietnerf.geometry.rays import Rays
from dietnerf.losses.known_depth import AbstractDepthLoss

LONGEST = 256  # side of the photographs that are compared, pixels
OPAQUE = 0.99  # share of a pixel that counts, from which on it does
LEAST = 0.1  # share of a known depth, below which a rendered one makes no more difference


@final
class StereoDepth(AbstractDepthLoss):
    """Difference of the expected inverse depth from that at which the training photographs agree,
    relative to the largest that they agree on: depth out of few photos without any given.

    Before the training they are compared by a plane sweep (`geometry/plane_sweep.py`), which takes
    a second a photo; what two others do not confirm does not count. Inverse depths are compared,
    because those are what photographs tell equally well at any distance.

    Args:
        weight: factor in the sum of all losses.
        n_rays: pixels in a step.
        is_optional: where photographs agree nowhere, warn and switch the loss off, instead of
            refusing to train.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    def prepare(self, dataset: ImageDataset, background: Tensor, device: torch.device) -> None:
        cameras = dataset.cameras
        scale = min(1.0, LONGEST / max(cameras.width, cameras.height))
        size = [max(1, round(side * scale)) for side in (cameras.height, cameras.width)]
        small = cameras.resized(size[1], size[0])
        images = [_resized(dataset.image(i, background), size) for i in range(len(dataset))]
        depths = sweep(torch.stack(images), small)
        for i, depth in enumerate(depths):
            depth[~_is_photographed(dataset, i, size)] = 0
        needs = "training photos that show the same from different places"
        self.keep_known(depths, small, needs)
        if len(self.depths):
            self.largest = float(1 / self.depths.min())

    def share_of(self, found: Tensor, known: Tensor, rays: Rays) -> Tensor:
        least = LEAST * known  # so that rays that end at their camera do not outweigh all others
        return (1 / found.maximum(least) - 1 / known) / self.largest


def _resized(image: Tensor, size: list[int]) -> Tensor:
    """An image (height, width, channels) in another size, averaged."""
    return F.interpolate(image.permute(2, 0, 1)[None], size, mode="area")[0].permute(1, 2, 0)


def _is_photographed(dataset: ImageDataset, index: int, size: list[int]) -> Tensor:
    """Whether all of a small pixel counts and is opaque, (height, width)."""
    alpha = dataset.alpha(dataset.images[index])
    counts = torch.ones(dataset.images.shape[1:3]) if alpha is None else alpha
    if dataset.masks is not None:
        counts = counts * dataset.masks[index]
    return _resized(counts[..., None], size)[..., 0] > OPAQUE
