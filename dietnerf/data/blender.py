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
    find_folder,
    find_image,
    is_file,
    read_object,
)
from dietnerf.data.images import ResizeAlpha, image_size, read_image, shrink
from dietnerf.data.problems import Problems
from dietnerf.data.scene import AbstractReader, Scene, Split
from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.poses import rigid


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
            more.
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
        downscale: float = 1.0,
        resize_alpha: ResizeAlpha = "straight",
        pixel_centers: bool = True,
        test_every: int = 1,
    ) -> None:
        if not 0 < near < far < math.inf:
            raise UserError(f"near {near} and far {far} must satisfy 0 < near < far: change them")
        if not 1 <= downscale < math.inf:
            raise UserError(f"downscale must be at least 1, got {downscale}: use 2 for half size")
        if test_every < 1:
            raise UserError(f"test_every must be at least 1, got {test_every}: 1 keeps all views")
        self.folder = find_folder(root, "transforms_train.json")
        self.near, self.far = near, far
        self.downscale = downscale
        self.resize_alpha = resize_alpha
        self.pixel_centers = pixel_centers
        self.test_every = test_every

    def read(self, split: Split) -> Scene | None:
        """All views of a split in the order of its JSON list; None where there is no such list."""
        listing = self._read_listing(split)
        if listing is None:
            return None
        angle, frames = listing
        images, size = self._read_images(frames)
        return Scene(
            images=images,
            cameras=self._cameras(frames, angle, size),
            view_ids=torch.tensor([frame.position for frame in frames]),
            names=_names(frames),
            is_premultiplied=self._premultiplies,
        )

    def cameras(self, split: Split) -> Cameras | None:
        """The cameras of a split; of its images only the size of the first is read."""
        listing = self._read_listing(split)
        if listing is None:
            return None
        angle, frames = listing
        return self._cameras(frames, angle, image_size(frames[0].path))

    def _read_listing(self, split: Split) -> tuple[float, list[Frame]] | None:
        """The angle of view and the frames that are used, all of whose images exist."""
        listing = self.folder / f"transforms_{split}.json"
        if not listing.is_file():
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

    def _read_images(self, frames: list[Frame]) -> tuple[Tensor, tuple[int, int]]:
        """Images at the final size, (n, h, w, 3 or 4), and the width and height of the files."""
        problems = Problems(self.folder)
        images, first = [], None
        for frame in frames:
            with problems.caught():
                image = read_image(frame.path)
                if first is None:
                    first, first_name = image, frame.path.name
                if self._premultiplies and image.shape[2] != 4:
                    raise UserError(
                        f"{frame.path} has no alpha channel, which resize_alpha=premultiplied "
                        "needs: use resize_alpha=straight"
                    )
                if image.shape != first.shape:
                    raise UserError(
                        f"{frame.path} is {_describe(image)} but {first_name} is "
                        f"{_describe(first)}: give all views one size and the same channels"
                    )
                height, width, _ = image.shape
                if self.downscale > 1:
                    image = shrink(image, *self._final_size(width, height), self.resize_alpha)
                images.append(image)
        problems.stop()
        return torch.stack(images), (width, height)

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
        if not 0 < angle < math.pi:
            raise UserError(f"{listing}: camera_angle_x must be an angle in (0, pi), got {angle}")
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
    if not is_file(frame.path):
        raise UserError(
            f"{frame.path} is listed but does not exist: restore it or remove its frame"
        )
    check_stays(folder, frame.path)


def _names(frames: list[Frame]) -> tuple[str, ...]:
    """File names without their ending, with the folder where the same one comes twice."""
    stems = [frame.path.stem for frame in frames]
    if len(set(stems)) == len(stems):
        return tuple(stems)
    return tuple(f"{frame.path.parent.name}_{frame.path.stem}" for frame in frames)


def _describe(image: Tensor) -> str:
    return f"{image.shape[1]}x{image.shape[0]} with {image.shape[2]} channels"
