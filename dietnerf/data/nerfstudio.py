"""Reader of `transforms.json` as instant-ngp and nerfstudio write it."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from dietnerf.data.dataset import SPLITS, Split
from dietnerf.data.error_collector import ErrorCollector
from dietnerf.data.files import (
    check_stays,
    entry,
    exists,
    find_image,
    number,
    read_object,
)
from dietnerf.data.frame_reader import AbstractFrameReader
from dietnerf.data.frames import (
    Frame,
    check_hold_every,
    check_range,
    held_out,
    moved,
    warn_of_missing,
)
from dietnerf.data.intrinsics import read_intrinsics
from dietnerf.data.memory import Downscale
from dietnerf.data.path_suggestions import file_instead, find_folder, instead
from dietnerf.data.ranges import NgpBox, ranged
from dietnerf.data.sparse_points import find_ply, image_id, points_in, with_points
from dietnerf.errors import UserError
from dietnerf.geometry.alignment import Similarity, unit_box, upright
from dietnerf.geometry.poses import rigid


@final
class Transforms(AbstractFrameReader):
    """A capture with `transforms.json` in the form of instant-ngp or nerfstudio.

    Intrinsics stand at the top for all frames or in each frame: `fl_x`, `fl_y` or `camera_angle_x`;
    `cx`, `cy`, `w`, `h`; `k1` to `k4`, `p1`, `p2`; `camera_model` or `is_fisheye`. Frames may have
    `mask_path`, and `depth_file_path` or `depth_path`; instant-ngp's `dynamic_mask_*.png` are
    found. Frames whose photo does not exist are left out with a warning. Where the points of
    `ply_file_path` come with observations, as `prepare` writes them, they tell the depth of single
    pixels for the loss `Depth`, in frames that have no depth map.

    Which views are for testing say `train_filenames`, `val_filenames` and `test_filenames`, or
    `transforms_train.json` and so on in place of `transforms.json`, or else `hold_every`.

    Args:
        root: folder of transforms.json; a relative one is also looked for in `data/` and in the
            folder that the environment variable DIETNERF_DATA names.
        downscale: how many times smaller than the photos the images become along each side.
        hold_every: every view of this number is for testing, from the first on, in order of file
            names; 0 tests on none.
        orient: turn the scene so that the images' mean upward direction is z, around the mean
            position.
        scale: let all cameras lie in the box from -1 to 1.
        near, far: bounds along the camera axis, scene units after scaling. Without them those that
            the frames name as `near` and `far`; or those of the points of `ply_file_path`, for each
            view; or the box of `aabb_scale`, `scale` and `offset`, of which near follows only where
            `scale` is there; or a guess from where the cameras look.
        depth_unit: what 1 in a depth map is in units of the file. Without it integers are
            thousandths (millimeters, where the file is in meters), and floats units;
            `integer_depth_scale` in the file goes before it, for integers.
    """

    def __init__(
        self,
        root: str,
        downscale: Downscale = 1.0,
        hold_every: int = 8,
        orient: bool = True,
        scale: bool = True,
        near: float | None = None,
        far: float | None = None,
        depth_unit: float | None = None,
    ) -> None:
        super().__init__(downscale)
        check_hold_every(hold_every)
        check_range(near, far)
        self.folder = find_folder(root, "transforms.json", "transforms_train.json")
        self.hold_every = hold_every
        self.orient, self.scale = orient, scale
        self.near, self.far = near, far
        self.depth_unit = depth_unit

    def frames(self, split: Split, problems: ErrorCollector) -> list[Frame] | None:
        splits = self._splits(problems)
        frames = splits.get(split)
        if frames is None:
            return None
        if not frames:
            problems.stop()
            raise UserError(f"{self.folder}: no photo is left for {split}: list more of them")
        everything = [frame for part in splits.values() for frame in part]
        with problems.caught():
            everything = self._measured(everything)
        start = sum(len(splits[other]) for other in list(splits)[: list(splits).index(split)])
        return self._moved(everything)[start : start + len(frames)]

    def _splits(self, problems: ErrorCollector) -> dict[Split, list[Frame]]:
        whole = self.folder / "transforms.json"
        if not exists(whole):
            listings = {split: self.folder / f"transforms_{split}.json" for split in SPLITS}
            return {
                split: self._read_listing(listing, problems)
                for split, listing in listings.items()
                if exists(listing)
            }
        content = read_object(whole)
        frames = self._read_listing(whole, problems)
        if any(content.get(f"{split}_filenames") is not None for split in SPLITS):
            return _named_splits(content, frames, whole, problems)
        by_name = sorted(frames, key=lambda frame: frame.name)
        parts = {s: held_out(by_name, self.hold_every, s) for s in SPLITS} if frames else {}
        return {split: part for split, part in parts.items() if part is not None}

    def _read_listing(self, listing: Path, problems: ErrorCollector) -> list[Frame]:
        content = read_object(listing)
        entries = entry(content, "frames", (list,), listing)
        if not entries:
            raise UserError(f"{listing}: frames is empty, list at least one view")
        frames, missing, seen = [], [], dict[Path, int]()
        for i, one in enumerate(entries):
            where = f"{listing}, frame {i}"
            with problems.caught():
                name = entry(one, "file_path", (str,), where)
                c2w = rigid(entry(one, "transform_matrix", (list,), where), f"{where} ({name})")
                path = find_image(self.folder, name)
                if path is None:
                    missing.append(name)
                    continue
                check_stays(self.folder, path)
                if path in seen:
                    raise UserError(f"{where} shows {name}, as does frame {seen[path]}: remove one")
                seen[path] = i
                frames.append(self._frame(content | _given(one), name, path, c2w, where))
        if not problems.sentences:
            warn_of_missing(missing, len(entries), listing, self.folder)
        return frames

    def _frame(
        self, values: dict[str, Any], name: str, path: Path, c2w: Tensor, where: str
    ) -> Frame:
        near, far = _own_range(values, where)
        depth = self._beside(values, ("depth_file_path", "depth_path"), where)
        mask = self._beside(values, ("mask_path",), where)
        dynamic = path.with_name(f"dynamic_mask_{path.stem}.png")
        is_dynamic = mask is None and exists(dynamic)
        unit = 1e-3 if self.depth_unit is None else self.depth_unit
        if "integer_depth_scale" in values:
            unit = number(values, "integer_depth_scale", where)
        return Frame(
            name=name.replace("\\", "/"),
            path=path,
            c2w=c2w,
            intrinsics=read_intrinsics(values, path, where),
            near=near,
            far=far,
            mask=dynamic if is_dynamic else mask,
            is_mask_inverted=is_dynamic,
            depth=depth,
            depth_unit=unit,
            float_depth_unit=1.0 if self.depth_unit is None else self.depth_unit,
            image_id=image_id(values),
        )

    def _beside(self, values: dict[str, Any], keys: tuple[str, ...], where: str) -> Path | None:
        """The file that the first of the keys names, if any does."""
        for key in keys:
            if values.get(key) is not None:
                name = entry(values, key, (str,), where)
                path = find_image(self.folder, name)
                if path is None:
                    found = instead(file_instead(self.folder, name))
                    raise UserError(
                        f"{where}: {key} is {name}, which does not exist{found}: correct the name, "
                        "or restore it"
                    )
                check_stays(self.folder, path)
                return path
        return None

    def _measured(self, frames: list[Frame]) -> list[Frame]:
        """All photographs with near and far, and with what sparse points tell of their depth."""
        listing = self.folder / "transforms.json"
        if not exists(listing):
            listing = self.folder / "transforms_train.json"
        content = read_object(listing)
        ply = find_ply(content, self.folder)
        frames = frames if ply is None else with_points(frames, ply)
        points = None if ply is None else points_in(ply)
        return ranged(frames, points, NgpBox.of(content, listing))

    def _moved(self, frames: list[Frame]) -> list[Frame]:
        """All photographs in the coordinates of the scene."""
        c2w = torch.stack([frame.c2w for frame in frames])
        motion = upright(c2w) if self.orient else Similarity.identity()
        size = unit_box(motion.poses(c2w)) if self.scale else 1.0
        return moved(frames, replace(motion, scale=size), self.near, self.far)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _own_range(values: dict[str, Any], where: str) -> tuple[float, float]:
    """Near and far that a frame names, units of the file; NaN where it names none."""
    if values.get("near") is None or values.get("far") is None:
        return math.nan, math.nan
    near, far = number(values, "near", where), number(values, "far", where)
    if not 0 < near < far:
        raise UserError(f"{where}: near {near} and far {far} must satisfy 0 < near < far")
    return near, far


def _named_splits(
    content: dict[str, Any], frames: list[Frame], listing: Path, problems: ErrorCollector
) -> dict[Split, list[Frame]]:
    """The splits that `train_filenames` and so on name; what none of them names is for training
    where that one is missing."""
    known = {frame.name.removeprefix("./"): frame for frame in frames}
    listed = {
        one["file_path"].replace("\\", "/").removeprefix("./")
        for one in content["frames"]
        if isinstance(one, dict) and isinstance(one.get("file_path"), str)
    }
    splits: dict[Split, list[Frame]] = {}
    for split in SPLITS:
        key = f"{split}_filenames"
        if content.get(key) is None:
            continue
        splits[split] = []
        for name in entry(content, key, (list,), listing):
            plain = str(name).replace("\\", "/").removeprefix("./")
            if plain not in listed:
                problems.add(f"{listing}: {key} names {name!r:.60}, which is none of the frames")
            elif plain in known:
                splits[split].append(known[plain])
    if "train" not in splits:
        taken = {frame.name for part in splits.values() for frame in part}
        splits["train"] = [frame for frame in frames if frame.name not in taken]
    return {split: part for split, part in splits.items() if part or split == "train"}
