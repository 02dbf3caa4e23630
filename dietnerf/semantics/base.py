"""Image encoders: embeddings that are close where images show the same thing."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F


class AbstractImageEncoder(ABC):
    """Embeds images as unit vectors that are close to each other where the images show the same. To
    add one, write one file with one final subclass.

    No module: its weights are fixed, and belong into no checkpoint and no optimizer. They are
    loaded before training, not when the object is made, so that a scene renders without them.
    """

    @abstractmethod
    def load(self, device: torch.device) -> None:
        """Load the weights onto a device. Called once, before training.

        Raises:
            UserError: the weights are missing or unreadable.
        """

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Features of images in [0, 1] (n, 3, height, width) of any size: (n, n_features).

        Differentiable in the images.
        """

    def __call__(self, images: Tensor) -> Tensor:
        """Unit vectors, float32, (n, n_features)."""
        with torch.autocast(images.device.type, enabled=False):  # the encoder has its own precision
            return F.normalize(self.features(images.float()).float(), dim=-1)
