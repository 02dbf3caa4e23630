"""The surface of Gaussians: the depths that the training views show, fused into one signed distance
(Curless and Levoy 1996; KinectFusion, Newcombe et al. 2011), and marching cubes where it is zero.

A view knows what lies before its surface and, up to the truncation, behind it. Where too few views
know anything there is no surface: the mesh is open where nobody looked and where the box ends.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from dietnerf.errors import UserError
from dietnerf.export.sight import SEEN, Sight
from dietnerf.export.surface import POINTS_AT_ONCE, SKIN, Grid
from dietnerf.gaussians import Gaussians
from dietnerf.geometry.bounds import subject_of
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.unseen import coarse
from dietnerf.optional import require
from dietnerf.visualize import to_uint8

N_PIXELS = 640  # along the longer side of the depth maps
MIN_VIEWS = 3  # that have to know a point, where there are as many
# Cells to each side of the surface, or `SKIN` where that is more: with half or twice as many a
# generated scene is farther from its true surface.
TRUNCATION = 4
STRAY = 0.01  # share of the Gaussians that are left out at each end of the box
MARGIN = 0.1  # of its longest side, added at each end


@dataclass(frozen=True)
class Fusion:
    """What the training views of Gaussians show, drawn one view at a time whenever it is needed.

    Args:
        gaussians: the scene.
        train: the cameras that it was trained from.
    """

    gaussians: Gaussians
    train: Cameras

    @cached_property
    def box(self) -> Tensor:
        """The part of the cameras' subject that Gaussians fill, (2, 3)."""
        subject = subject_of(self.train)
        means = self.gaussians.means[: self.gaussians.n].detach().cpu()
        inside = means[((means >= subject[0]) & (means <= subject[1])).all(dim=1)].numpy()
        if len(inside) == 0:
            return subject
        low, high = torch.from_numpy(np.quantile(inside, [STRAY, 1 - STRAY], axis=0)).float()
        room = MARGIN * (high - low).max()
        if room == 0:  # all at one place
            return subject
        return torch.stack(
            [torch.maximum(low - room, subject[0]), torch.minimum(high + room, subject[1])]
        )

    def surface(self, grid: Grid, level: float | None) -> tuple[Any, Any]:
        """Vertices (n, 3), scene units, and faces (m, 3), counter-clockwise seen by the cameras.

        Raises:
            UserError: there is none, or a level is given, which is that of a density.
        """
        if level is not None:
            raise UserError(
                "--level is for the density of a field: the surface of Gaussians is at the depth "
                "where half of the light is stopped; leave it out"
            )
        measure = require("skimage.measure", "scikit-image", "a mesh")
        distances, is_known = self._distances(grid)
        try:
            vertices, faces, *_ = measure.marching_cubes(
                distances.numpy(), 0.0, mask=_whole_cells(is_known.numpy())
            )
        except (RuntimeError, ValueError) as error:  # it found none
            raise UserError(
                f"no surface in the box is seen by {self._n_least} training views: the run may "
                "show nothing yet (see render.py), or --bounds lies beside the scene"
            ) from error
        return vertices * grid.cell + grid.lowest.numpy(), faces

    def colors(self, vertices: Tensor, normals: Tensor) -> Tensor:
        """Color of each vertex (n, 3) with its outward unit normal (n, 3), as the views see it, or
        if none does, that of the nearest one that is seen; 8 bit, (n, 3)."""
        rgbs, sums = torch.zeros_like(vertices), torch.zeros(len(vertices))
        behind = SKIN * float((self.box[1] - self.box[0]).max())
        for view in self._views():
            parts = (values.split(POINTS_AT_ONCE) for values in (vertices, normals, rgbs, sums))
            for at, outward, rgb, weight in zip(*parts, strict=True):
                more, weights = view.color_sums(at, outward, behind)
                rgb += more
                weight += weights
        rgbs /= sums.clamp(min=SEEN)[:, None]
        is_seen = sums > SEEN
        if is_seen.any():
            nearest = cKDTree(vertices[is_seen]).query(vertices[~is_seen])[1]
            rgbs[~is_seen] = rgbs[is_seen][nearest]
        return to_uint8(rgbs)

    @property
    def _n_least(self) -> int:
        return min(MIN_VIEWS, len(self.train))

    def _views(self) -> Iterator[Sight]:
        """What each camera alone shows, up to where half of the light is stopped."""
        small = coarse(self.train, N_PIXELS)
        for i in tqdm(range(len(small)), unit="view", desc="views of the surface", leave=False):
            with torch.no_grad():
                image = self.gaussians.render_view(small, i, with_median=True)
            yield Sight.in_images(small[[i]], [image])

    def _distances(self, grid: Grid) -> tuple[Tensor, Tensor]:
        """Mean distance of each point of the grid from the surfaces that the views show, scene
        units, at most the truncation and negative behind them, and whether enough views know it."""
        truncation = max(TRUNCATION * grid.cell, SKIN * (max(grid.shape) - 1) * grid.cell)
        ids = self._near_surfaces(grid, math.ceil(truncation / grid.cell)).view(-1).nonzero()[:, 0]
        sums, counts = torch.zeros(len(ids)), torch.zeros(len(ids), dtype=torch.int32)
        for view in self._views():
            parts = (values.split(POINTS_AT_ONCE) for values in (ids, sums, counts))
            for some, total, count in zip(*parts, strict=True):
                indices = torch.stack(torch.unravel_index(some, grid.shape), dim=-1)
                clearance = view.clearance(grid.points(indices))[0]
                is_known = clearance >= -truncation
                total += clearance.clamp(max=truncation).where(is_known, 0.0)
                count += is_known
        distances, is_known = torch.zeros(grid.shape), torch.zeros(grid.shape, dtype=torch.bool)
        distances.view(-1)[ids] = sums / counts.clamp(min=1)
        is_known.view(-1)[ids] = counts >= self._n_least
        return distances, is_known

    def _near_surfaces(self, grid: Grid, width: int) -> Tensor:
        """Which points of the grid lie in blocks of `width` points along each edge that, or whose
        neighbors, hold a surface in enough views; bool, of the grid's shape."""
        shape = [math.ceil(n / width) for n in grid.shape]
        counts = torch.zeros(shape)
        for view in self._views():
            points = view.surface_points()[0]
            blocks = ((points - grid.lowest) / (width * grid.cell)).floor().long()
            is_inside = ((blocks >= 0) & (blocks < torch.tensor(shape))).all(dim=1)
            shown = torch.zeros(shape)
            shown[blocks[is_inside].unbind(-1)] = 1.0
            counts += F.max_pool3d(shown[None], 3, stride=1, padding=1)[0]
        is_near = counts >= self._n_least
        for axis, n in enumerate(grid.shape):
            is_near = is_near.repeat_interleave(width, dim=axis).narrow(axis, 0, n)
        return is_near.contiguous()


def _whole_cells(is_known: np.ndarray) -> np.ndarray:
    """Cells of a grid whose eight points are known, each at its highest point as scikit-image has
    it; bool, as `is_known`."""
    is_whole = is_known.copy()
    for axis in range(3):
        along = np.moveaxis(is_whole, axis, 0)
        along[1:] &= along[:-1].copy()
        along[0] = False
    return is_whole
