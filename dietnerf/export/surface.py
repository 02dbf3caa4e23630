"""The surface of a field: a grid of opacities, and marching cubes at half of them.

Density that no training camera sees is unreliable and left out, except for a thin layer behind
visible surfaces; what that layer encloses counts as solid. Where the box cuts something off, the
surface closes flat.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dietnerf.errors import UserError
from dietnerf.export.sight import Sight
from dietnerf.fields.base import queried
from dietnerf.geometry.bounds import bounds_of, subject_of
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Samples
from dietnerf.optional import require
from dietnerf.scene_model import SceneModel
from dietnerf.visualize import to_uint8

# Shares of the longest side of the scene's box, so that the surface does not depend on how fine the
# grid is. Chosen on generated scenes of 8 photographs, where the mean distance from the true
# surface is least about there, and flat.
WALL, WIDEST = 1 / 256, 1 / 32  # distance within which a surface has an opacity of one half
SKIN = 1 / 64  # how far density counts behind a visible surface
CLEAR = 0.3  # share of visible points that may be too faint for a surface
N_PROBES = 1 << 15
CLOSED = 5  # of the six directions along the axes
POINTS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Grid:
    """Points of a box at even distances along all axes.

    Args:
        lowest: the corner of the box, (3,), scene units.
        cell: from one point to the next.
        shape: number of points along x, y, z.
    """

    lowest: Tensor
    cell: float
    shape: tuple[int, int, int]

    @classmethod
    def over(cls, bounds: Tensor, resolution: int) -> "Grid":
        """With `resolution` cells along the longest side of a box (2, 3)."""
        sides = bounds[1] - bounds[0]
        cell = float(sides.max()) / resolution
        nx, ny, nz = (int(n) for n in (sides / cell).round().long() + 1)
        return cls(bounds[0], cell, (nx, ny, nz))

    def slab(self, i: int) -> Tensor:
        """The points of the i-th plane across x, (ny * nz, 3)."""
        steps = torch.cartesian_prod(*(torch.arange(n) for n in self.shape[1:]))
        indices = torch.cat([torch.full((len(steps), 1), i), steps], dim=1)
        return self.points(indices)

    def points(self, indices: Tensor) -> Tensor:
        """The points of indices along x, y, z, (n, 3)."""
        return self.lowest + self.cell * indices


@dataclass(frozen=True)
class Solid:
    """What stops the light in a field.

    Args:
        scene: as `load_scene` gives it, with a field that is queried along rays.
        train: the cameras that it was trained from.
    """

    scene: SceneModel
    train: Cameras

    @cached_property
    def box(self) -> Tensor:
        """Where the scene is, lowest and highest corner, (2, 3)."""
        return box_of_scene(self.scene, self.train)

    @cached_property
    def side(self) -> float:
        """The longest side of the box, scene units."""
        return float((self.box[1] - self.box[0]).max())

    @cached_property
    def sight(self) -> Sight:
        """The renderings of the cameras, made when first needed."""
        return Sight.of(self.scene, self.train)

    def surface(self, grid: Grid, level: float | None) -> tuple[Any, Any]:
        """Vertices (n, 3), scene units, and faces (m, 3) of the closed surface at an opacity of
        `level`, by default one half, over the distance `wall`.

        Raises:
            UserError: there is none.
        """
        thickness = wall(self.scene, self.sight, self.side)
        behind = max(SKIN * self.side, 2 * thickness, 2 * grid.cell)
        opacity = opacities(self.scene, grid, self.sight, thickness, behind)
        return surface(opacity, grid, self.sight, 0.5 if level is None else level)

    @torch.no_grad()
    def colors(self, vertices: Tensor, normals: Tensor) -> Tensor:
        """Color of each vertex (n, 3) as the cameras see it, or if none does, as the field renders
        it against the normal (n, 3); 8 bit, (n, 3)."""
        parts = []
        for at, outward in zip(
            vertices.split(POINTS_AT_ONCE), normals.split(POINTS_AT_ONCE), strict=True
        ):
            rgbs, is_seen = self.sight.colors(at, outward, SKIN * self.side)
            rest = at[~is_seen].to(self.scene.device)
            samples = Samples.at(rest, torch.ones_like(rest[:, 0]), -outward[~is_seen].to(rest))
            field = queried(self.scene.field, "a mesh")
            features = field.density(samples)[1]
            rgbs[~is_seen] = field.color(features, samples).cpu()
            parts.append(to_uint8(rgbs))
        return torch.cat(parts)


def box_of_scene(scene: SceneModel, train: Cameras) -> Tensor:
    """The box (2, 3) that field or sampler is laid out for, or else what the cameras see; for an
    unbounded scene, its subject."""
    if getattr(scene.field, "is_unbounded", False):
        return subject_of(train)
    for bounds in (scene.field.bounds, getattr(scene.sampler, "bounds", None)):
        if isinstance(bounds, Tensor) and bool(bounds.isfinite().all()):
            return bounds.cpu()
    return bounds_of(train)


@torch.no_grad()
def wall(scene: SceneModel, sight: Sight, side: float) -> float:
    """The distance within which a surface has an opacity of one half, scene units: at least `WALL`,
    and large enough that seven in ten visible points are surface, as fields start as fog.

    Args:
        side: the longest side of the scene's box, scene units.
    """
    points = torch.cat(sight.surface_points())
    some = points[torch.linspace(0, len(points) - 1, min(len(points), N_PROBES)).long()]
    if len(some) == 0:
        return WALL * side
    at = some.to(scene.device)
    sigmas = (
        queried(scene.field, "a mesh")
        .density(Samples.at(at, torch.ones_like(at[:, 0])))[0]
        .float()
        .cpu()
    )
    typical = float(sigmas.quantile(CLEAR).clamp(min=1e-6))
    return min(max(math.log(2) / typical, WALL * side), WIDEST * side)


@torch.no_grad()
def opacities(
    scene: SceneModel, grid: Grid, sight: Sight, thickness: float, behind: float
) -> Tensor:
    """Opacity over a distance at each point of the grid, in [0, 1].

    Args:
        thickness: the distance, scene units.
        behind: how far density counts behind what a camera sees, scene units.
    """
    found = torch.zeros(grid.shape)
    for i in tqdm(range(grid.shape[0]), unit="slab", desc="densities", leave=False):
        points, slab = grid.slab(i), found[i].view(-1)
        is_open = scene.sampler.is_occupied(points.to(scene.device)).cpu()
        open_ids = is_open.nonzero().squeeze(-1)
        for ids in open_ids.split(POINTS_AT_ONCE):
            ids = ids[sight.reaches(points[ids], behind).any(dim=0)]
            at = points[ids].to(scene.device)
            samples = Samples.at(at, torch.full((len(at),), thickness, device=at.device))
            stopped = queried(scene.field, "a mesh").density(samples)[0].float() * samples.lengths
            slab[ids] = -torch.expm1(-stopped).cpu()
    return found


def surface(opacity: Tensor, grid: Grid, sight: Sight, level: float) -> tuple[Any, Any]:
    """Vertices (n, 3), scene units, and faces (m, 3) of the closed surface at the opacity `level`,
    counter-clockwise seen from outside.

    Raises:
        UserError: there is none.
    """
    measure = require("skimage.measure", "scikit-image", "a mesh")
    values = opacity.numpy()
    is_solid = values > level
    if not is_solid.any():
        raise UserError(
            f"nothing in the box stops {level:g} of the light: the run may show nothing yet (see "
            "render.py), or --bounds lies beside the scene; a lower --level finds fainter things"
        )
    values = np.pad(np.where(_is_inside(is_solid, grid, sight), 1.0, values), 1)
    vertices, faces, _, _ = measure.marching_cubes(
        values.astype(np.float32), level, gradient_direction="ascent"
    )
    return (vertices - 1) * grid.cell + grid.lowest.numpy(), faces


def _is_inside(is_solid: np.ndarray, grid: Grid, sight: Sight) -> np.ndarray:
    """Points that no camera sees and that lie between solid points in at least five of six
    directions, as a house is closed by walls and roof but not from below; bool, as `is_solid`."""
    n_closed = np.zeros(is_solid.shape, dtype=np.uint8)
    for axis in range(3):
        n_closed += np.logical_or.accumulate(is_solid, axis=axis)
        flipped = np.logical_or.accumulate(np.flip(is_solid, axis), axis=axis)
        n_closed += np.flip(flipped, axis)
    indices = torch.from_numpy(np.argwhere((n_closed >= CLOSED) & ~is_solid))
    is_inside = np.zeros_like(is_solid)
    for some in indices.split(POINTS_AT_ONCE):
        hidden = some[~sight.reaches(grid.points(some), 0.0).any(dim=0)]
        is_inside[tuple(hidden.T.numpy())] = True
    return is_inside
