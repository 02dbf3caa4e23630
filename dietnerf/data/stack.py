"""Photographs of unlike size, camera and lens, read onto one canvas."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.data.images import (
    image_size,
    is_stored_sideways,
    read_image,
    read_numbers,
    resize_area,
    shrink,
)
from dietnerf.data.problems import Problems
from dietnerf.data.scene import AbstractReader, Scene, Split
from dietnerf.data.shots import Intrinsics, Shot
from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras

WHOLE = 0.999  # share of a new pixel that must count for it to count


class AbstractShotReader(AbstractReader):
    """A reader of photographs that may differ in size, camera and lens.

    Photographs of unlike size stand at the upper left of one canvas; masks say what of it counts.
    EXIF orientation: listings of COLMAP, LLFF, instant-ngp and nerfstudio mean the pixels as they
    are stored. Only where the size that a listing names fits the photograph turned upright alone,
    it is turned.

    Args:
        downscale: how many times smaller than the size in the listing the images become along each
            side, 1 or more.
    """

    def __init__(self, downscale: float) -> None:
        if not 1 <= downscale < math.inf:
            raise UserError(f"downscale must be at least 1, got {downscale}: use 2 for half size")
        self.downscale = downscale

    folder: Path

    @abstractmethod
    def shots(self, split: Split, problems: Problems) -> list[Shot] | None:
        """The photographs of a split that nothing is wrong with so far, or None where there is no
        such split."""

    def read(self, split: Split) -> Scene | None:
        problems = Problems(self.folder)
        shots = self.shots(split, problems)
        if shots is None:
            problems.stop()
            return None
        sizes = self._sizes(shots, problems)
        photos = [_read(shot, size, problems) for shot, size in sizes]
        problems.stop()
        return _stack([shot for shot, _ in sizes], [photo for photo in photos if photo], problems)

    def cameras(self, split: Split) -> Cameras | None:
        problems = Problems(self.folder)
        shots = self.shots(split, problems)
        sized = self._sizes(shots or [], problems)
        problems.stop()
        return None if shots is None else _cameras(sized)

    def _sizes(self, shots: list[Shot], problems: Problems) -> list[tuple[Shot, "Size"]]:
        sized = []
        for shot in shots:
            with problems.caught():
                sized.append((shot, _size_of(shot, self.downscale)))
        return sized


@dataclass(frozen=True)
class Size:
    """Final width and height of a photograph, and whether its file is turned before."""

    width: int
    height: int
    is_turned: bool


@dataclass(frozen=True)
class Photo:
    """What the files of a shot hold at its final size: the image (h, w, 3 or 4), uint8, and where
    there are such, mask and depth (h, w)."""

    size: Size
    image: Tensor
    mask: Tensor | None
    depth: Tensor | None


def _size_of(shot: Shot, downscale: float) -> Size:
    width, height = image_size(shot.path)
    full = shot.intrinsics
    is_turned = not _fits(width, height, full) and (
        _fits(height, width, full) and is_stored_sideways(shot.path)
    )
    if is_turned:
        width, height = height, width
    if not _fits(width, height, full):
        raise UserError(
            f"{shot.path} is {width}x{height}, but its camera is for {full.width}x{full.height}: "
            "use the photo that was measured, not one that was cropped or turned"
        )
    # Smaller copies were rounded to whole pixels by whoever made them.
    final = [max(1, round(side / downscale)) for side in (full.width, full.height)]
    if abs(final[0] - width) <= 1 and abs(final[1] - height) <= 1:
        final = [width, height]
    if final[0] > width or final[1] > height:
        raise UserError(
            f"{shot.path} is {width}x{height}, smaller than the {final[0]}x{final[1]} that "
            f"downscale={downscale:g} asks for: use downscale={full.width / width:.4g}"
        )
    return Size(final[0], final[1], is_turned)


def _fits(width: int, height: int, full: Intrinsics) -> bool:
    """Whether an image may be a copy of a photograph of the full size."""
    scale = max(full.width / width, full.height / height)
    if scale <= 1:
        return (width, height) == (full.width, full.height)
    # Its sides were rounded to whole pixels.
    return abs(width * scale - full.width) < scale and abs(height * scale - full.height) < scale


def _cameras(sized: list[tuple[Shot, Size]]) -> Cameras:
    focal, centre = [], []
    for shot, size in sized:
        full = shot.intrinsics
        scale = (size.width / full.width, size.height / full.height)
        focal.append([f * s for f, s in zip(full.focal, scale, strict=True)])
        centre.append([c * s for c, s in zip(full.centre, scale, strict=True)])
    shots = [shot for shot, _ in sized]
    lenses = [shot.intrinsics.distortion for shot in shots]
    fisheye = [shot.intrinsics.is_fisheye for shot in shots]
    has_lens = any(fisheye) or any(any(lens or ()) for lens in lenses)
    return Cameras(
        c2w=torch.stack([shot.c2w[:3] for shot in shots]).float(),
        focal=torch.tensor(focal, dtype=torch.float64).float(),
        centre=torch.tensor(centre, dtype=torch.float64).float(),
        near=torch.tensor([shot.near for shot in shots]),
        far=torch.tensor([shot.far for shot in shots]),
        width=max(size.width for _, size in sized),
        height=max(size.height for _, size in sized),
        distortion=torch.tensor([lens or (0.0,) * 9 for lens in lenses]) if has_lens else None,
        is_fisheye=torch.tensor(fisheye) if has_lens else None,
    )


def _read(shot: Shot, size: Size, problems: Problems) -> Photo | None:
    with problems.caught():
        image = read_image(shot.path, size.is_turned)
        if image.shape[:2] != (size.height, size.width):
            image = shrink(image, size.width, size.height, "straight")
        return Photo(size, image, _mask(shot, size), _depth(shot, size))
    return None


def _stack(shots: list[Shot], photos: list[Photo], problems: Problems) -> Scene:
    """The photographs on one canvas, with alpha if any has it."""
    cameras = _cameras([(shot, photo.size) for shot, photo in zip(shots, photos, strict=True)])
    canvas = (cameras.height, cameras.width)
    images = [photo.image for photo in photos]
    if any(image.shape[-1] == 4 for image in images):
        images = [F.pad(image, (0, 4 - image.shape[-1]), value=255) for image in images]
    masks = [_shown(photo, cameras, i) for i, photo in enumerate(photos)]
    for shot, mask in zip(shots, masks, strict=True):
        if not mask.any():
            problems.add(f"no pixel of {shot.path} counts: correct its mask or its lens")
    problems.stop()
    depths = [photo.depth for photo in photos]
    has_depths = any(depth is not None for depth in depths)
    unknown = torch.zeros(1, 1)
    return Scene(
        images=torch.stack([_padded(image, canvas) for image in images]),
        cameras=cameras,
        view_ids=torch.arange(len(shots)),
        names=_names(shots),
        depths=_on_canvas([unknown if d is None else d for d in depths], canvas)
        if has_depths
        else None,
        masks=None if all(bool(mask.all()) for mask in masks) else _on_canvas(masks, canvas),
    )


def _shown(photo: Photo, cameras: Cameras, index: int) -> Tensor:
    """Which pixels of the canvas count, (height, width)."""
    mask = torch.zeros(cameras.height, cameras.width, dtype=torch.bool)
    mask[: photo.size.height, : photo.size.width] = True if photo.mask is None else photo.mask
    within_lens = cameras.shown(index)
    return mask if within_lens is None else mask & within_lens


def _on_canvas(maps: list[Tensor], canvas: tuple[int, int]) -> Tensor:
    return torch.stack([_padded(one[..., None], canvas)[..., 0] for one in maps])


def _padded(image: Tensor, canvas: tuple[int, int]) -> Tensor:
    """An image (h, w, c) at the upper left of a canvas, zeros beside it."""
    height, width = canvas
    return F.pad(image, (0, 0, 0, width - image.shape[1], 0, height - image.shape[0]))


def _mask(shot: Shot, size: Size) -> Tensor | None:
    """Which pixels of a photograph count, (height, width), or None where all do."""
    if shot.mask is None:
        return None
    counts = (read_numbers(shot.mask) > 0) ^ shot.is_mask_inverted
    _check_map(counts, size, shot.mask)
    if counts.shape[0] >= size.height and counts.shape[1] >= size.width:
        return resize_area(counts.float()[..., None], size.width, size.height)[..., 0] > WHOLE
    return _nearest(counts.float(), size) > 0


def _depth(shot: Shot, size: Size) -> Tensor | None:
    """Distances along the axis, (height, width), 0 where unknown, or None where all are."""
    if shot.depth is not None:
        depth = read_numbers(shot.depth)
        _check_map(depth, size, shot.depth)
        return _nearest(depth.nan_to_num(0, 0, 0).clamp(min=0) * shot.depth_unit, size)
    if shot.points is None:
        return None
    full = shot.intrinsics
    columns = (shot.points[:, 0] * size.width / full.width).floor().long()
    rows = (shot.points[:, 1] * size.height / full.height).floor().long()
    inside = (columns >= 0) & (columns < size.width) & (rows >= 0) & (rows < size.height)
    depth = torch.zeros(size.height, size.width)
    depth[rows[inside], columns[inside]] = shot.points[inside, 2].float()
    return depth


def _nearest(values: Tensor, size: Size) -> Tensor:
    shape = (size.height, size.width)
    return F.interpolate(values[None, None], size=shape, mode="nearest-exact")[0, 0]


def _check_map(values: Tensor, size: Size, path: Path | None) -> None:
    height, width = values.shape
    if abs(width * size.height - height * size.width) > max(
        width + height, size.width + size.height
    ):
        raise UserError(
            f"{path} is {width}x{height}, which does not fit its photo of "
            f"{size.width}x{size.height}: export it at the photo's size"
        )


def _names(shots: list[Shot]) -> tuple[str, ...]:
    """Names without folders, or with them joined where the same one comes twice."""
    short = [Path(shot.name).stem for shot in shots]
    if len(set(short)) == len(short):
        return tuple(short)
    long = [str(Path(shot.name).with_suffix("")).replace("/", "_") for shot in shots]
    if len(set(long)) == len(long):
        return tuple(long)
    return tuple(f"{name}_{i}" for i, name in enumerate(long))
