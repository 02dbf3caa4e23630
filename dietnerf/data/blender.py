"""Reader of the NeRF-synthetic format: `transforms_{train,val,test}.json` and PNG images."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from dietnerf.data.blender_listing import BlenderFrame, check_files, common_camera, read_listing
from dietnerf.data.dataset import ImageDataset, Split
from dietnerf.data.error_collector import ErrorCollector
from dietnerf.data.files import (
    exists,
)
from dietnerf.data.frames import Intrinsics, check_range, warn_off_center
from dietnerf.data.images import Header, ResizeAlpha, read_header, read_image, shrink
from dietnerf.data.memory import Downscale, auto_downscale, check_downscale, in_parallel
from dietnerf.data.path_suggestions import find_folder
from dietnerf.data.ranges import blender_range
from dietnerf.data.reader import AbstractReader, DatasetIndex, view_names
from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras


@final
class Blender(AbstractReader):
    """A scene rendered with Blender, such as those of NeRF (Mildenhall et al. 2020).

    Args:
        root: folder of transforms_train.json. A relative one is looked for as it stands, then in
            `data/`, then in the folder that the environment variable DIETNERF_DATA names:
            `nerf_synthetic/lego` finds `data/nerf_synthetic/lego`.
        near, far: bounds along the camera axis, scene units. Without them 2 and 6, as of NeRF's
            scenes, or where the cameras look at something nearer or farther, as that lies.
        downscale: how many times smaller than the files the images become along each side, 1 or
            more; see `auto_downscale` for auto.
        resize_alpha: what is averaged then, see `shrink`. "straight" is the protocol of the
            published results.
        pixel_centers: rays pass through the centers of pixels. False repeats the NeRF authors'
            rays, which pass through the upper left corners.
        test_every: keep the test views whose number is a multiple of this: the one at the end of
            the file name, or the position in the list where the name has none. DietNeRF tests on
            every 8th of 200 views; a list that holds only those 25 gives the same 25.
    """

    def __init__(
        self,
        root: str,
        near: float | None = None,
        far: float | None = None,
        downscale: Downscale = 1.0,
        resize_alpha: ResizeAlpha = "straight",
        pixel_centers: bool = True,
        test_every: int = 1,
    ) -> None:
        check_range(near, far)
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

    def listing(self, split: Split) -> DatasetIndex | None:
        """The views of a split in the order of its JSON list; None where there is no such list."""
        if self.is_auto:
            self.downscale, self.is_auto = self._fitting(), False
        listing = self._read_listing(split)
        if listing is None:
            return None
        content, frames = listing
        header = self._common_header(frames)
        where = self.folder / f"transforms_{split}.json"
        camera = common_camera(content, frames[0].path, header, where)
        warn_off_center(where, [camera])
        cameras = self._cameras(frames, camera)
        ids = torch.tensor([frame.position for frame in frames])
        names = view_names([f"{frame.path.parent.name}/{frame.path.name}" for frame in frames])

        def load(keep: list[int]) -> ImageDataset:
            return ImageDataset(
                images=self._read_images([frames[i] for i in keep], header),
                cameras=cameras[keep],
                view_ids=ids[keep],
                names=tuple(names[i] for i in keep),
                is_premultiplied=self._premultiplies,
            )

        n_bytes = cameras.width * cameras.height * header.n_channels
        return DatasetIndex(cameras, ids, names, n_bytes, load)

    def _fitting(self) -> float:
        """The downscale that suits the training views."""
        listing = self._read_listing("train")
        assert listing is not None, "the folder was found by this list"
        header = self._common_header(listing[1])
        return auto_downscale([(header.width, header.height)] * len(listing[1]), header.n_channels)

    def _read_listing(self, split: Split) -> tuple[dict[str, Any], list[BlenderFrame]] | None:
        """What stands in a listing, and the frames that are used, all of whose images exist."""
        listing = self.folder / f"transforms_{split}.json"
        if not exists(listing):
            return None
        content, frames = read_listing(listing)
        if split == "test":
            frames = self._thin_out(frames, listing)
        problems = ErrorCollector(self.folder)
        check_files(frames, self.folder, problems)
        problems.stop()
        return content, frames

    @property
    def _premultiplies(self) -> bool:
        return self.downscale > 1 and self.resize_alpha == "premultiplied"

    def _thin_out(self, frames: list[BlenderFrame], listing: Path) -> list[BlenderFrame]:
        kept = [frame for frame in frames if frame.number % self.test_every == 0]
        if not kept:
            raise UserError(
                f"test_every={self.test_every} keeps none of the {len(frames)} views in {listing}: "
                "use a smaller one"
            )
        return kept

    def _common_header(self, frames: list[BlenderFrame]) -> Header:
        """Size and channels that all files have."""
        problems = ErrorCollector(self.folder)
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

    def _read_images(self, frames: list[BlenderFrame], header: Header) -> Tensor:
        """Images at the final size, (n, h, w, 3 or 4)."""
        width, height = self._final_size(header.width, header.height)
        images = torch.empty(len(frames), height, width, header.n_channels, dtype=torch.uint8)

        def read(i: int) -> None:
            image = read_image(frames[i].path)
            if self.downscale > 1:
                image = shrink(image, width, height, self.resize_alpha)
            images[i] = image

        problems = ErrorCollector(self.folder)
        in_parallel(read, len(frames), problems, header.width * header.height)
        problems.stop()
        return images

    def _final_size(self, width: int, height: int) -> tuple[int, int]:
        return max(1, round(width / self.downscale)), max(1, round(height / self.downscale))

    def _cameras(self, frames: list[BlenderFrame], intrinsics: Intrinsics) -> Cameras:
        n = len(frames)
        c2w = torch.stack([frame.c2w for frame in frames])
        near, far = self._range(c2w)
        cameras = Cameras(
            c2w=c2w[:, :3].float(),
            focal=torch.tensor(intrinsics.focal).repeat(n, 1),
            center=torch.tensor(intrinsics.center).repeat(n, 1),
            near=near.float(),
            far=far.float(),
            width=intrinsics.width,
            height=intrinsics.height,
        ).resized(*self._final_size(intrinsics.width, intrinsics.height))
        # A ray through a pixel's corner is one through its center with the principal point moved.
        return cameras if self.pixel_centers else replace(cameras, center=cameras.center + 0.5)

    def _range(self, c2w: Tensor) -> tuple[Tensor, Tensor]:
        """Near and far, (n,) each, of cameras (n, 4, 4)."""
        near, far = (torch.full((len(c2w),), bound or math.nan) for bound in (self.near, self.far))
        if self.near is None or self.far is None:
            listing = self.folder / "transforms_train.json"
            train = torch.stack([frame.c2w for frame in read_listing(listing)[1]])
            found = blender_range(train, c2w, listing)
            near, far = (
                torch.where(given.isnan(), own, given)
                for given, own in zip((near, far), found, strict=True)
            )
        if not (near < far).all():
            raise UserError(
                f"near {float(near.max()):g} and far {float(far.min()):g} leave nothing to see: "
                "give both"
            )
        return near, far


def _describe(header: Header) -> str:
    return f"{header.width}x{header.height} with {header.n_channels} channels"
