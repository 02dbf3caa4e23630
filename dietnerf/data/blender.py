"""Reader of the NeRF-synthetic format: `transforms_{train,val,test}.json` and PNG images."""

import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from dietnerf.data.files import (
    IMAGE_SUFFIXES,
    check_stays,
    entry,
    exists,
    find_folder,
    find_image,
    read_object,
)
from dietnerf.data.images import Header, ResizeAlpha, read_header, read_image, shrink
from dietnerf.data.loading import Downscale, auto_downscale, check_downscale, in_parallel
from dietnerf.data.problems import Problems
from dietnerf.data.scene import AbstractReader, Listing, Scene, Split, view_names
from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.poses import rigid

NARROWEST = 1e-4  # angle of view, radians; no lens has less


@dataclass(frozen=True)
class Frame:
    """One entry of the JSON list: its position there, its image, its pose (4, 4), float64."""

    position: int
    path: Path
    c2w: Tensor

    @property
    def number(self) -> int:
        """The number that ends the file name (8 in r_8.png), or else the position in the list."""
        digits = re.search(r"\d+$", self.path.stem)
        return int(digits[0]) if digits else self.position


@final
class Blender(AbstractReader):
    """A scene rendered with Blender, such as those of NeRF (Mildenhall et al. 2020).

    Args:
        root: folder of transforms_train.json. A relative one is looked for as it stands, then in
            `data/`, then in the folder that the environment variable DIETNERF_DATA names:
            `nerf_synthetic/lego` finds `data/nerf_synthetic/lego`.
        near, far: bounds along the camera axis, scene units.
        downscale: how many times smaller than the files the images become along each side, 1 or
            more; see `auto_downscale` for auto.
        resize_alpha: what is averaged then, see `shrink`. "straight" is the protocol of the
            published results.
        pixel_centers: rays pass through the centres of pixels. False repeats the NeRF authors'
            rays, which pass through the upper left corners.
        test_every: keep the test views whose number is a multiple of this: the one at the end of
            the file name, or the position in the list where the name has none. DietNeRF tests on
            every 8th of 200 views; a list that holds only those 25 gives the same 25.
    """

    def __init__(
        self,
        root: str,
        near: float = 2.0,
        far: float = 6.0,
        downscale: Downscale = 1.0,
        resize_alpha: ResizeAlpha = "straight",
        pixel_centers: bool = True,
        test_every: int = 1,
    ) -> None:
        if not 0 < near < far < math.inf:
            raise UserError(f"near {near} and far {far} must satisfy 0 < near < far: change them")
        check_downscale(downscale)
        if test_every < 1:
            raise UserError(f"test_every must be at least 1, got {test_every}: 1 keeps all views")
        self.folder = find_folder(root, "transforms_train.json")
        self.near, self.far = near, far
        self.is_auto = downscale == "auto"
        self.downscale = 1.0 if downscale == "auto" else downscale
        self.resize_alpha = resize_alpha
        self.pixel_centers = pixel_centers
        self.test_every = test_every

    def listing(self, split: Split) -> Listing | None:
        """The views of a split in the order of its JSON list; None where there is no such list."""
        if self.is_auto:
            self.downscale, self.is_auto = self._fitting(), False
        listing = self._read_listing(split)
        if listing is None:
            return None
        angle, frames = listing
        header = self._common_header(frames)
        cameras = self._cameras(frames, angle, (header.width, header.height))
        ids = torch.tensor([frame.position for frame in frames])
        names = view_names([f"{frame.path.parent.name}/{frame.path.name}" for frame in frames])

        def load(keep: list[int]) -> Scene:
            return Scene(
                images=self._read_images([frames[i] for i in keep], header),
                cameras=cameras[keep],
                view_ids=ids[keep],
                names=tuple(names[i] for i in keep),
                is_premultiplied=self._premultiplies,
            )

        n_bytes = cameras.width * cameras.height * header.n_channels
        return Listing(cameras, ids, names, n_bytes, load)

    def _fitting(self) -> float:
        """The downscale that suits the training views."""
        listing = self._read_listing("train")
        assert listing is not None, "the folder was found by this list"
        header = self._common_header(listing[1])
        return auto_downscale([(header.width, header.height)] * len(listing[1]), header.n_channels)

    def _read_listing(self, split: Split) -> tuple[float, list[Frame]] | None:
        """The angle of view and the frames that are used, all of whose images exist."""
        listing = self.folder / f"transforms_{split}.json"
        if not exists(listing):
            return None
        angle, frames = read_listing(listing)
        if split == "test":
            frames = self._thin_out(frames, listing)
        problems = Problems(self.folder)
        for frame in frames:
            with problems.caught():
                _check_file(frame, self.folder)
        problems.stop()
        return angle, frames

    @property
    def _premultiplies(self) -> bool:
        return self.downscale > 1 and self.resize_alpha == "premultiplied"

    def _thin_out(self, frames: list[Frame], listing: Path) -> list[Frame]:
        kept = [frame for frame in frames if frame.number % self.test_every == 0]
        if not kept:
            raise UserError(
                f"test_every={self.test_every} keeps none of the {len(frames)} views in {listing}: "
                "use a smaller one"
            )
        return kept

    def _common_header(self, frames: list[Frame]) -> Header:
        """Size and channels that all files have."""
        problems = Problems(self.folder)
        first: Header | None = None
        for frame in frames:
            with problems.caught():
                header = read_header(frame.path)
                if first is None:
                    first, first_name = header, frame.path.name
                if self._premultiplies and header.n_channels != 4:
                    raise UserError(
                        f"{frame.path} has no alpha channel, which resize_alpha=premultiplied "
                        "needs: use resize_alpha=straight"
                    )
                if header != first:
                    raise UserError(
                        f"{frame.path} is {_describe(header)} but {first_name} is "
                        f"{_describe(first)}: give all views one size and the same channels"
                    )
        problems.stop()
        assert first is not None, "a list of frames is not empty"
        return first

    def _read_images(self, frames: list[Frame], header: Header) -> Tensor:
        """Images at the final size, (n, h, w, 3 or 4)."""
        width, height = self._final_size(header.width, header.height)
        images = torch.empty(len(frames), height, width, header.n_channels, dtype=torch.uint8)

        def read(i: int) -> None:
            image = read_image(frames[i].path)
            if self.downscale > 1:
                image = shrink(image, width, height, self.resize_alpha)
            images[i] = image

        problems = Problems(self.folder)
        in_parallel(read, len(frames), problems, header.width * header.height)
        problems.stop()
        return images

    def _final_size(self, width: int, height: int) -> tuple[int, int]:
        return max(1, round(width / self.downscale)), max(1, round(height / self.downscale))

    def _cameras(self, frames: list[Frame], angle: float, size: tuple[int, int]) -> Cameras:
        n = len(frames)
        width, height = size
        cameras = Cameras(
            c2w=torch.stack([frame.c2w[:3] for frame in frames]).float(),
            focal=torch.full((n, 2), 0.5 * width / math.tan(0.5 * angle)),
            centre=torch.tensor([width / 2, height / 2]).repeat(n, 1),
            near=torch.full((n,), self.near),
            far=torch.full((n,), self.far),
            width=width,
            height=height,
        ).resized(*self._final_size(width, height))
        # A ray through a pixel's corner is one through its centre with the principal point moved.
        return cameras if self.pixel_centers else replace(cameras, centre=cameras.centre + 0.5)


def read_listing(listing: Path) -> tuple[float, list[Frame]]:
    """The horizontal angle of view in radians and the frames of one checked `transforms_*.json`."""
    content = read_object(listing)
    problems = Problems(listing)
    angle, frames = math.nan, []
    with problems.caught():
        angle = entry(content, "camera_angle_x", (int, float), listing)
        if not NARROWEST < angle < math.pi:
            raise UserError(
                f"{listing}: camera_angle_x must be an angle in (0, pi), got {angle!r:.60}"
            )
    with problems.caught():
        frames = entry(content, "frames", (list,), listing)
        if not frames:
            raise UserError(f"{listing}: frames is empty, list at least one view")
    read = []
    for i, frame in enumerate(frames):
        with problems.caught():
            read.append(_read_frame(frame, i, listing))
    for name, n in Counter(frame.path for frame in read).items():
        if n > 1:
            problems.add(f"{listing} lists {name} {n} times: list each view once")
    problems.stop()
    return float(angle), read


def _read_frame(content: Any, position: int, listing: Path) -> Frame:
    where = f"{listing}, frame {position}"
    name = entry(content, "file_path", (str,), where)
    matrix = entry(content, "transform_matrix", (list,), where)
    path = find_image(listing.parent, name)
    if not name.lower().endswith(IMAGE_SUFFIXES):
        name += ".png"
    path = path or listing.parent / name
    return Frame(position, path, rigid(matrix, f"{where} ({name})"))


def _check_file(frame: Frame, folder: Path) -> None:
    if not exists(frame.path):
        raise UserError(
            f"{frame.path} is listed but does not exist: restore it or remove its frame"
        )
    check_stays(folder, frame.path)


def _describe(header: Header) -> str:
    return f"{header.width}x{header.height} with {header.n_channels} channels"
