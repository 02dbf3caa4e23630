"""What a lens does to an image: places on the plane at distance 1 before the camera, x right and y
down, go to where a real lens shows them, and back.

One form holds for all lenses. With u = (x, y), or for a fisheye u = (x, y) theta / tan(theta) where
theta is the angle from the axis, and r = |u|:

    radial = (1 + k1 r^2 + k2 r^4 + k3 r^6 + k4 r^8) / (1 + q1 r^2 + q2 r^4 + q3 r^6)
    x' = x_u radial + 2 p1 x_u y_u + p2 (r^2 + 2 x_u^2)
    y' = y_u radial + 2 p2 x_u y_u + p1 (r^2 + 2 y_u^2)

This is OpenCV's camera (its k4, k5, k6 are q1, q2, q3 here) and its fisheye camera, and so
COLMAP's and nerfstudio's.
"""

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

COEFFICIENTS = ("k1", "k2", "k3", "k4", "p1", "p2", "q1", "q2", "q3")
WIDEST = 1.48  # angle from the axis, radians: rays have length one along the axis
N_PROBES = 512  # where it is tried how far out a lens still spreads the image
N_ITERATIONS = 20  # of Newton's method; five do for common lenses
FINE = 1e-9  # a step of Newton's method that ends it: the error left is its square
TOLERANCE = 1e-8  # of a place that is found


@dataclass(frozen=True)
class Lenses:
    """Lenses of cameras or of pixels; the functions broadcast over the leading dimensions.

    Args:
        distortion: the nine `COEFFICIENTS`, (..., 9), float64.
        is_fisheye: whether they count by angle, (...).
        reach: largest r at which a place farther out is also shown farther out, (...).
    """

    distortion: Tensor
    is_fisheye: Tensor
    reach: Tensor

    @classmethod
    def of(cls, distortion: Tensor, is_fisheye: Tensor) -> Self:
        """Of coefficients (n, 9) and kinds (n,)."""
        distortion = distortion.double()
        widest = torch.full_like(distortion[:, 0], WIDEST)
        widest = torch.where(is_fisheye, widest, widest.tan())
        r = torch.linspace(0, 1, N_PROBES, device=widest.device) * widest[:, None]
        factor, slope = _radial(r * r, distortion[:, None])
        rises = (factor + 2 * r * r * slope > 0) & (factor > 0)
        n_rising = rises.long().cumprod(dim=1).sum(dim=1)  # up to the first that does not
        reach = r.gather(1, (n_rising - 1).clamp(min=0)[:, None])[:, 0]
        return cls(distortion, is_fisheye, reach)

    def __getitem__(self, index: Tensor | tuple[slice | None, ...]) -> Self:
        return type(self)(*(getattr(self, field.name)[index] for field in fields(self)))

    def distort(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Where pinhole places (..., 2) are shown, and whether the lens shows them, (...)."""
        u = places.double()
        r = u.norm(dim=-1)
        angular = torch.where(r > 0, r.atan() / r.clamp(min=1e-30), 1.0)
        u = torch.where(self.is_fisheye, angular, 1.0)[..., None] * u
        shown, _ = _bend(u, self.distortion)
        return shown.to(places.dtype), u.norm(dim=-1) < self.reach

    def undistort(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """The pinhole places (..., 2) that are shown at `places`, by Newton's method in float64.

        Returns:
            The places, (..., 2), and whether there are such, (...): beyond the reach of the lens
            the nearest that there is stands instead.
        """
        goal = places.double()
        u, step = goal, goal
        for _ in range(N_ITERATIONS):
            shown, slopes = _bend(u, self.distortion)
            step = _solve(slopes, goal - shown)
            u = self._within_reach(u + step)
            if len(step) == 0 or step.abs().max() < FINE:
                break
        r = u.norm(dim=-1)
        off = (_bend(u, self.distortion)[0] - goal).norm(dim=-1)
        angular = torch.where(r > 0, r.tan() / r.clamp(min=1e-30), 1.0)
        u = torch.where(self.is_fisheye, angular, 1.0)[..., None] * u
        return u.to(places.dtype), (off < TOLERANCE) & (r < self.reach)

    def _within_reach(self, u: Tensor) -> Tensor:
        r = u.norm(dim=-1).clamp(min=1e-30)
        return (self.reach / r).clamp(max=1)[..., None] * u


def _radial(r2: Tensor, distortion: Tensor) -> tuple[Tensor, Tensor]:
    """The radial factor at squared radii, and its derivative by them."""
    k1, k2, k3, k4, _, _, q1, q2, q3 = distortion.unbind(-1)
    above = 1 + r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4)))
    below = 1 + r2 * (q1 + r2 * (q2 + r2 * q3))
    above_slope = k1 + r2 * (2 * k2 + r2 * (3 * k3 + r2 * 4 * k4))
    below_slope = q1 + r2 * (2 * q2 + r2 * 3 * q3)
    below = torch.where(below.abs() < 1e-12, 1e-12, below)
    return above / below, (above_slope - above / below * below_slope) / below


def _bend(u: Tensor, distortion: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Where u (..., 2) is shown, and the three different entries of the symmetric Jacobian."""
    x, y = u.unbind(-1)
    p1, p2 = distortion[..., 4], distortion[..., 5]
    r2 = x * x + y * y
    factor, slope = _radial(r2, distortion)
    shown_x = x * factor + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    shown_y = y * factor + 2 * p2 * x * y + p1 * (r2 + 2 * y * y)
    xx = factor + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x
    yy = factor + 2 * y * y * slope + 2 * p2 * x + 6 * p1 * y
    xy = 2 * x * y * slope + 2 * p1 * x + 2 * p2 * y
    return torch.stack([shown_x, shown_y], dim=-1), (xx, yy, xy)


def _solve(slopes: tuple[Tensor, Tensor, Tensor], goal: Tensor) -> Tensor:
    xx, yy, xy = slopes
    determinant = xx * yy - xy * xy
    determinant = torch.where(determinant.abs() < 1e-6, 1e-6, determinant)
    x, y = goal.unbind(-1)
    step = torch.stack([yy * x - xy * y, xx * y - xy * x], dim=-1) / determinant[..., None]
    return step.clamp(-1, 1)
