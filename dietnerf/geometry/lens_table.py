"""Fast undistortion of pixels: a table of initial guesses for each lens, and a few steps of
Newton's method."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from dietnerf.geometry.lenses import TOLERANCE, Lenses, Slopes, applied

N_CELLS = 96  # of a table, along each side
MOST_STEPS = 3  # with more, Newton's method is as fast


@dataclass(frozen=True)
class LensTable:
    """Guesses on a grid over what each of m lenses shows.

    Args:
        lenses: m of them.
        low: the least x and y of each grid, (2, m), float64.
        scale: cells of each grid for a unit of places, (2, m).
        guesses: for every cell the quadratic that u is about there, and how u changes with places
            in the middle of it, (m * N_CELLS**2, 12): x and y at place (0, 0), the `Slopes` there,
            the second derivatives; the `Slopes` in the middle.
        n_steps: how many corrections find all that lies in the cells, or None where guesses do not
            do: few would not be enough, or a lens does not reach as far as its grid.
    """

    lenses: Lenses
    low: Tensor
    scale: Tensor
    guesses: Tensor
    n_steps: int | None

    @classmethod
    def of(cls, lenses: Lenses, low: Tensor, high: Tensor) -> Self:
        """For places from `low` to `high`, (m, 2) each."""
        low, high = low.double().t(), high.double().t()
        scale = N_CELLS / (high - low)
        guesses, n_steps, has_edge = [], 1, False
        for i in range(low.shape[1]):
            lens = lenses[torch.tensor([i])]
            middles, corners = (_grid(low[:, i], scale[:, i], first) for first in (0.5, 0.0))
            u, is_shown = lens.find(middles)
            slopes = torch.stack(lens.inverse_slopes(u))
            guesses.append(torch.cat([_quadratic(u, slopes, middles, scale[:, i]), slopes]).t())
            n_steps = max(n_steps, _steps(lens, guesses[-1], corners))
            has_edge = has_edge or not bool(is_shown.all())
        is_good = n_steps <= MOST_STEPS and not has_edge
        return cls(lenses, low, scale, torch.cat(guesses), n_steps if is_good else None)

    def undistort(self, ids: Tensor, places: Tensor) -> Tensor:
        """As `Lenses.undistort`, for lenses `ids` (n,) and places (n, 2) within their grids."""
        lenses, low, scale = self.lenses, self.low, self.scale
        if low.shape[1] > 1:
            lenses, low, scale = lenses[ids], low[:, ids], scale[:, ids]
        if self.n_steps is None:
            return lenses.undistort(places)[0]
        goal = torch.stack([values.double() for values in places.unbind(-1)])
        column, row = ((goal - low) * scale).long().clamp_(0, N_CELLS - 1)
        number = torch.add(column, row, alpha=N_CELLS)
        if low.shape[1] > 1:
            number = torch.add(number, ids, alpha=N_CELLS**2)
        u, slopes = _guess(self.guesses.index_select(0, number), goal)
        for _ in range(self.n_steps):
            u = u + torch.stack(applied(slopes, goal - lenses.distorted(u)))
        return torch.stack(lenses.opened(u).to(places.dtype).unbind(), dim=-1)


def _quadratic(u: Tensor, slopes: Tensor, middles: Tensor, scale: Tensor) -> Tensor:
    """Coefficients about place (0, 0), (9, n_cells), from u (2, n_cells) and slopes (3, n_cells) in
    the middles of cells. As `Slopes` are symmetric everywhere, four second derivatives are all."""
    grid = slopes.view(3, N_CELLS, N_CELLS)
    by_y, by_x = (change.flatten(1) for change in torch.gradient(grid, dim=(1, 2)))
    by_x, by_y = by_x * scale[0], by_y * scale[1]
    xxx, xxy, xyy, yyy = by_x[0], by_y[0], by_x[1], by_y[1]
    x, y = middles
    at_zero = slopes - torch.stack([xxx * x + xxy * y, xyy * x + yyy * y, xxy * x + xyy * y])
    second = torch.stack([xxx / 2, xxy, xyy, yyy / 2])
    from_zero = torch.cat([torch.zeros_like(u), at_zero, second, slopes])
    start = u - _guess(from_zero.t(), middles)[0]
    return torch.cat([start, at_zero, second])


def _guess(coefficients: Tensor, goal: Tensor) -> tuple[Tensor, Slopes]:
    """The u that coefficients (n, 12) say for goals (2, n), and the slopes in their cells."""
    x, y = goal
    start_x, start_y, xx, yy, xy, xxx, xxy, xyy, yyy, *slopes = coefficients.unbind(-1)
    half_x, half_y = 0.5 * x, 0.5 * y
    from_x = torch.addcmul(torch.addcmul(xx, xxx, x), xxy, y)
    from_y = torch.addcmul(torch.addcmul(yy, yyy, y), xyy, x)
    u = torch.stack(
        [
            torch.addcmul(torch.addcmul(start_x, from_x, x), torch.addcmul(xy, xyy, half_y), y),
            torch.addcmul(torch.addcmul(start_y, from_y, y), torch.addcmul(xy, xxy, half_x), x),
        ]
    )
    return u, (slopes[0], slopes[1], slopes[2])


def _grid(low: Tensor, scale: Tensor, first: float) -> Tensor:
    """A place in every cell, `first` of its side from its upper left, row by row, (2, n_cells)."""
    steps = torch.arange(N_CELLS, device=low.device, dtype=low.dtype) + first
    x, y = low[:, None] + steps / scale[:, None]
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns.flatten(), rows.flatten()])


def _steps(lens: Lenses, guesses: Tensor, goal: Tensor) -> int:
    """How many corrections lead to goals (2, n), one in each cell, where there is something."""
    found, is_shown = lens.find(goal)
    u, slopes = _guess(guesses, goal)
    for n in range(1, MOST_STEPS + 1):
        u = u + torch.stack(applied(slopes, goal - lens.distorted(u)))
        if ((u - found)[:, is_shown].abs() < TOLERANCE).all():
            return n
    return MOST_STEPS + 1
