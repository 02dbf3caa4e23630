"""Photographs of real captures, with what a listing says of each: before any pixel is read."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from dietnerf.data.dataset import Split
from dietnerf.data.files import is_folder
from dietnerf.data.path_suggestions import file_instead, instead
from dietnerf.errors import UserError
from dietnerf.geometry.alignment import Similarity, guessed_range

OFF_CENTER = 0.2  # of the width or height, that a principal point lies off the middle


@dataclass(frozen=True)
class Intrinsics:
    """How a camera maps directions to the pixels of a photograph of `width` x `height`.

    Args:
        focal, center: in pixels, as in `Cameras`.
        distortion: coefficients of `geometry/lenses.py`, or None.
    """

    width: int
    height: int
    focal: tuple[float, float]
    center: tuple[float, float]
    distortion: tuple[float, ...] | None = None
    is_fisheye: bool = False

    @property
    def shift(self) -> tuple[float, float]:
        """How far the principal point lies off the middle, as shares of width and height."""
        sides = zip(self.center, (self.width, self.height), strict=True)
        across, down = (abs(center / side - 0.5) for center, side in sides)
        return across, down

    def check(self, where: str) -> None:
        """Refuse what no camera has.

        Raises:
            UserError: it says `where`.
        """
        if not (min(self.width, self.height) >= 1 and min(self.focal) > 0):
            raise UserError(
                f"{where}: image size {self.width}x{self.height} and focal length "
                f"{self.focal[0]:g}, {self.focal[1]:g} must be positive: correct them"
            )
        sides = (self.width, self.height)
        has_view = all(1e-3 < f / s < 1e4 for f, s in zip(self.focal, sides, strict=True))
        is_near = all(-s <= c <= 2 * s for c, s in zip(self.center, sides, strict=True))
        if not (has_view and is_near and all(map(math.isfinite, self.distortion or ()))):
            raise UserError(
                f"{where}: no camera of {self.width}x{self.height} pixels has focal length "
                f"{self.focal[0]:g}, {self.focal[1]:g}, principal point {self.center[0]:g}, "
                f"{self.center[1]:g} and its distortion: correct what of it is wrong"
            )


@dataclass(frozen=True)
class Frame:
    """One photograph of a capture.

    Args:
        name: what it is called in messages and metrics.
        path: its file.
        c2w: camera pose, (4, 4), float64.
        intrinsics: for a photograph of the size that they name; the file may be a smaller copy.
        near, far: along the camera axis, scene units; NaN where nothing is known of them.
        mask: file of a mask; `is_mask_inverted` says that it is set where pixels do not count.
        depth: file of a depth map along the camera axis; its integers times `depth_unit`, or its
            floats times `float_depth_unit`, are scene units.
        points: places of the photograph whose distance is known: column, row and distance along
            the axis, (n_points, 3).
        image_id: by which observations of sparse points name it; None where they cannot.
        view_id: its number in the full list of its split; None takes its position among the frames.
    """

    name: str
    path: Path
    c2w: Tensor
    intrinsics: Intrinsics
    near: float
    far: float
    mask: Path | None = None
    is_mask_inverted: bool = False
    depth: Path | None = None
    depth_unit: float = 1.0
    float_depth_unit: float = 1.0
    points: Tensor | None = None
    image_id: int | None = None
    view_id: int | None = None


def held_out(frames: list[Frame], every: int, split: Split) -> list[Frame] | None:
    """Of all photographs, each `every`th one for testing from the first on, and the others for
    training; with 0 all are for training."""
    if split == "val" or (split == "test" and every == 0):
        return None
    is_test = [every > 0 and i % every == 0 for i in range(len(frames))]
    kept = [frame for frame, out in zip(frames, is_test, strict=True) if out == (split == "test")]
    if not kept:
        raise UserError(
            f"hold_every={every} leaves none of the {len(frames)} photos for training: use 0"
        )
    return kept


def moved(
    frames: list[Frame], similarity: Similarity, near: float | None, far: float | None
) -> list[Frame]:
    """Photographs in other coordinates, those without bounds with guessed ones, and with the chosen
    bounds where they are given.

    Raises:
        UserError: the bounds leave nothing to see.
    """
    scale = similarity.scale
    c2w = torch.stack([frame.c2w for frame in frames])
    guessed_near, guessed_far = guessed_range(c2w)
    result = []
    for i, pose in enumerate(similarity.poses(c2w)):
        frame = frames[i]
        low = float(guessed_near[i]) if math.isnan(frame.near) else frame.near
        high = float(guessed_far[i]) if math.isnan(frame.far) else frame.far
        low, high = near or low * scale, far or high * scale
        if not low < high:
            raise UserError(
                f"near {low:g} and far {high:g} of {frame.name} leave nothing to see: give both"
            )
        points = frame.points
        if points is not None:
            points = points * points.new_tensor([1, 1, scale])
        result.append(
            replace(
                frame,
                c2w=pose,
                near=low,
                far=high,
                points=points,
                depth_unit=frame.depth_unit * scale,
                float_depth_unit=frame.float_depth_unit * scale,
            )
        )
    return result


def warn_off_center(capture: Path, cameras: Sequence[Intrinsics]) -> None:
    """Say that principal points lie far off the middle, as crops have them, and mistakes."""
    off = [camera for camera in cameras if max(camera.shift) > OFF_CENTER]
    if not off:
        return
    (x, y), (width, height) = off[0].center, (off[0].width, off[0].height)
    warnings.warn(
        f"{capture}: {len(off)} of {len(cameras)} photos have a principal point far off the "
        f"middle, such as {x:.5g}, {y:.5g} in {width}x{height}: right for crops and shifted "
        "lenses alone; else correct cx and cy",
        stacklevel=2,
    )


def check_hold_every(every: int) -> None:
    if every < 0:
        raise UserError(f"hold_every must be at least 0, got {every}: 0 holds nothing out")


def check_range(near: float | None, far: float | None) -> None:
    """Refuse bounds, chosen by a user, between which nothing lies."""
    low, high = near or 1e-9, far or math.inf
    if not (0 < low < high) or (near is not None and near <= 0) or far == math.inf:
        raise UserError(f"near {near} and far {far} must satisfy 0 < near < far: change them")


def photo_folder(root: Path, downscale: float) -> Path:
    """The folder of photographs: of `images` and its smaller copies, `images_2` and so on, the
    smallest that is not smaller than wanted, or else the largest.

    Raises:
        UserError: there is none.
    """
    smaller = (p for p in root.glob("images_*") if p.name[7:].isdecimal() and is_folder(p))
    copies = {int(p.name[7:]): p for p in smaller}
    if is_folder(root / "images"):
        copies[1] = root / "images"
    if not copies:
        raise UserError(f"{root} has no folder images, nor a smaller copy as images_8: add it")
    fitting = [factor for factor in copies if factor <= downscale]
    return copies[max(fitting) if fitting else min(copies)]


def warn_of_missing(missing: list[str], n_listed: int, listing: Path, folder: Path) -> None:
    """Count the listed photographs that do not exist.

    Args:
        missing: their names.
        n_listed: how many are listed, these included.
        listing: the file that lists them.
        folder: where they should be.

    Raises:
        UserError: none is left.
    """
    if not missing:
        return
    found = file_instead(folder, missing[0])
    if len(missing) == n_listed:
        what_to_do = "put them beside it" if found is None else "correct the names in it"
        raise UserError(
            f"none of the {n_listed} images that {listing} lists exists, such as {missing[0]}"
            f"{instead(found)}: {what_to_do}"
        )
    warnings.warn(
        f"{len(missing)} of the {n_listed} images that {listing} lists do not exist, such as "
        f"{missing[0]}{instead(found)}: they are left out",
        stacklevel=2,
    )
