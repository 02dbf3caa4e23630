"""Sparse points beside a listing: all of them, and those that each photograph is known to show."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dietnerf.data.files import check_stays, is_file
from dietnerf.data.frames import Frame
from dietnerf.data.ply import Observations, read_observations, read_points
from dietnerf.errors import UserError
from dietnerf.geometry.lenses import COEFFICIENTS, Lenses

MOST_OFF = 0.02  # of the width, between a point and where it was seen


def find_ply(content: dict[str, Any], folder: Path) -> Path | None:
    """What `ply_file_path` names, if it is there: a scene can do without."""
    name = content.get("ply_file_path")
    if not isinstance(name, str) or not is_file(folder / name):
        return None
    check_stays(folder, folder / name)
    return folder / name


def image_id(values: dict[str, Any]) -> int | None:
    """By which observations of points name the photograph of a frame: COLMAP's id, under the key of
    nerfstudio."""
    number = values.get("colmap_im_id")
    return number if type(number) is int and 0 <= number < 1 << 32 else None


def points_in(ply: Path) -> Tensor | None:
    """The points of a file, (n, 3), float64; None, with a warning, where it cannot be read."""
    try:
        return read_points(ply)
    except UserError as error:
        warnings.warn(f"{error}: near and far are guessed without it", stacklevel=2)
        return None


def with_points(frames: list[Frame], ply: Path) -> list[Frame]:
    """Photographs with the distances of the points that they are known to show.

    As they are stay those with a depth map, and all, with a warning, where what was observed cannot
    be read or does not belong to the poses.

    Args:
        frames: in the coordinates of the file.
        ply: the points, with an element `observation` or without.
    """
    try:
        is_named = any(frame.depth is None and frame.image_id is not None for frame in frames)
        found = read_observations(ply) if is_named else None
        return frames if found is None else _checked(frames, found, ply)
    except UserError as error:
        warnings.warn(f"{error}: depth at its points is not used", stacklevel=2)
        return frames


def _checked(frames: list[Frame], found: Observations, ply: Path) -> list[Frame]:
    """Photographs with those points that lie where they were seen.

    Raises:
        UserError: most do not.
    """
    result, n_seen, n_good = list[Frame](), 0, 0
    for frame, (points, pixels) in zip(frames, _of_each(frames, found), strict=True):
        shown, distances = _project(points, frame)
        off = (shown - pixels).norm(dim=1)
        is_good = (distances > 0) & (off <= MOST_OFF * frame.intrinsics.width)
        n_seen, n_good = n_seen + len(points), n_good + int(is_good.sum())
        good = torch.cat([pixels, distances[:, None]], dim=1)[is_good]
        result.append(replace(frame, points=good) if len(good) else frame)
    if 2 * n_good < n_seen:
        raise UserError(
            f"{ply} does not belong to the poses: {n_seen - n_good} of {n_seen} points are more "
            f"than {MOST_OFF:.0%} of the width away from where photos showed them"
        )
    return result


def _of_each(frames: list[Frame], found: Observations) -> Iterator[tuple[Tensor, Tensor]]:
    """For each photograph the points that it shows, (n, 3), and their columns and rows, (n, 2);
    none for one with a depth map."""
    order = np.argsort(found.images, kind="stable")
    images = found.images[order]
    for frame in frames:
        key = -1 if frame.image_id is None or frame.depth is not None else frame.image_id
        own = order[np.searchsorted(images, key) : np.searchsorted(images, key, "right")]
        yield torch.from_numpy(found.points[own]), torch.from_numpy(found.pixels[own])


def _project(points: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    """Columns and rows at which a photograph shows points (n, 3), (n, 2), and their distances along
    the axis, (n,)."""
    camera = frame.intrinsics
    right, up, backward = ((points - frame.c2w[:3, 3]) @ frame.c2w[:3, :3]).unbind(-1)
    places = torch.stack([right, -up], dim=1) / -backward[:, None]
    distortion = torch.tensor([camera.distortion or (0.0,) * len(COEFFICIENTS)])
    lens = Lenses.of(distortion, torch.tensor([camera.is_fisheye]))
    shown, _ = lens.distort(places)
    return shown * torch.tensor(camera.focal) + torch.tensor(camera.center), -backward
