"""What the photographs of a dataset tell of depth by themselves."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.data.dataset import ImageDataset
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.plane_sweep import sweep

LONGEST = 256  # side of the photographs that are compared, pixels
MOST_PIXELS = 1_000_000  # of all of them: half a minute of one thread
OPAQUE = 0.99  # share of a pixel that counts, from which on it does


@dataclass(frozen=True)
class StereoDepths:
    """Depths at which small copies of the photographs agree (`geometry/plane_sweep.py`).

    Args:
        cameras: of the copies, n of them.
        images: colors in [0, 1], (n, height, width, 3).
        depths: along the axis, 0 where unknown, (n, height, width).
    """

    cameras: Cameras
    images: Tensor
    depths: Tensor

    @classmethod
    def of(cls, dataset: ImageDataset, background: Tensor) -> Self:
        """Computed on the CPU; pixels that do not count, or are transparent, have no depth.

        Args:
            background: the color behind the photographs, (3,).
        """
        width, height, n = dataset.cameras.width, dataset.cameras.height, len(dataset)
        shares = (1.0, LONGEST / max(width, height), (MOST_PIXELS / (n * width * height)) ** 0.5)
        size = [max(1, round(side * min(shares))) for side in (height, width)]
        cameras = dataset.cameras.resized(size[1], size[0])
        images = torch.stack([_resized(dataset.image(i, background), size) for i in range(n)])
        depths = sweep(images, cameras)
        for i, depth in enumerate(depths):
            depth[~_is_photographed(dataset, i, size)] = 0
        return cls(cameras, images, depths)


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
