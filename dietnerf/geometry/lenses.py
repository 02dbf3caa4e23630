"""Lens distortion: maps points on the plane at distance 1 before the camera, x right and y down, to
their distorted places, and back.

One form holds for all lenses. With u = (x, y), or for a fisheye u = (x, y) theta / tan(theta) where
theta is the angle from the axis, and r = |u|:

    radial = (1 + k1 r^2 + k2 r^4 + k3 r^6 + k4 r^8) / (1 + q1 r^2 + q2 r^4 + q3 r^6)
    x' = x_u radial + 2 p1 x_u y_u + p2 (r^2 + 2 x_u^2)
    y' = y_u radial + 2 p2 x_u y_u + p1 (r^2 + 2 y_u^2)

This is OpenCV's camera (its k4, k5, k6 are q1, q2, q3 here) and its fisheye camera, and so
COLMAP's and nerfstudio's.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

COEFFICIENTS = ("k1", "k2", "k3", "k4", "p1", "p2", "q1", "q2", "q3")
WIDEST = 1.48  # angle from the axis, radians: rays have length one along the axis
N_PROBES = 512  # radii at which the reach of a lens is searched
N_ITERATIONS = 20  # of Newton's method; five do for common lenses
FINE = 1e-9  # a step of Newton's method that ends it: the error left is its square
TOLERANCE = 1e-8  # of a place that is found
TINY = 1e-30  # instead of zero, where one divides by a radius

Slopes = tuple[Tensor, Tensor, Tensor]  # of x by x', of y by y', of x by y' and y by x', (...)


@dataclass(frozen=True)
class Lenses:
    """Lenses of cameras or of pixels; the functions broadcast over the leading dimensions.

    Args:
        distortion: the nine `COEFFICIENTS`, (..., 9), float64.
        is_fisheye: whether distortion is a function of the angle, (...).
        reach: largest r up to which the distorted radius grows with r, (...).
        n_radial: of k1 to k4, how many there are before those that are 0 in all lenses.
        is_rational: whether any lens has a q1, q2 or q3.
    """

    distortion: Tensor
    is_fisheye: Tensor
    reach: Tensor
    n_radial: int
    is_rational: bool

    @classmethod
    def of(cls, distortion: Tensor, is_fisheye: Tensor) -> Self:
        """Of coefficients (n, 9) and kinds (n,)."""
        distortion = distortion.double()
        n_radial = max((i + 1 for i in range(4) if distortion[:, i].any()), default=0)
        is_rational = bool(distortion[:, 6:].any())
        widest = torch.full_like(distortion[:, 0], WIDEST)
        widest = torch.where(is_fisheye, widest, widest.tan())
        r = torch.linspace(0, 1, N_PROBES, device=widest.device) * widest[:, None]
        lenses = cls(distortion, is_fisheye, widest, n_radial, is_rational)
        factor, slope = lenses[:, None]._radial(r * r), lenses[:, None]._radial_slope(r * r)
        rises = (factor + 2 * r * r * slope > 0) & (factor > 0)
        n_rising = rises.long().cumprod(dim=1).sum(dim=1)  # up to the first that does not
        reach = r.gather(1, (n_rising - 1).clamp(min=0)[:, None])[:, 0]
        return replace(lenses, reach=reach)

    def __getitem__(self, index: Tensor | tuple[slice | None, ...]) -> Self:
        each = (self.distortion[index], self.is_fisheye[index], self.reach[index])
        return type(self)(*each, self.n_radial, self.is_rational)

    def distort(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """The distorted places of pinhole places (..., 2), and whether they are within the reach,
        (...)."""
        u = places.double().movedim(-1, 0)
        r = _norm(u)
        angular = torch.where(r > 0, r.atan() / r.clamp(min=TINY), 1.0)
        u = torch.where(self.is_fisheye, angular, 1.0) * u
        return self.distorted(u).movedim(0, -1).to(places.dtype), _norm(u) < self.reach

    def undistort(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """The pinhole places (..., 2) of distorted `places`, by Newton's method in float64.

        Returns:
            The places, (..., 2), and whether they exist, (...): beyond the reach of the lens, the
            nearest within it.
        """
        u, is_shown = self.find(places.double().movedim(-1, 0).contiguous())
        return self.opened(u).movedim(0, -1).to(places.dtype), is_shown

    def find(self, goal: Tensor) -> tuple[Tensor, Tensor]:
        """The u that are distorted to `goal`, (2, ...), and whether they exist, (...)."""
        u = self.within_reach(goal)
        for _ in range(N_ITERATIONS):
            last, u = u, self.within_reach(self.approach(u, goal))
            if u.numel() == 0 or (u - last).abs().max() < FINE:
                break
        off = _norm(self.distorted(u) - goal)
        return u, (off < TOLERANCE) & (_norm(u) < self.reach)

    def approach(self, u: Tensor, goal: Tensor) -> Tensor:
        """Where one step of Newton's method leads to from u, (2, ...)."""
        step = torch.stack(applied(self.inverse_slopes(u), goal - self.distorted(u)))
        return u + step.clamp(-1, 1)

    def within_reach(self, u: Tensor) -> Tensor:
        """u, (2, ...), drawn inwards where it lies beyond."""
        return (self.reach / _norm(u).clamp(min=TINY)).clamp(max=1) * u

    def opened(self, u: Tensor) -> Tensor:
        """The pinhole places of u, (2, ...)."""
        if not self.is_fisheye.any():
            return u
        r = _norm(u)
        angular = torch.where(r > 0, r.tan() / r.clamp(min=TINY), 1.0)
        return torch.where(self.is_fisheye, angular, 1.0) * u

    def distorted(self, u: Tensor) -> Tensor:
        """The distorted places of u (2, ...), (2, ...)."""
        x, y = u
        r2 = torch.addcmul(x * x, y, y)
        tangential = self._tangential(u)
        factor = torch.add(self._radial(r2), (tangential * u).sum(dim=0), alpha=2)
        return torch.addcmul(factor * u, tangential, r2)

    def inverse_slopes(self, u: Tensor) -> Slopes:
        """The derivatives of u, (2, ...), by its distorted place."""
        x, y = u
        p2, p1 = self._tangential(u)
        r2 = x * x + y * y
        slope = self._radial_slope(r2)
        factor = self._radial(r2) + 2 * (p1 * y + p2 * x)
        xx = factor + 2 * slope * x * x + 4 * p2 * x
        yy = factor + 2 * slope * y * y + 4 * p1 * y
        xy = 2 * slope * x * y + 2 * (p1 * x + p2 * y)
        determinant = (xx * yy - xy * xy).clamp(min=1e-6)
        return yy / determinant, xx / determinant, -xy / determinant

    def _radial(self, r2: Tensor) -> Tensor:
        """The radial factor at squared radii."""
        above = _polynomial(r2, self.distortion[..., : self.n_radial])
        return above / self._below(r2) if self.is_rational else above

    def _radial_slope(self, r2: Tensor) -> Tensor:
        """The derivative of the radial factor by squared radii."""
        slope = _derivative(r2, self.distortion[..., : self.n_radial])
        if not self.is_rational:
            return slope
        below_slope = _derivative(r2, self.distortion[..., 6:])
        return (slope - self._radial(r2) * below_slope) / self._below(r2)

    def _below(self, r2: Tensor) -> Tensor:
        below = _polynomial(r2, self.distortion[..., 6:])
        return torch.where(below.abs() < 1e-12, 1e-12, below)

    def _tangential(self, u: Tensor) -> Tensor:
        """p2 and p1, so that they broadcast with u (2, ...)."""
        p = torch.stack([self.distortion[..., 5], self.distortion[..., 4]])
        return p[(slice(None), *[None] * (u.dim() - p.dim()))]


def applied(slopes: Slopes, change: Tensor) -> tuple[Tensor, Tensor]:
    """By how much x and y, (...) each, change with what (2, ...) changes."""
    xx, yy, xy = slopes
    x, y = change
    return torch.addcmul(xx * x, xy, y), torch.addcmul(yy * y, xy, x)


def _norm(u: Tensor) -> Tensor:
    x, y = u
    return (x * x + y * y).sqrt()


def _polynomial(x: Tensor, coefficients: Tensor) -> Tensor:
    """1 + c1 x + c2 x^2 + ..., by Horner's rule, of coefficients (..., n)."""
    one = x.new_ones(())
    if coefficients.shape[-1] == 0:
        return one
    *lower, value = (one, *coefficients.unbind(-1))
    for coefficient in reversed(lower):
        value = torch.addcmul(coefficient, value, x)
    return value


def _derivative(x: Tensor, coefficients: Tensor) -> Tensor:
    """c1 + 2 c2 x + 3 c3 x^2 + ..."""
    value = x.new_zeros(())
    for i in range(coefficients.shape[-1], 0, -1):
        value = i * coefficients[..., i - 1] + value * x
    return value
