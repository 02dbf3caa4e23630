"""Gaussians should be few and small."""

from typing import Any, final

from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.fields.base import AbstractRadianceField
from dietnerf.gaussians import Gaussians
from dietnerf.losses.base import AbstractRegularizer, SceneContext


@final
class GaussianSize(AbstractRegularizer):
    """Mean opacity and mean size of Gaussians, so that those which photographs do not need fade,
    and can be moved ("3D Gaussian Splatting as Markov Chain Monte Carlo", Kheradmand et al. 2024,
    section 4.4).

    Args:
        weight: factor in the sum of all losses.
        size: factor of the standard deviations, as shares of the cameras' extent, beside the
            opacities.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    needs_samples = False

    def __init__(self, weight: float = 0.01, size: float = 1.0, **when: Any) -> None:
        super().__init__(weight, **when)
        if not size >= 0:
            raise UserError(f"GaussianSize: size is {size}; it must be at least 0")
        self.size = size

    def check(self, field: AbstractRadianceField) -> None:
        if not isinstance(field, Gaussians):
            raise UserError(
                f"the loss GaussianSize is for Gaussians, not for {type(field).__name__}: leave it "
                "out"
            )

    def forward(self, context: SceneContext) -> Tensor:
        field = context.field
        assert isinstance(field, Gaussians)
        n = field.n
        sizes = field.log_scales[:n].exp().mean() / field.extent
        return field.opacity_logits[:n].sigmoid().mean() + self.size * sizes
