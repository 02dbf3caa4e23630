"""Coarse to fine: bands finer than a shrinking ball are damped."""

import math
from typing import final

import torch

from dietnerf.errors import UserError
from dietnerf.fields.base import AbstractField
from dietnerf.geometry.rays import Rays
from dietnerf.schedules.base import AbstractSchedule, Progress, checked_share, require_levels


@final
class RadiusAnnealing(AbstractSchedule):
    """Treats samples as shrinking balls, and damps the bands that are finer than a ball.

    A level whose cells have edges c has the weight erf(c / (sqrt(8) sigma)) (Zip-NeRF, Barron et
    al. 2023, eq. 8), where sigma is the radius: r 2^(-v i) in the i-th of N equal parts of the
    annealing (SANeRF, Xiao et al. 2025, section 3.2), then nothing.

    Args:
        until: share of the run after which points are points.
        radius: r, as a share of the longest side of the box.
        rate: v.
        parts: N.
    """

    def __init__(
        self, until: float = 0.8, radius: float = 0.05, rate: float = 0.2, parts: int = 30
    ) -> None:
        self.until = checked_share("RadiusAnnealing: until", until)
        if parts < 1 or not (radius > 0 and rate >= 0):
            raise UserError(
                f"RadiusAnnealing: radius is {radius}, rate {rate}, parts {parts}; they must be "
                "above 0, at least 0, and at least 1"
            )
        self.radius = radius
        self.rate = rate
        self.parts = parts

    def check(self, field: AbstractField) -> None:
        require_levels(field, type(self).__name__)

    def apply(self, progress: Progress, field: AbstractField, rays: Rays) -> Rays:
        share = progress.within(self.until)
        sigma = self.radius / 2 ** (self.rate * math.floor(share * self.parts))
        for bands in field.frequency_bands():
            if share == 1:
                bands.weights.fill_(1.0)
            else:
                bands.weights.copy_(torch.erf(bands.sizes / (math.sqrt(8) * sigma)))
        return rays
