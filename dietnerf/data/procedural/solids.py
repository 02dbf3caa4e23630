"""Solids that rays meet in closed form. The generated scene is built of them; depth is exact."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import count
from typing import final

import torch
from torch import Tensor

Paint = Callable[[Tensor], Tensor]
GROUND = -0.5  # height that all scenes stand on, scene units
CULL_MARGIN = 2e-3  # scene units; far above the rounding of the test


def rgb(code: str) -> Tensor:
    """An sRGB color such as "#ff8000" as linear (3,)."""
    return torch.tensor([int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)]) ** 2.2


def plain(code: str) -> Paint:
    """One sRGB color, such as "#ff8000", everywhere."""
    color = rgb(code)
    return lambda p: color.expand(p.shape[0], 3)


class Solid(ABC):
    """A solid with a frame of its own.

    Args:
        center: origin of its frame in the world, scene units.
        bound: radius of a sphere about `center` that holds it.
        paint: linear color in [0, 1] of points in its frame: (n, 3) to (n, 3).
        gloss: strength of its highlight.
        axes: x, y and z axes of its frame in the world, as rows, (3, 3).
    """

    def __init__(
        self,
        center: Sequence[float],
        bound: float,
        paint: Paint,
        gloss: float = 0.0,
        axes: Tensor | None = None,
    ) -> None:
        self.center = torch.tensor(center, dtype=torch.float32)
        self.bound = bound
        self.paint = paint
        self.gloss = gloss
        self.axes = torch.eye(3) if axes is None else axes

    def hit(self, rays_o: Tensor, rays_d: Tensor) -> Tensor:
        """First t > 0 at which rays from outside meet it, inf where they do not, (n,)."""
        return self._hit(rays_o - self.center, rays_d)

    def look(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Color and outward unit normal at world points on its surface, each (n, 3)."""
        offsets = points - self.center
        return self.paint(dot(offsets[:, None], self.axes)), self._normal(offsets)

    @abstractmethod
    def _hit(self, o: Tensor, d: Tensor) -> Tensor:
        """As `hit`, with origins relative to `center`."""

    @abstractmethod
    def _normal(self, p: Tensor) -> Tensor:
        """Unit normals at points relative to `center`, (n, 3)."""


@final
class Ball(Solid):
    """A sphere about its center."""

    def __init__(self, center: Sequence[float], radius: float, paint: Paint, gloss: float = 0.0):
        super().__init__(center, radius, paint, gloss=gloss)

    def _hit(self, o: Tensor, d: Tensor) -> Tensor:
        a, b, c = dot(d, d), dot(o, d), dot(o, o) - self.bound**2
        t = (-b - (b * b - a * c).sqrt()) / a  # NaN beside the ball
        return torch.where(t > 0, t, math.inf)

    def _normal(self, p: Tensor) -> Tensor:
        return p / self.bound


@final
class Frustum(Solid):
    """An upright capped cone or cylinder: radius `bottom` at its center, `top` at `height`."""

    def __init__(
        self,
        center: Sequence[float],
        bottom: float,
        top: float,
        height: float,
        paint: Paint,
        gloss: float = 0.0,
    ) -> None:
        super().__init__(center, math.hypot(max(bottom, top), height), paint, gloss=gloss)
        self.bottom, self.height = bottom, height
        self.slope = (top - bottom) / height

    def _hit(self, o: Tensor, d: Tensor) -> Tensor:
        (x, y, z), (dx, dy, dz) = o.unbind(-1), d.unbind(-1)
        radius, change = self.bottom + self.slope * z, self.slope * dz
        a = dx * dx + dy * dy - change * change
        b = x * dx + y * dy - radius * change
        root = (b * b - a * (x * x + y * y - radius * radius)).sqrt()
        best = torch.full_like(x, math.inf)
        for t in ((-b - root) / a, (-b + root) / a):
            height = z + t * dz
            is_hit = (t > 0) & (height >= 0) & (height <= self.height)
            best = torch.where(is_hit, torch.minimum(best, t), best)
        for level in (0.0, self.height):
            t = (level - z) / dz
            edge = self.bottom + self.slope * level
            is_hit = (t > 0) & ((x + t * dx) ** 2 + (y + t * dy) ** 2 <= edge * edge)
            best = torch.where(is_hit, torch.minimum(best, t), best)
        return best

    def _normal(self, p: Tensor) -> Tensor:
        x, y, z = p.unbind(-1)
        radius = torch.hypot(x, y)
        side = torch.stack([x, y, -self.slope * radius], -1)
        side = side / side.norm(dim=-1, keepdim=True).clamp(min=1e-9)
        on_side = (radius - self.bottom - self.slope * z).abs()
        up = torch.tensor([0.0, 0.0, 1.0])
        normal = torch.where((z.abs() < on_side)[:, None], -up, side)
        return torch.where(((z - self.height).abs() < on_side)[:, None], up, normal)


@final
class Polyhedron(Solid):
    """A convex solid: the points p of its frame with `normals @ p <= offsets`, unit normals (m, 3).

    Its frame is turned about its y axis by `tilt`, then about the world's z axis by `turn`, in
    radians.
    """

    def __init__(
        self,
        center: Sequence[float],
        normals: Tensor,
        offsets: Tensor,
        bound: float,
        paint: Paint,
        turn: float = 0.0,
        tilt: float = 0.0,
    ) -> None:
        c, s, ct, st = math.cos(turn), math.sin(turn), math.cos(tilt), math.sin(tilt)
        axes = torch.tensor([[c * ct, s * ct, -st], [-s, c, 0.0], [c * st, s * st, ct]])
        super().__init__(center, bound, paint, axes=axes)
        self.normals, self.offsets = normals @ axes, offsets  # in the world's directions

    def _hit(self, o: Tensor, d: Tensor) -> Tensor:
        speeds = dot(d[:, None], self.normals)  # (n, m)
        speeds = torch.where(speeds.abs() < 1e-9, 1e-9, speeds)  # along the plane
        ts = (self.offsets - dot(o[:, None], self.normals)) / speeds
        enter = torch.where(speeds < 0, ts, -math.inf).amax(dim=1)
        leave = torch.where(speeds < 0, math.inf, ts).amin(dim=1)
        return torch.where((enter < leave) & (enter > 0), enter, math.inf)

    def _normal(self, p: Tensor) -> Tensor:
        return self.normals[(dot(p[:, None], self.normals) - self.offsets).argmax(dim=1)]


def box(
    center: Sequence[float],
    size: Sequence[float],
    paint: Paint,
    turn: float = 0.0,
    tilt: float = 0.0,
) -> Polyhedron:
    """A box of the given whole size about its center."""
    normals = torch.cat([torch.eye(3), -torch.eye(3)])
    half = torch.tensor(size) / 2
    return Polyhedron(
        center, normals, half.repeat(2), float(half.norm()), paint, turn=turn, tilt=tilt
    )


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Products summed over the last axis; a matrix product's rounding may depend on the threads."""
    return (a * b).sum(dim=-1)


def first_hit(
    groups: Sequence[Sequence[Solid]], rays_o: Tensor, rays_d: Tensor
) -> tuple[Tensor, Tensor]:
    """What each ray meets first.

    Returns:
        Distances in units of `rays_d`, (n,), inf where nothing is hit; and the number of the solid,
        counted through all groups, (n,), -1 where nothing is hit.
    """
    t = torch.full((rays_o.shape[0],), math.inf)
    which = torch.full((rays_o.shape[0],), -1)
    numbers = count()
    spheres = [_bounding_sphere(group) for group in groups]
    for group, of_group in zip(groups, _near(spheres, rays_o, rays_d), strict=True):
        group_o, group_d = rays_o[of_group], rays_d[of_group]
        spheres = [(solid.center, solid.bound) for solid in group]
        near = _near(spheres, group_o, group_d)
        for solid, of_solid, number in zip(group, near, numbers, strict=False):
            if len(of_solid) == 0:
                continue
            hit = solid.hit(group_o[of_solid], group_d[of_solid])
            rays = of_group[of_solid]
            is_nearer = hit < t[rays]
            t[rays[is_nearer]] = hit[is_nearer]
            which[rays[is_nearer]] = number
    return t, which


def _bounding_sphere(group: Sequence[Solid]) -> tuple[Tensor, float]:
    center = torch.stack([solid.center for solid in group]).mean(dim=0)
    return center, max(float((s.center - center).norm()) + s.bound for s in group)


def _near(spheres: Sequence[tuple[Tensor, float]], rays_o: Tensor, rays_d: Tensor) -> list[Tensor]:
    """Indices of the rays that meet each sphere, or pass it closely."""
    centers = torch.stack([center for center, _ in spheres])
    bounds = torch.tensor([bound for _, bound in spheres])[:, None] + CULL_MARGIN
    dirs = rays_d / rays_d.norm(dim=-1, keepdim=True)
    along = centers @ dirs.T - dot(rays_o, dirs)  # (n_spheres, n)
    squares = dot(rays_o, rays_o) - 2 * centers @ rays_o.T  # without |center|^2
    limits = bounds**2 - dot(centers, centers)[:, None]
    is_near = (squares - along * along <= limits) & (along > -bounds)
    return [row.nonzero().squeeze(-1) for row in is_near]
