"""Colors first, then how they depend on the view."""

from typing import final

import torch

from dietnerf.errors import UserError
from dietnerf.fields.base import AbstractField
from dietnerf.geometry.rays import Rays
from dietnerf.schedules.base import AbstractSchedule, Progress, checked_share


@final
class DirectionAnnealing(AbstractSchedule):
    """Colors depend on the view direction through few bands at first, or for the whole run.

    Args:
        n_bands: how many bands of spherical harmonics, or octaves, count at first.
        until: share of the run after which all count; 1 for never (SANeRF).
    """

    def __init__(self, n_bands: int = 1, until: float = 0.5) -> None:
        if n_bands < 0:
            raise UserError(f"DirectionAnnealing: n_bands must be at least 0, got {n_bands}")
        self.n_bands = n_bands
        self.until = checked_share("DirectionAnnealing: until", until)

    def check(self, field: AbstractField) -> None:
        if not field.direction_bands():
            raise UserError(
                f"DirectionAnnealing: {type(field).__name__} has no view direction to anneal"
            )

    def apply(self, progress: Progress, field: AbstractField, rays: Rays) -> Rays:
        is_over = self.until < 1 and progress.within(self.until) == 1
        for bands in field.direction_bands():
            numbers = torch.arange(len(bands.weights), device=bands.weights.device)
            bands.weights.copy_((numbers < self.n_bands) | is_over)
        return rays
