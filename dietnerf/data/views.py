"""Which few views of a capture are kept. Every rule is deterministic and gives an order, too."""

import math
from abc import ABC, abstractmethod
from typing import final

import numpy as np
import torch
from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras


class AbstractViewSelector(ABC):
    """Chooses views. To add a rule, write one final subclass."""

    @abstractmethod
    def choose(self, cameras: Cameras, view_ids: Tensor) -> list[int]:
        """Positions of the views that are kept, in order.

        Args:
            cameras: all n cameras of the split.
            view_ids: their numbers, int64, (n,), as in `ImageDataset.view_ids`.

        Raises:
            UserError: there are too few views, or no view of the wanted number.
        """


@final
class AllViews(AbstractViewSelector):
    """Every view."""

    def choose(self, cameras: Cameras, view_ids: Tensor) -> list[int]:
        return list(range(len(cameras)))


@final
class FirstViews(AbstractViewSelector):
    """The first n.

    Args:
        n: number of views.
    """

    def __init__(self, n: int) -> None:
        self.n = _checked(n)

    def choose(self, cameras: Cameras, view_ids: Tensor) -> list[int]:
        _require(self.n, len(cameras))
        return list(range(self.n))


@final
class EvenViews(AbstractViewSelector):
    """n evenly spaced views, the first and the last among them: the few-view protocol of the LLFF
    scenes (RegNeRF, Niemeyer et al. 2022).

    Args:
        n: number of views.
    """

    def __init__(self, n: int) -> None:
        self.n = _checked(n)

    def choose(self, cameras: Cameras, view_ids: Tensor) -> list[int]:
        _require(self.n, len(cameras))
        return [round(float(x)) for x in np.linspace(0, len(cameras) - 1, self.n)]


@final
class RandomViews(AbstractViewSelector):
    """n views drawn as in DietNeRF: seed NumPy, then `np.random.choice(all, n, replace=False)`.

    Seed 0 gives the paper's 8 of 100 views in all eight Blender scenes: 26, 86, 2, 55, 75, 93, 16,
    73. This seed is apart from the one of the weights, so that runs can be repeated on the same
    views.

    Args:
        n: number of views.
        seed: of the draw, for NumPy.
    """

    def __init__(self, n: int, seed: int = 0) -> None:
        if not 0 <= seed < 2**32:
            raise UserError(f"the view seed is {seed}; NumPy takes 0 to 2**32 - 1")
        self.n = _checked(n)
        self.seed = seed

    def choose(self, cameras: Cameras, view_ids: Tensor) -> list[int]:
        _require(self.n, len(cameras))
        return _draw(self.seed, len(cameras), self.n)


@final
class ExplicitViews(AbstractViewSelector):
    """The views of the given numbers.

    DietNeRF's experiment with one unseen side of lego uses 2, 5, 8, 9, 10, 16, 34, 35, 40, 52, 53,
    54, 58, 60.

    Args:
        ids: numbers of the views in the full list of their split, from 0.
    """

    def __init__(self, ids: list[int]) -> None:
        if not ids:
            raise UserError("ids is empty: name at least one view")
        repeated = sorted({i for i in ids if ids.count(i) > 1})
        if repeated:
            raise UserError(f"ids names view {repeated[0]} more than once: name each view once")
        self.ids = ids

    def choose(self, cameras: Cameras, view_ids: Tensor) -> list[int]:
        positions = {int(number): position for position, number in enumerate(view_ids)}
        for number in self.ids:
            if number not in positions:
                raise UserError(
                    f"ids names view {number}, but the {len(positions)} views of this scene "
                    f"are numbered {min(positions)} to {max(positions)}"
                )
        return [positions[number] for number in self.ids]


@final
class FarthestViews(AbstractViewSelector):
    """n cameras far from one another: each next one is the farthest from those before it.

    Args:
        n: how many.
        first: position of the view to start from.
    """

    def __init__(self, n: int, first: int = 0) -> None:
        self.n = _checked(n)
        self.first = first

    def choose(self, cameras: Cameras, view_ids: Tensor) -> list[int]:
        _require(self.n, len(cameras))
        if not 0 <= self.first < len(cameras):
            raise UserError(
                f"first={self.first} is not among the {len(cameras)} views, count from 0"
            )
        chosen = [self.first]
        distances = torch.full((len(cameras),), math.inf)
        while len(chosen) < self.n:
            last = cameras.positions[chosen[-1]]
            distances = torch.minimum(distances, (cameras.positions - last).norm(dim=-1))
            distances[chosen] = -1.0  # cameras at one place must not be chosen twice
            chosen.append(int(distances.argmax()))
        return chosen


@final
class OneSideViews(AbstractViewSelector):
    """n views from one side of the scene, so that the other side stays unseen.

    Args:
        n: how many, drawn from those on that side.
        azimuth_deg: middle of the side: angle about the z axis from the x axis, seen from the
            world's origin.
        width_deg: angle that the side spans, up to 360.
        seed: of the draw.
    """

    def __init__(
        self, n: int, azimuth_deg: float = 0.0, width_deg: float = 180.0, seed: int = 0
    ) -> None:
        if not 0 < width_deg <= 360:
            raise UserError(f"width_deg must be in (0, 360], got {width_deg}")
        self.n = _checked(n)
        self.azimuth_deg, self.width_deg = azimuth_deg, width_deg
        self.seed = seed

    def choose(self, cameras: Cameras, view_ids: Tensor) -> list[int]:
        x, y, _ = cameras.positions.unbind(-1)
        away = torch.rad2deg(torch.atan2(y, x)) - self.azimuth_deg
        away = (away + 180) % 360 - 180
        side = (away.abs() <= self.width_deg / 2).nonzero().squeeze(-1).tolist()
        _require(
            self.n, len(side), f" within {self.width_deg / 2:g} degrees of {self.azimuth_deg:g}"
        )
        return [side[i] for i in _draw(self.seed, len(side), self.n)]


def _draw(seed: int, n_all: int, n: int) -> list[int]:
    """n different numbers below n_all; RandomState promises to draw them so in every version."""
    state = np.random.RandomState(seed)
    return [int(i) for i in state.choice(n_all, n, replace=False)]


def _checked(n: int) -> int:
    if n < 1:
        raise UserError(f"n, the number of views, must be at least 1, got {n}")
    return n


def _require(n: int, available: int, where: str = "") -> None:
    if n > available:
        raise UserError(f"n={n} views are wanted, but there are {available}{where}: ask for fewer")
