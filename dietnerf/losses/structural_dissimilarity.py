"""Rendered views should have the structure of the photographs."""

from typing import Any, final

from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.fields.base import AbstractField, AbstractRadianceField
from dietnerf.losses.base import AbstractRayLoss, RayLossInput
from dietnerf.ops import structural_similarity
from dietnerf.ops.structural_similarity import WINDOW


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

    def check(self, field: AbstractRadianceField) -> None:
        if isinstance(field, AbstractField):
            raise UserError(
                "the loss StructuralDissimilarity compares whole views, and a field is trained on "
                "single rays: leave it out, or train dietnerf.gaussians.Gaussians"
            )

    def forward(self, step: RayLossInput) -> Tensor:
        assert step.size is not None, "whole views have a size"
        if min(step.size) < WINDOW:
            return step.rendering.rgb.new_zeros(())
        x, y = (v.unflatten(0, step.size) for v in (step.rendering.rgb, step.target))
        return 1 - structural_similarity(x, y)
