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
        x, y = (
            values.T.unflatten(1, step.size)[None] for values in (step.rendering.rgb, step.target)
        )
        with torch.autocast(x.device.type, enabled=False):  # differences of squares need float32
            kind = torch.promote_types(x.dtype, torch.float32)
            return self._dissimilarity(x.to(kind), y.to(kind))

    def _dissimilarity(self, x: Tensor, y: Tensor) -> Tensor:
        mean_x, mean_y, xx, yy, xy = self._blurred(torch.cat([x, y, x * x, y * y, x * y])).unbind()
        covariance = xy - mean_x * mean_y
        variances = xx - mean_x**2 + yy - mean_y**2
        numerator = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
        return 1 - (numerator / ((mean_x**2 + mean_y**2 + C1) * (variances + C2))).mean()

    def _blurred(self, images: Tensor) -> Tensor:
        """(n, 3, height, width) to (n, 3, height - 10, width - 10)."""
        flat = images.flatten(0, 1)[:, None]
        window = self.get_buffer("window").to(flat.dtype)
        down = F.conv2d(flat, window.view(1, 1, -1, 1))
        return F.conv2d(down, window.view(1, 1, 1, -1))[:, 0].unflatten(0, (len(images), 3))
