"""What a step of training saw."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.geometry.rays import Rendering
from dietnerf.training.datamodule import RayBatch


@dataclass(frozen=True)
class Seen:
    """Training rays as they are and as the field sees them.

    Args:
        opacity: (n_rays,).
        rgb: the rendered colours, (n_rays, 3).
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
    def of(cls, rendering: Rendering, batch: RayBatch) -> "Seen":
        opacity, rgb = rendering.opacity.detach(), rendering.rgb.detach()
        depth = rendering.depth.detach() / batch.rays.near
        return cls(opacity, rgb, batch.rgb, batch.background, depth)

    @classmethod
    def cat(cls, parts: "list[Seen]") -> "Seen":
        return cls(*map(torch.cat, zip(*(part.tensors() for part in parts), strict=True)))

    def tensors(self) -> list[Tensor]:
        return [getattr(self, field.name) for field in fields(self)]

    def cpu(self) -> "Seen":
        """Once there, questions of it neither wait for a device nor are compiled for one."""
        return Seen(*(tensor.cpu() for tensor in self.tensors()))

    def mse(self) -> Tensor:
        return F.mse_loss(self.rgb, self.target)
