"""Statistics of training rays: rendered and photographed values."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.data.ray_sampling import RayBatch
from dietnerf.geometry.rays import Rendering


@dataclass(frozen=True)
class RayStats:
    """Training rays as rendered and as photographed, without gradients.

    Args:
        opacity: (n_rays,).
        rgb: the rendered colors, (n_rays, 3).
        target: the photographed ones, (n_rays, 3).
        background: (n_rays, 3).
        depth: in units of near, (n_rays,).
    """

    opacity: Tensor
    rgb: Tensor
    target: Tensor
    background: Tensor
    depth: Tensor

    @classmethod
    def of(cls, rendering: Rendering, batch: RayBatch) -> "RayStats":
        opacity, rgb = rendering.opacity.detach(), rendering.rgb.detach()
        depth = rendering.depth.detach() / batch.rays.near
        return cls(opacity, rgb, batch.rgb, batch.background, depth)

    @classmethod
    def cat(cls, parts: "list[RayStats]") -> "RayStats":
        return cls(*map(torch.cat, zip(*(part.tensors() for part in parts), strict=True)))

    def tensors(self) -> list[Tensor]:
        return [getattr(self, field.name) for field in fields(self)]

    def cpu(self) -> "RayStats":
        """On the CPU, where reading a value neither waits for a device nor is compiled for it."""
        return RayStats(*(tensor.cpu() for tensor in self.tensors()))

    def mse(self) -> Tensor:
        return F.mse_loss(self.rgb, self.target)
