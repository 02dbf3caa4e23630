"""What can be chosen of the search for where photos were taken from, which needs no torch."""

from dataclasses import dataclass
from typing import Literal

Choice = Literal["auto", "yes", "no"]  # which photos are 360-degree pictures
CHOICES: tuple[Choice, ...] = ("auto", "yes", "no")
FEW = 20  # photos, of which all pairs are matched


@dataclass(frozen=True)
class Quality:
    """Limits of the search for features and of their matching.

    Args:
        longest: longer side of the copies that features are searched in, pixels.
        n_features: most points of a photo; some of them count twice, with two orientations.
        is_doubled: the copies are searched at twice their size as well.
        is_guided: matches are searched once more, along the epipolar lines.
        n_partners: photos that each is matched with, where there are more than `FEW`.
    """

    longest: int
    n_features: int
    is_doubled: bool
    is_guided: bool
    n_partners: int


QUALITIES = {
    "fast": Quality(1200, 2048, is_doubled=False, is_guided=False, n_partners=10),
    "normal": Quality(1600, 4096, is_doubled=True, is_guided=True, n_partners=12),
    "careful": Quality(2400, 8192, is_doubled=True, is_guided=True, n_partners=24),
}
