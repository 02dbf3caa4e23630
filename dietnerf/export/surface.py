"""From a density to a surface: a grid of opacities, and marching cubes through half of them.

Density that no training camera can see is no evidence and is left out, but for a skin behind what
is seen; closed hollows are filled. Where the box cuts something off, the surface closes flat.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.ndimage import binary_fill_holes
from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.export.optional import require
from dietnerf.export.sight import Sight
from dietnerf.geometry.bounds import bounds_of
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Samples
from dietnerf.training.system import DietNeRF

# Shares of the longest side of the scene's box, so that the surface does not depend on how fine the
# grid is. Chosen on generated scenes of 8 photographs, where the mean distance from the true
# surface is least about there, and flat.
WALL = 1 / 256  # what stops half of the light within this way is a surface
SKIN = 1 / 64  # how far density counts behind what a camera sees
POINTS_AT_ONCE = 1 << 18


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
        return self.lowest + self.cell * indices


def box_of_scene(system: DietNeRF, train: Cameras) -> Tensor:
    """The box (2, 3) that field or sampler is laid out for, or else what the cameras see."""
    for bounds in (system.field.bounds, getattr(system.sampler, "bounds", None)):
        if isinstance(bounds, Tensor) and bool(bounds.isfinite().all()):
            return bounds.cpu()
    return bounds_of(train)


@torch.no_grad()
def opacities(system: DietNeRF, grid: Grid, sight: Sight, side: float) -> Tensor:
    """Share of the light that is stopped within `WALL` at each point of the grid, in [0, 1].

    Args:
        side: the longest side of the scene's box, scene units.
    """
    found = torch.zeros(grid.shape)
    for i in range(grid.shape[0]):
        points, slab = grid.slab(i), found[i].view(-1)
        is_open = system.sampler.may_hold(points.to(system.device)).cpu()
        open_ids = is_open.nonzero().squeeze(-1)
        for ids in open_ids.split(POINTS_AT_ONCE):
            ids = ids[sight.reaches(points[ids], SKIN * side).any(dim=0)]
            at = points[ids].to(system.device)
            samples = Samples.at(at, torch.full((len(at),), WALL * side, device=at.device))
            thickness = system.field.density(samples)[0].float() * samples.lengths
            slab[ids] = -torch.expm1(-thickness).cpu()
    return found


def surface(opacity: Tensor, grid: Grid, level: float) -> tuple[Any, Any]:
    """Vertices (n, 3), scene units, and faces (m, 3) of the closed surface of what is more opaque
    than `level`, counter-clockwise seen from outside.

    Raises:
        UserError: nothing is, or everything.
    """
    measure = require("skimage.measure", "scikit-image", "a mesh")
    values = opacity.numpy()
    is_inside = binary_fill_holes(values > level)
    if not is_inside.any():
        raise UserError(
            f"nothing in the box stops {level:g} of the light: the run may show nothing yet (see "
            "render.py), or --bounds lies beside the scene; a lower --level finds fainter things"
        )
    values = np.pad(np.where(is_inside & (values <= level), 1.0, values), 1)
    vertices, faces, _, _ = measure.marching_cubes(values.astype(np.float32), level)
    return (vertices - 1) * grid.cell + grid.lowest.numpy(), faces
