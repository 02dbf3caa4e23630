"""Reader of the NeRF-synthetic format: `transforms_{train,val,test}.json` and PNG images."""

import math
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from dietnerf.data.blender_listing import ListedFrame, check_files, common_camera, read_listing
from dietnerf.data.dataset import Split
from dietnerf.data.error_collector import ErrorCollector
from dietnerf.data.files import exists
from dietnerf.data.frame_reader import AbstractFrameReader
from dietnerf.data.frames import Frame, check_range
from dietnerf.data.images import Header, ResizeAlpha, read_header
from dietnerf.data.memory import Downscale
from dietnerf.data.path_suggestions import find_folder
from dietnerf.data.ranges import blender_range
from dietnerf.errors import UserError


@final
class Blender(AbstractFrameReader):
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
        super().__init__(downscale, resize_alpha, pixel_centers)
        check_range(near, far)
        if test_every < 1:
            raise UserError(f"test_every must be at least 1, got {test_every}: 1 keeps all views")
        self.folder = find_folder(root, "transforms_train.json")
        self.near, self.far = near, far
        self.test_every = test_every

    def frames(self, split: Split, problems: ErrorCollector) -> list[Frame] | None:
        """The views of a split in the order of its JSON list; None where there is no such list."""
        listing = self.folder / f"transforms_{split}.json"
        if not exists(listing):
            return None
        content, listed = read_listing(listing)
        if split == "test":
            listed = self._thin_out(listed, listing)
        check_files(listed, self.folder, problems)
        problems.stop()
        header = self._common_header(listed, problems)
        camera = common_camera(content, listed[0].path, header, listing)
        near, far = self._range(torch.stack([view.c2w for view in listed]))
        return [
            Frame(
                name=f"{view.path.parent.name}/{view.path.name}",
                path=view.path,
                c2w=view.c2w,
                intrinsics=camera,
                near=float(near[i]),
                far=float(far[i]),
                view_id=view.position,
            )
            for i, view in enumerate(listed)
        ]

    def _thin_out(self, frames: list[ListedFrame], listing: Path) -> list[ListedFrame]:
        kept = [frame for frame in frames if frame.number % self.test_every == 0]
        if not kept:
            raise UserError(
                f"test_every={self.test_every} keeps none of the {len(frames)} views in {listing}: "
                "use a smaller one"
            )
        return kept

    def _common_header(self, frames: list[ListedFrame], problems: ErrorCollector) -> Header:
        """Size and channels that all files have."""
        first: Header | None = None
        for frame in frames:
            with problems.caught():
                header = read_header(frame.path)
                if first is None:
                    first, first_name = header, frame.path.name
                if self.premultiplies and header.n_channels != 4:
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
