"""Reader of the NeRF-synthetic format: `transforms_{train,val,test}.json` and PNG images."""

import json
import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from dietnerf.data.images import ResizeAlpha, image_size, read_image, shrink
from dietnerf.data.scene import AbstractReader, Scene, Split
from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.poses import rigid

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")


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
        self.folder = find_folder(root)
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
        for frame in frames:
            if not frame.path.is_file():
                raise UserError(
                    f"{frame.path} is listed but does not exist: restore it or remove its frame"
                )
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
        first = read_image(frames[0].path)
        height, width, channels = first.shape
        if self._premultiplies and channels != 4:
            raise UserError(
                f"{frames[0].path} has no alpha channel, which resize_alpha=premultiplied needs: "
                "use resize_alpha=straight"
            )
        images = []
        for frame in frames:
            image = read_image(frame.path)
            if image.shape != first.shape:
                raise UserError(
                    f"{frame.path} is {_describe(image)} but {frames[0].path.name} is "
                    f"{_describe(first)}: give all views one size and the same channels"
                )
            if self.downscale > 1:
                image = shrink(image, *self._final_size(width, height), self.resize_alpha)
            images.append(image)
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


def find_folder(root: str) -> Path:
    """The scene's folder: `root`, or if that is relative, also below data/ and $DIETNERF_DATA."""
    given = Path(root).expanduser()
    places = [given]
    if not given.is_absolute():
        places.append(Path("data") / given)
        if os.environ.get("DIETNERF_DATA"):
            places.append(Path(os.environ["DIETNERF_DATA"]).expanduser() / given)
    for place in places:
        if (place / "transforms_train.json").is_file():
            return place
    tried = ", ".join(str(place) for place in places)
    raise UserError(
        f"no transforms_train.json for root={root}, tried {tried}: "
        "give the folder that holds it, or set DIETNERF_DATA to the folder of your data sets"
    )


def read_listing(listing: Path) -> tuple[float, list[Frame]]:
    """The horizontal angle of view in radians and the frames of one checked `transforms_*.json`."""
    try:
        content = json.loads(listing.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{listing} is not valid JSON ({error}): export it again") from error
    angle = _get(content, "camera_angle_x", (int, float), listing)
    if not 0 < angle < math.pi:
        raise UserError(f"{listing}: camera_angle_x must be an angle in (0, pi), got {angle}")
    frames = _get(content, "frames", (list,), listing)
    if not frames:
        raise UserError(f"{listing}: frames is empty, list at least one view")
    return float(angle), [_read_frame(frame, i, listing) for i, frame in enumerate(frames)]


def _read_frame(entry: Any, position: int, listing: Path) -> Frame:
    where = f"{listing}, frame {position}"
    name = _get(entry, "file_path", (str,), where)
    matrix = _get(entry, "transform_matrix", (list,), where)
    if not name.lower().endswith(IMAGE_SUFFIXES):
        name += ".png"
    return Frame(position, listing.parent / name, rigid(matrix, f"{where} ({name})"))


def _get(entry: Any, key: str, types: tuple[type, ...], where: Path | str) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        raise UserError(f"{where}: the key {key} is missing, add it")
    if not isinstance(entry[key], types) or isinstance(entry[key], bool):
        kinds = " or ".join(kind.__name__ for kind in types)
        raise UserError(f"{where}: {key} must be of type {kinds}, got {entry[key]!r:.60}")
    return entry[key]


def _names(frames: list[Frame]) -> tuple[str, ...]:
    """File names without their ending, with the folder where the same one comes twice."""
    stems = [frame.path.stem for frame in frames]
    if len(set(stems)) == len(stems):
        return tuple(stems)
    return tuple(f"{frame.path.parent.name}_{frame.path.stem}" for frame in frames)


def _describe(image: Tensor) -> str:
    return f"{image.shape[1]}x{image.shape[0]} with {image.shape[2]} channels"
