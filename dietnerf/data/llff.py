"""Reader of the LLFF format: `poses_bounds.npy`, and photographs in `images` or smaller copies."""

from dataclasses import replace
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from dietnerf.data.arrays import read_array
from dietnerf.data.dataset import Split
from dietnerf.data.error_collector import ErrorCollector
from dietnerf.data.files import check_stays, list_images
from dietnerf.data.frame_reader import AbstractFrameReader
from dietnerf.data.frames import (
    Frame,
    Intrinsics,
    check_hold_every,
    check_range,
    held_out,
    moved,
    photo_folder,
)
from dietnerf.data.memory import Downscale
from dietnerf.data.path_suggestions import find_folder
from dietnerf.errors import UserError
from dietnerf.geometry.alignment import Similarity, recentered, spherified
from dietnerf.geometry.poses import rigid

WIDEST_RANGE = 1e6  # far by near; more is a mistake
MOST_ROWS = 1_000_000


@final
class LLFF(AbstractFrameReader):
    """A capture of LLFF (Mildenhall et al. 2019): the forward-facing scenes of NeRF, and its 360
    degree ones with `spherify`.

    Photographs belong to the rows of `poses_bounds.npy` in the order of their names. All views get
    one near and far: 0.9 of the smallest bound, and the largest, as in NeRF without NDC.

    Args:
        root: folder of poses_bounds.npy; a relative one is also looked for in `data/` and in the
            folder that the environment variable DIETNERF_DATA names.
        downscale: how many times smaller than the full photographs the images become along each
            side; copies such as `images_8` are used. 8 is the protocol of few-view tables.
        hold_every: every view of this number is for testing, from the first on; 0 tests on none.
        recenter: the mean camera becomes the origin and looks along -z.
        bd_factor: the nearest bound becomes 1 / bd_factor scene units; None leaves the scale.
        spherify: for captures all around something: what they look at becomes the origin, and the
            cameras' mean distance from it 1. It takes the place of `recenter` and `bd_factor`.
        near, far: bounds along the camera axis, scene units after scaling, instead of the file's.
    """

    def __init__(
        self,
        root: str,
        downscale: Downscale = 8.0,
        hold_every: int = 8,
        recenter: bool = True,
        bd_factor: float | None = 0.75,
        spherify: bool = False,
        near: float | None = None,
        far: float | None = None,
    ) -> None:
        super().__init__(downscale)
        check_hold_every(hold_every)
        check_range(near, far)
        if bd_factor is not None and not 0 < bd_factor < float("inf"):
            raise UserError(f"bd_factor must be positive, got {bd_factor}: 0.75 is usual")
        self.folder = find_folder(root, "poses_bounds.npy")
        self.hold_every = hold_every
        self.recenter = recenter
        self.bd_factor = bd_factor
        self.spherify = spherify
        self.near, self.far = near, far

    def frames(self, split: Split, problems: ErrorCollector) -> list[Frame] | None:
        listing = self.folder / "poses_bounds.npy"
        rows = read_rows(listing)
        paths = list_images(photo_folder(self.folder, self.downscale))
        if len(paths) != len(rows):
            raise UserError(
                f"{listing} has {len(rows)} rows, but {paths[0].parent if paths else self.folder} "
                f"holds {len(paths)} photos: there must be one for each row"
            )
        everything = []
        for i, path in enumerate(paths):
            with problems.caught():
                check_stays(self.folder, path)
                everything.append(_frame(rows[i], path, f"{listing}, row {i}"))
        if not everything:
            problems.stop()
        return held_out(self._moved(everything), self.hold_every, split)

    def _moved(self, frames: list[Frame]) -> list[Frame]:
        low, high = min(frame.near for frame in frames), max(frame.far for frame in frames)
        c2w = torch.stack([frame.c2w for frame in frames])
        if self.spherify:
            similarity = spherified(c2w)
        else:
            similarity = recentered(c2w) if self.recenter else Similarity.identity()
            scale = 1.0 if self.bd_factor is None else 1 / (low * self.bd_factor)
            similarity = replace(similarity, scale=scale)
        bounded = [replace(frame, near=0.9 * low, far=high) for frame in frames]
        return moved(bounded, similarity, self.near, self.far)


def read_rows(path: Path) -> Tensor:
    """The rows of a `poses_bounds.npy`, (n, 17), float64.

    Raises:
        UserError: it is no array of that shape.
    """
    values = read_array(path, 17 * MOST_ROWS)
    if values.ndim != 2 or values.shape[1] != 17 or not len(values):
        raise UserError(
            f"{path} must have 17 numbers for each photo, got an array of shape {values.shape}: "
            "write it again with LLFF's imgs2poses"
        )
    return torch.from_numpy(values.astype(np.float64))


def _frame(row: Tensor, path: Path, where: str) -> Frame:
    where = f"{where} ({path.name})"
    if not row.isfinite().all():
        raise UserError(f"{where} holds NaN or infinity: estimate the poses again")
    down, right, backward, position, size = row[:15].view(3, 5).unbind(-1)
    last = torch.tensor([[0, 0, 0, 1]], dtype=torch.float64)
    c2w = torch.cat([torch.stack([right, -down, backward, position], dim=-1), last])
    near, far = row[15:].tolist()
    if not 0 < near < far < WIDEST_RANGE * near:
        raise UserError(
            f"{where}: the bounds {near:g} and {far:g} must satisfy 0 < near < far < "
            f"{WIDEST_RANGE:g} near: estimate the poses again"
        )
    height, width, focal = size.tolist()
    if not (1 <= height < 1e6 and 1 <= width < 1e6):
        raise UserError(f"{where}: the image size {width:g}x{height:g} is none: write it again")
    intrinsics = Intrinsics(round(width), round(height), (focal, focal), (width / 2, height / 2))
    intrinsics.check(where)
    return Frame(path.name, path, rigid(c2w, where, "the pose"), intrinsics, near, far)
