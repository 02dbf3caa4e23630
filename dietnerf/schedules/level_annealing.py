"""Coarse to fine: bands are enabled one after the other."""

import math
from typing import Literal, final

import torch

from dietnerf.errors import UserError
from dietnerf.fields.base import AbstractField
from dietnerf.geometry.rays import Rays
from dietnerf.schedules.base import AbstractSchedule, Progress, checked_share, require_levels


@final
class LevelAnnealing(AbstractSchedule):
    """Enables levels of a hash grid, or octaves of a frequency encoding, one after the other.

    Level l of L has the weight f(first + (L - first) t - l), where t goes from 0 to 1 and f is 0
    below 0, 1 above 1, and between them x (FreeNeRF, Yang et al. 2023, section 3.3, eq. 4) or (1 -
    cos(pi x)) / 2 (Nerfies, Park et al. 2021, eq. 8).

    Args:
        until: share of the run after which all count.
        first: how many count from the start.
        shape: of f.
        directions: the same for the bands or octaves of the view direction.
    """

    def __init__(
        self,
        until: float = 0.3,
        first: int = 1,
        shape: Literal["cosine", "linear"] = "cosine",
        directions: bool = False,
    ) -> None:
        self.until = checked_share("LevelAnnealing: until", until)
        if first < 0:
            raise UserError(f"LevelAnnealing: first must be at least 0, got {first}")
        self.first = first
        self.shape = shape
        self.directions = directions

    def check(self, field: AbstractField) -> None:
        require_levels(field, type(self).__name__)

    def apply(self, progress: Progress, field: AbstractField, rays: Rays) -> Rays:
        found = field.frequency_bands()
        if self.directions:
            found = [*found, *field.direction_bands()]
        for bands in found:
            n = len(bands.weights)
            first = min(self.first, n)
            joined = first + (n - first) * progress.within(self.until)
            levels = torch.arange(n, device=bands.weights.device)
            share = (joined - levels).clamp(0, 1)
            if self.shape == "cosine":
                share = (1 - torch.cos(math.pi * share)) / 2
            bands.weights.copy_(share)
        return rays
