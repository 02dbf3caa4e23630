"""Photographs of unlike size, camera and lens, read onto one canvas."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dietnerf.data.dataset import ImageDataset
from dietnerf.data.error_collector import ErrorCollector
from dietnerf.data.frames import Frame, Intrinsics
from dietnerf.data.images import (
    ResizeAlpha,
    is_stored_sideways,
    read_header,
    read_image,
    shrink,
)
from dietnerf.data.maps import checked_size, read_depth, read_mask
from dietnerf.data.memory import check_memory, in_parallel
from dietnerf.data.reader import DatasetIndex, view_names
from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras


@dataclass(frozen=True)
class Size:
    """Final width and height of a photograph, whether its file is turned before, the channels
    that it is read with, and pixels of the largest of its files."""

    width: int
    height: int
    is_turned: bool
    n_channels: int
    n_stored: int


def size_of(frame: Frame, downscale: float) -> Size:
    """The size that a photograph is read with.

    Raises:
        UserError: its file is another photograph's, or smaller than that.
    """
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
    is_copy = (width, height) != (full.width, full.height)
    if is_copy and abs(final[0] - width) <= 1 and abs(final[1] - height) <= 1:
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


def cameras_of(sized: list[tuple[Frame, Size]]) -> Cameras:
    """The cameras of photographs for the sizes that they are read with."""
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


class ImageLoader:
    """Photographs on one canvas, with alpha if any has it."""

    def __init__(
        self, folder: Path, sized: list[tuple[Frame, Size]], cameras: Cameras, premultiplies: bool
    ) -> None:
        self.folder = folder
        self.sized = sized
        self.cameras = cameras
        self.premultiplies = premultiplies
        self.view_ids = torch.tensor(
            [i if frame.view_id is None else frame.view_id for i, (frame, _) in enumerate(sized)]
        )
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
            view_ids=self.view_ids,
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
            image = _read(frame, size, self.premultiplies)
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
            view_ids=self.view_ids[keep],
            names=tuple(self.names[i] for i in keep),
            depths=depths,
            is_premultiplied=self.premultiplies,
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


def _read(frame: Frame, size: Size, premultiplies: bool) -> Tensor:
    image = read_image(frame.path, size.is_turned)
    if premultiplies or image.shape[:2] != (size.height, size.width):
        way: ResizeAlpha = "premultiplied" if premultiplies else "straight"
        image = shrink(image, size.width, size.height, way)
    return image
