"""Supervision by depths at which the training photographs agree."""

from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.data.dataset import ImageDataset
from dietnerf.geometry.plane_sweep import nearest_plane, sweep
from dietnerf.geometry.rays import Rays
from dietnerf.losses.known_depth import AbstractDepthLoss

LONGEST = 256  # side of the photographs that are compared, pixels


@final
class StereoDepth(AbstractDepthLoss):
    """Difference of the expected inverse depth from that at which the training photographs agree,
    relative to the range from near to far: depth out of few photos without any given.

    Before the training they are compared by a plane sweep (`geometry/plane_sweep.py`), in seconds;
    pixels whose depth is not found twice do not count. Inverse depths are compared, because that
    is what photographs tell equally well at any distance.

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
        images = [dataset.image(i, background) for i in range(len(dataset))]
        depths = sweep(torch.stack([_resized(image, size) for image in images]), small)
        if dataset.masks is not None:
            is_whole = F.interpolate(dataset.masks[:, None].float(), size, mode="area")[:, 0] == 1
            depths = depths.where(is_whole, 0.0)
        self.know(depths, small, "training photos that show the same from different places")

    def share_of(self, found: Tensor, known: Tensor, rays: Rays) -> Tensor:
        near = nearest_plane(rays.near, rays.far)
        return (1 / found.maximum(near) - 1 / known) / (1 / near - 1 / rays.far)


def _resized(image: Tensor, size: list[int]) -> Tensor:
    """An image (height, width, 3) in another size, averaged."""
    return F.interpolate(image.permute(2, 0, 1)[None], size, mode="area")[0].permute(1, 2, 0)
