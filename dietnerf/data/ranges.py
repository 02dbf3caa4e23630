"""Near and far of photographs: from sparse points, from instant-ngp's box, or from the cameras."""

import math
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from dietnerf.data.files import entry, number
from dietnerf.data.frames import Frame
from dietnerf.errors import UserError
from dietnerf.geometry.alignment import focus, focus_distances, guessed_range

FEWEST_POINTS = 10  # that say near and far of a view
OUTLIERS = 0.005  # share of its points that near may cut off
DEEPEST = 16.0  # far at most, in medians of the distances: what lies beyond was placed wrongly
NEARER, FARTHER = 0.9, 1.1  # room before and behind the points
NGP_SCALE = 0.33  # from units of a file to those of instant-ngp, where the file says nothing
FARTHEST = 16.0  # far at most, in distances of the camera from what all look at
CLASSIC = (2.0, 6.0)  # near and far of the NeRF-synthetic scenes
OBJECT = 0.5  # what lies between them reaches so far, in distances of the cameras from its middle
LEAST = 0.05  # near at least, in the same
CONVERGED = 0.2  # how far axes pass by their focus, in distances from it, if they look at one thing


def range_of_points(distances: Tensor) -> tuple[float, float]:
    """Near and far around sparse points.

    Of a thing before a wall, few points are on the wall: far leaves none out that can be right.

    Args:
        distances: of the points in view, along the axis, (n_points,), float64.

    Returns:
        Near and far in the same units; NaN where the points are too few.
    """
    if len(distances) < FEWEST_POINTS:
        return math.nan, math.nan
    low, middle = distances.quantile(torch.tensor([OUTLIERS, 0.5]).double()).tolist()
    high = distances[distances <= DEEPEST * middle].max().item()
    return NEARER * low, FARTHER * high


def with_common_far(frames: list[Frame]) -> list[Frame]:
    """Frames whose far is the largest of all: one may look at a wall without a point on it, which
    others have seen."""
    largest = max((f.far for f in frames if not math.isnan(f.far)), default=math.nan)
    return [f if math.isnan(f.far) else replace(f, far=largest) for f in frames]


@dataclass(frozen=True)
class NgpBox:
    """The box that instant-ngp lays around a scene: of side `aabb_scale` around (0.5, 0.5, 0.5),
    in units that are the file's times `scale` plus `offset`.

    Args:
        middle: (3,), float64, units of the file.
        half: half of its side.
        is_placed: the file names `scale`, so that somebody has fitted the box to the scene.
    """

    middle: Tensor
    half: float
    is_placed: bool

    @classmethod
    def of(cls, content: dict[str, Any], listing: Path) -> Self | None:
        """That of a listing, or None where it has no `aabb_scale`.

        Raises:
            UserError: a key of it has a value that no box has.
        """
        if content.get("aabb_scale") is None:
            return None
        is_placed = content.get("scale") is not None
        scale = _positive(content, "scale", listing) if is_placed else NGP_SCALE
        half = 0.5 * _positive(content, "aabb_scale", listing) / scale
        return cls((0.5 - _offset(content, listing)) / scale, half, is_placed)

    def ranges(self, c2w: Tensor) -> tuple[Tensor, Tensor]:
        """Where the sphere around it begins and ends along the axis of each camera, (n,) each."""
        ahead = ((c2w[:, :3, 3] - self.middle) * c2w[:, :3, 2]).sum(dim=-1)
        radius = math.sqrt(3) * self.half
        return ahead - radius, ahead + radius


def _positive(content: dict[str, Any], key: str, listing: Path) -> float:
    value = number(content, key, listing)
    if value <= 0:
        raise UserError(f"{listing}: {key} must be positive, got {value:g}")
    return value


def _offset(content: dict[str, Any], listing: Path) -> Tensor:
    if content.get("offset") is None:
        return torch.full((3,), 0.5, dtype=torch.float64)
    values = entry(content, "offset", (list,), listing)
    if len(values) != 3:
        raise UserError(f"{listing}: offset must be three numbers, got {len(values)}")
    named = {f"offset[{i}]": value for i, value in enumerate(values)}
    return torch.tensor([number(named, key, listing) for key in named], dtype=torch.float64)


def ranged(frames: list[Frame], points: Tensor | None, box: NgpBox | None) -> list[Frame]:
    """Near and far for all photographs that have none.

    Sparse points go first, then the box, then a guess from where the cameras look.

    Args:
        frames: all of a capture.
        points: sparse points, (n_points, 3), float64, units of the file, or None.
        box: that of the listing, or None.
    """
    c2w = torch.stack([frame.c2w for frame in frames])
    near, far = guessed_range(c2w) if box is None else _range_in(box, c2w)
    guessed = [
        replace(frame, near=float(near[i]), far=float(far[i])) for i, frame in enumerate(frames)
    ]
    measured = frames if points is None else with_common_far(_among(frames, points))
    is_guessed = any(math.isnan(own.near) for own in frames)
    if points is not None and is_guessed and all(math.isnan(known.near) for known in measured):
        why = "do they belong to the poses?" if len(points) else "the file holds none"
        warnings.warn(
            f"near and far are guessed without the {len(points)} sparse points, since no photo "
            f"shows {FEWEST_POINTS} of them: {why}",
            stacklevel=2,
        )
    return [
        own if not math.isnan(own.near) else known if not math.isnan(known.near) else guess
        for own, known, guess in zip(frames, measured, guessed, strict=True)
    ]


def _among(frames: list[Frame], points: Tensor) -> list[Frame]:
    """Frames with near and far around the points in view."""
    ranges = (range_of_points(_distances(points, frame)) for frame in frames)
    return [
        replace(frame, near=near, far=far)
        for frame, (near, far) in zip(frames, ranges, strict=True)
    ]


def _range_in(box: NgpBox, c2w: Tensor) -> tuple[Tensor, Tensor]:
    """Near and far, (n,) each, of cameras in or around a box.

    One that nobody has placed says far only, and never less than is guessed without it: exporters
    write an `aabb_scale` of 128 as readily as 1.
    """
    near, far = guessed_range(c2w)
    low, high = box.ranges(c2w)
    high = torch.minimum(high, FARTHEST * focus_distances(c2w))
    if not box.is_placed:
        return near, torch.maximum(far, high)
    low = torch.maximum(low, near)
    is_ahead = low < high
    return torch.where(is_ahead, low, near), torch.where(is_ahead, high, far)


def _distances(points: Tensor, frame: Frame) -> Tensor:
    """Along the axis of a camera, of the points in its frame, (n,); lenses are left out."""
    camera = frame.intrinsics
    right, up, backward = ((points - frame.c2w[:3, 3]) @ frame.c2w[:3, :3]).unbind(-1)
    columns = camera.center[0] - camera.focal[0] * right / backward
    rows = camera.center[1] + camera.focal[1] * up / backward
    is_seen = (backward < 0) & (columns >= 0) & (columns <= camera.width)
    return -backward[is_seen & (rows >= 0) & (rows <= camera.height)]


def blender_range(train: Tensor, c2w: Tensor, listing: Path) -> tuple[Tensor, Tensor]:
    """Near and far, (n,) each, of cameras (n, 4, 4) in a scene of Blender.

    The classic 2 and 6 where the training cameras (n_train, 4, 4) look at something in between;
    else, with a warning, the same in proportion to how far away it is, or a wider guess where they
    look at no one thing.
    """
    middle = focus(train)
    offsets = train[:, :3, 3] - middle
    distance = float(offsets.norm(dim=-1).median())
    near, far = (torch.full((len(c2w),), bound).to(c2w) for bound in CLASSIC)
    if len(train) == 1 or CLASSIC[0] <= distance <= CLASSIC[1]:
        return near, far
    if torch.linalg.cross(offsets, train[:, :3, 2]).norm(dim=-1).median() < CONVERGED * distance:
        own = (c2w[:, :3, 3] - middle).norm(dim=-1)
        near, far = (own - OBJECT * distance).clamp(min=LEAST * distance), own + OBJECT * distance
    else:
        guesses = (guess.median() for guess in guessed_range(train))
        near, far = (guess.expand(len(c2w)) for guess in guesses)
    warnings.warn(
        f"{listing}: the cameras look at a point {distance:.3g} away, not between the usual near 2 "
        f"and far 6: near and far are {float(near.min()):.3g} and {float(far.max()):.3g} now; set "
        "the reader's near and far if that is wrong",
        stacklevel=2,
    )
    return near, far
