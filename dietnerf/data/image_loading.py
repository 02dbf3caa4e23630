"""Photographs of unlike size, camera and lens, read onto one canvas."""

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dietnerf.data.dataset import ImageDataset, Split
from dietnerf.data.error_collector import ErrorCollector
from dietnerf.data.frames import Frame, Intrinsics, warn_off_center
from dietnerf.data.images import is_stored_sideways, read_header, read_image, shrink
from dietnerf.data.maps import checked_size, read_depth, read_mask
from dietnerf.data.memory import (
    Downscale,
    auto_downscale,
    check_downscale,
    check_memory,
    in_parallel,
)
from dietnerf.data.reader import AbstractReader, DatasetIndex, view_names
from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras


class AbstractFrameReader(AbstractReader):
    """A reader of photographs that may differ in size, camera and lens.

    Photographs of unlike size stand at the upper left of one canvas; masks say what of it counts.
    EXIF orientation: listings of COLMAP, LLFF, instant-ngp and nerfstudio mean the pixels as they
    are stored. Only where the size that a listing names fits the photograph turned upright alone,
    it is turned.

    Args:
        downscale: how many times smaller than the size in the listing the images become along each
            side, 1 or more; see `auto_downscale` for auto.
    """

    def __init__(self, downscale: Downscale) -> None:
        check_downscale(downscale)
        self.is_auto = downscale == "auto"
        self.downscale = 1.0 if downscale == "auto" else downscale

    folder: Path

    @abstractmethod
    def frames(self, split: Split, problems: ErrorCollector) -> list[Frame] | None:
        """The photographs of a split that nothing is wrong with so far, or None where there is no
        such split."""

    def listing(self, split: Split) -> DatasetIndex | None:
        if self.is_auto:
            self.downscale, self.is_auto = self._fitting(), False
        problems = ErrorCollector(self.folder)
        frames = self.frames(split, problems)
        sized = self._sizes(frames or [], problems)
        problems.stop()
        if frames is None:
            return None
        warn_off_center(self.folder, [frame.intrinsics for frame in frames])
        return _ImageLoader(self.folder, sized).listing()

    def _fitting(self) -> float:
        """The downscale that suits the training photographs."""
        problems = ErrorCollector(self.folder)
        frames = self.frames("train", problems) or []
        full, n_channels, least = [], 3, 1.0
        for frame in frames:
            with problems.caught():
                header, size = read_header(frame.path), frame.intrinsics
                n_channels = max(n_channels, header.n_channels)
                full.append((size.width, size.height))
                least = max(least, max(full[-1]) / max(header.width, header.height))
        problems.stop()
        return auto_downscale(full, n_channels, least)

    def _sizes(self, frames: list[Frame], problems: ErrorCollector) -> list[tuple[Frame, "Size"]]:
        sized = []
        for frame in frames:
            with problems.caught():
                sized.append((frame, _size_of(frame, self.downscale)))
        return sized


@dataclass(frozen=True)
class Size:
    """Final width and height of a photograph, whether its file is turned before, the channels
    that it is read with, and pixels of the largest of its files."""

    width: int
    height: int
    is_turned: bool
    n_channels: int
    n_stored: int


def _size_of(frame: Frame, downscale: float) -> Size:
    header = read_header(frame.path)
    width, height = header.width, header.height
    full = frame.intrinsics
    is_turned = not _fits(width, height, full) and (
        _fits(height, width, full) and is_stored_sideways(frame.path)
    )
    if is_turned:
        width, height = height, width
    if not _fits(width, height, full):
        raise UserError(
            f"{frame.path} is {width}x{height}, but its camera is for {full.width}x{full.height}: "
            "use the photo that was measured, not one that was cropped or turned"
        )
    # Smaller copies were rounded to whole pixels by whoever made them.
    final = [max(1, round(side / downscale)) for side in (full.width, full.height)]
    if abs(final[0] - width) <= 1 and abs(final[1] - height) <= 1:
        final = [width, height]
    if final[0] > width or final[1] > height:
        raise UserError(
            f"{frame.path} is {width}x{height}, smaller than the {final[0]}x{final[1]} that "
            f"downscale={downscale:g} asks for: use downscale={full.width / width:.4g}"
        )
    photo = (max(width, full.width), max(height, full.height))
    beside = [checked_size(path, photo) for path in (frame.mask, frame.depth) if path is not None]
    n_stored = max(w * h for w, h in [(width, height), *beside])
    return Size(final[0], final[1], is_turned, header.n_channels, n_stored)


def _fits(width: int, height: int, full: Intrinsics) -> bool:
    """Whether an image may be a copy of a photograph of the full size."""
    scale = max(full.width / width, full.height / height)
    if scale <= 1:
        return (width, height) == (full.width, full.height)
    # Its sides were rounded to whole pixels.
    return abs(width * scale - full.width) < scale and abs(height * scale - full.height) < scale


def _cameras(sized: list[tuple[Frame, Size]]) -> Cameras:
    focal, center = [], []
    for frame, size in sized:
        full = frame.intrinsics
        scale = (size.width / full.width, size.height / full.height)
        focal.append([f * s for f, s in zip(full.focal, scale, strict=True)])
        center.append([c * s for c, s in zip(full.center, scale, strict=True)])
    frames = [frame for frame, _ in sized]
    lenses = [frame.intrinsics.distortion for frame in frames]
    fisheye = [frame.intrinsics.is_fisheye for frame in frames]
    has_lens = any(fisheye) or any(any(lens or ()) for lens in lenses)
    return Cameras(
        c2w=torch.stack([frame.c2w[:3] for frame in frames]).float(),
        focal=torch.tensor(focal, dtype=torch.float64).float(),
        center=torch.tensor(center, dtype=torch.float64).float(),
        near=torch.tensor([frame.near for frame in frames]),
        far=torch.tensor([frame.far for frame in frames]),
        width=max(size.width for _, size in sized),
        height=max(size.height for _, size in sized),
        distortion=torch.tensor([lens or (0.0,) * 9 for lens in lenses]) if has_lens else None,
        is_fisheye=torch.tensor(fisheye) if has_lens else None,
    )


class _ImageLoader:
    """Photographs on one canvas, with alpha if any has it."""

    def __init__(self, folder: Path, sized: list[tuple[Frame, Size]]) -> None:
        self.folder = folder
        self.sized = sized
        self.cameras = _cameras(sized)
        self.names = view_names([frame.name for frame, _ in sized])
        frames, sizes = [frame for frame, _ in sized], [size for _, size in sized]
        self.n_channels = max(size.n_channels for size in sizes)
        is_uneven = len({(size.width, size.height) for size in sizes}) > 1
        has_lens = self.cameras.distortion is not None
        self.has_masks = is_uneven or has_lens or any(frame.mask is not None for frame in frames)
        self.has_depths = any(
            frame.depth is not None or frame.points is not None for frame in frames
        )
        self.within_lenses: dict[tuple[Intrinsics, Size], Tensor | None] = {}

    def listing(self) -> DatasetIndex:
        n_bytes = self.n_channels + self.has_masks + 4 * self.has_depths
        return DatasetIndex(
            cameras=self.cameras,
            view_ids=torch.arange(len(self.sized)),
            names=self.names,
            bytes_per_view=n_bytes * self.cameras.width * self.cameras.height,
            load=self.load,
        )

    def load(self, keep: list[int]) -> ImageDataset:
        """Each photograph is read straight to its place."""
        check_memory([(self.listing(), keep)])
        shape = (len(keep), self.cameras.height, self.cameras.width)
        images = torch.zeros(*shape, self.n_channels, dtype=torch.uint8)
        masks = torch.zeros(shape, dtype=torch.bool) if self.has_masks else None
        depths = torch.zeros(shape) if self.has_depths else None

        def read(i: int) -> None:
            frame, size = self.sized[keep[i]]
            part = (i, slice(size.height), slice(size.width))
            image = _read(frame, size)
            images[part][..., 3:] = 255
            images[part][..., : image.shape[-1]] = image
            if (
                depths is not None
                and (depth := read_depth(frame, size.width, size.height)) is not None
            ):
                depths[part] = depth
            if masks is not None:
                self._mark(masks[i], keep[i])

        problems = ErrorCollector(self.folder)
        for i in keep:
            self._within_lens(i)  # once for all photographs of one camera, and not in threads
        largest = max((self.sized[i][1].n_stored for i in keep), default=0)
        in_parallel(read, len(keep), problems, largest)
        problems.stop()
        return ImageDataset(
            images=images,
            cameras=self.cameras[keep],
            view_ids=torch.tensor(keep),
            names=tuple(self.names[i] for i in keep),
            depths=depths,
            masks=None if masks is None or bool(masks.all()) else masks,
        )

    def _mark(self, mask: Tensor, index: int) -> None:
        """Set those pixels of the canvas, (height, width), that count."""
        frame, size = self.sized[index]
        counts = read_mask(frame, size.width, size.height)
        mask[: size.height, : size.width] = True if counts is None else counts
        within_lens = self._within_lens(index)
        if within_lens is not None:
            mask &= within_lens
        if not mask.any():
            raise UserError(f"no pixel of {frame.path} counts: correct its mask or its lens")

    def _within_lens(self, index: int) -> Tensor | None:
        frame, size = self.sized[index]
        key = (frame.intrinsics, size)
        if key not in self.within_lenses:
            self.within_lenses[key] = self.cameras.shown(index)
        return self.within_lenses[key]


def _read(frame: Frame, size: Size) -> Tensor:
    image = read_image(frame.path, size.is_turned)
    if image.shape[:2] != (size.height, size.width):
        image = shrink(image, size.width, size.height, "straight")
    return image
