"""Rendered views should have the structure of the photographs."""

from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.errors import UserError
from dietnerf.fields.base import AbstractField, AbstractRadianceField
from dietnerf.losses.base import AbstractRayLoss, RayLossInput

N_WINDOW, SIGMA = 11, 1.5  # of Wang et al. 2004
C1, C2 = 0.01**2, 0.03**2


@final
class StructuralDissimilarity(AbstractRayLoss):
    """1 - SSIM of whole views (3D Gaussian Splatting, Kerbl et al. 2023, eq. 7, its D-SSIM; SSIM of
    Wang et al. 2004, windows inside the image alone).

    Args:
        weight: factor in the sum of all losses.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    is_graphable = False  # as Gaussians are not

    def __init__(self, weight: float = 0.2, **when: Any) -> None:
        super().__init__(weight, **when)
        offsets = torch.arange(N_WINDOW) - N_WINDOW // 2
        window = torch.exp(-(offsets**2) / (2 * SIGMA**2))
        self.register_buffer("window", window / window.sum(), persistent=False)

    def check(self, field: AbstractRadianceField) -> None:
        if isinstance(field, AbstractField):
            raise UserError(
                "the loss StructuralDissimilarity compares whole views, and a field is trained on "
                "single rays: leave it out, or train dietnerf.gaussians.Gaussians"
            )

    def forward(self, step: RayLossInput) -> Tensor:
        assert step.size is not None, "whole views have a size"
        if min(step.size) < N_WINDOW:
            return step.rendering.rgb.new_zeros(())
        x, y = (v.unflatten(0, step.size) for v in (step.rendering.rgb, step.target))
        with torch.autocast(x.device.type, enabled=False):  # differences of squares need float32
            kind = torch.promote_types(x.dtype, torch.float32)
            return self._dissimilarity(x.to(kind), y.to(kind))

    def _dissimilarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Of two images (height, width, 3)."""
        images = torch.cat([x, y, x * x, y * y, x * y], dim=-1)
        mean_x, mean_y, xx, yy, xy = self._blurred(images).split(3, dim=-1)
        covariance = xy - mean_x * mean_y
        variances = xx - mean_x**2 + yy - mean_y**2
        numerator = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
        return 1 - (numerator / ((mean_x**2 + mean_y**2 + C1) * (variances + C2))).mean()

    def _blurred(self, images: Tensor) -> Tensor:
        """(height, width, n) to (height - 10, width - 10, n)."""
        n = images.shape[-1]
        window = self.get_buffer("window").to(images.dtype).expand(n, 1, 1, -1)
        # Channels last, a group each: on a CPU 50 times as fast as a batch of single channels.
        stacked = images.permute(2, 0, 1)[None]
        down = F.conv2d(stacked, window.transpose(2, 3), groups=n)
        return F.conv2d(down, window, groups=n)[0].permute(1, 2, 0)
