"""Sampling from the middle of rays outward."""

from dataclasses import replace
from typing import final

from dietnerf.errors import UserError
from dietnerf.fields.base import AbstractField
from dietnerf.geometry.rays import Rays
from dietnerf.schedules.base import AbstractSchedule, Progress, checked_share


@final
class NearFarAnnealing(AbstractSchedule):
    """Samples training rays around their middle first, and in the end from near to far, so that no
    density forms before the cameras early in training (RegNeRF, Niemeyer et al. 2022, section 4.3,
    eq. 9 and 10).

    Args:
        until: share of the run after which all of a ray is sampled.
        middle: where the middle is, as a fraction of the distance from near to far.
        first: fraction of that distance that is sampled at the start.
    """

    def __init__(self, until: float = 0.1, middle: float = 0.5, first: float = 0.1) -> None:
        self.until = checked_share("NearFarAnnealing: until", until)
        if not (0 <= middle <= 1 and 0 < first <= 1):
            raise UserError(
                f"NearFarAnnealing: middle is {middle}, first {first}; they must be from 0 to 1, "
                "and first not 0"
            )
        self.middle = middle
        self.first = first

    def apply(self, progress: Progress, field: AbstractField, rays: Rays) -> Rays:
        share = max(self.first, progress.within(self.until))
        if share == 1:
            return rays
        middle = rays.near + self.middle * (rays.far - rays.near)
        near = middle + share * (rays.near - middle)
        return replace(rays, near=near, far=middle + share * (rays.far - middle))
