"""Coarse things first: details join in as training goes on."""

import math
from typing import Literal, final

import torch

from dietnerf.errors import UserError
from dietnerf.fields.base import AbstractField
from dietnerf.geometry.rays import Rays
from dietnerf.schedules.base import AbstractSchedule, Progress, checked_share

NO_LEVELS = "{}: {} has no levels of detail to anneal"


@final
class LevelAnnealing(AbstractSchedule):
    """Levels of a hash grid, or octaves of a frequency encoding, join in one after the other.

    Level l of L counts f(first + (L - first) t - l), where t goes from 0 to 1 and f is 0 below 0, 1
    above 1, and between them x (FreeNeRF, Yang et al. 2023, section 3.3, eq. 4) or (1 - cos(pi x))
    / 2 (Nerfies, Park et al. 2021, eq. 8).

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
        if not field.details():
            raise UserError(NO_LEVELS.format(type(self).__name__, type(field).__name__))

    def apply(self, progress: Progress, field: AbstractField, rays: Rays) -> Rays:
        found = field.details()
        if self.directions:
            found = [*found, *field.direction_details()]
        for details in found:
            n = len(details.weights)
            first = min(self.first, n)
            joined = first + (n - first) * progress.within(self.until)
            levels = torch.arange(n, device=details.weights.device)
            share = (joined - levels).clamp(0, 1)
            if self.shape == "cosine":
                share = (1 - torch.cos(math.pi * share)) / 2
            details.weights.copy_(share)
        return rays


@final
class RadiusAnnealing(AbstractSchedule):
    """Points are balls that shrink, and what is finer than a ball fades.

    A level whose cells have edges c counts erf(c / (sqrt(8) sigma)) (Zip-NeRF, Barron et al. 2023,
    eq. 8), where sigma is the radius: r 2^(-v i) in the i-th of N equal parts of the annealing
    (SANeRF, Xiao et al. 2025, section 3.2), then nothing.

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
        if not field.details():
            raise UserError(NO_LEVELS.format(type(self).__name__, type(field).__name__))

    def apply(self, progress: Progress, field: AbstractField, rays: Rays) -> Rays:
        share = progress.within(self.until)
        sigma = self.radius / 2 ** (self.rate * math.floor(share * self.parts))
        for details in field.details():
            if share == 1:
                details.weights.fill_(1.0)
            else:
                details.weights.copy_(torch.erf(details.sizes / (math.sqrt(8) * sigma)))
        return rays


@final
class DirectionAnnealing(AbstractSchedule):
    """Colours may depend on the view direction coarsely at first, or for good.

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
        if not field.direction_details():
            raise UserError(
                f"DirectionAnnealing: {type(field).__name__} has no view direction to anneal"
            )

    def apply(self, progress: Progress, field: AbstractField, rays: Rays) -> Rays:
        is_over = self.until < 1 and progress.within(self.until) == 1
        for details in field.direction_details():
            bands = torch.arange(len(details.weights), device=details.weights.device)
            details.weights.copy_((bands < self.n_bands) | is_over)
        return rays
