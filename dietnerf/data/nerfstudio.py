"""Reader of `transforms.json` as instant-ngp and nerfstudio write it."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from dietnerf.data.files import (
    check_stays,
    entry,
    exists,
    find_folder,
    find_image,
    number,
    read_object,
)
from dietnerf.data.images import image_size
from dietnerf.data.loading import Downscale
from dietnerf.data.problems import Problems
from dietnerf.data.scene import SPLITS, Split
from dietnerf.data.shots import (
    Intrinsics,
    Shot,
    check_hold_every,
    check_range,
    held_out,
    moved,
    warn_of_missing,
)
from dietnerf.data.stack import AbstractShotReader
from dietnerf.errors import UserError
from dietnerf.geometry.alignment import Similarity, unit_box, upright
from dietnerf.geometry.lenses import COEFFICIENTS
from dietnerf.geometry.poses import rigid

PINHOLES = ("PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
FISHEYES = ("FISHEYE", "OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")
UNKNOWN_LENSES = (
    "is_equirectangular",
    "equirectangular",
    "latlong",
    "ftheta_p0",
    "rolling_shutter",
)
NGP_BOX = 1 / 0.33 / 2  # half side of instant-ngp's box at aabb_scale 1, in units of the file


@final
class Transforms(AbstractShotReader):
    """A capture with `transforms.json` in the form of instant-ngp or nerfstudio.

    Intrinsics stand at the top for all frames or in each frame: `fl_x`, `fl_y` or `camera_angle_x`;
    `cx`, `cy`, `w`, `h`; `k1` to `k4`, `p1`, `p2`; `camera_model` or `is_fisheye`. Frames may have
    `mask_path`, and `depth_file_path` or `depth_path`; instant-ngp's `dynamic_mask_*.png` are
    found. Frames whose photo does not exist are left out with a warning.

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
            the frames name as `near` and `far`, or the box of `aabb_scale`, or a guess from where
            the cameras look.
        depth_unit: what a step of a depth map is in units of the file (nerfstudio: millimetres and
            metres); `integer_depth_scale` in the file goes before it.
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
        depth_unit: float = 1e-3,
    ) -> None:
        super().__init__(downscale)
        check_hold_every(hold_every)
        check_range(near, far)
        self.folder = find_folder(root, "transforms.json", "transforms_train.json")
        self.hold_every = hold_every
        self.orient, self.scale = orient, scale
        self.near, self.far = near, far
        self.depth_unit = depth_unit

    def shots(self, split: Split, problems: Problems) -> list[Shot] | None:
        splits = self._splits(problems)
        shots = splits.get(split)
        if shots is None:
            return None
        everything = [shot for part in splits.values() for shot in part]
        moved = self._moved(shots, everything) if shots else []
        if not moved:
            problems.stop()
            raise UserError(f"{self.folder}: no photo is left for {split}: list more of them")
        return moved

    def _splits(self, problems: Problems) -> dict[Split, list[Shot]]:
        whole = self.folder / "transforms.json"
        if not exists(whole):
            listings = {split: self.folder / f"transforms_{split}.json" for split in SPLITS}
            return {
                split: self._read_listing(listing, problems)
                for split, listing in listings.items()
                if exists(listing)
            }
        content = read_object(whole)
        shots = self._read_listing(whole, problems)
        if any(content.get(f"{split}_filenames") is not None for split in SPLITS):
            return _named_splits(content, shots, whole, problems)
        by_name = sorted(shots, key=lambda shot: shot.name)
        parts = {s: held_out(by_name, self.hold_every, s) for s in SPLITS} if shots else {}
        return {split: part for split, part in parts.items() if part is not None}

    def _read_listing(self, listing: Path, problems: Problems) -> list[Shot]:
        content = read_object(listing)
        frames = entry(content, "frames", (list,), listing)
        if not frames:
            raise UserError(f"{listing}: frames is empty, list at least one view")
        shots, missing, seen = [], [], dict[Path, int]()
        for i, frame in enumerate(frames):
            where = f"{listing}, frame {i}"
            with problems.caught():
                name = entry(frame, "file_path", (str,), where)
                c2w = rigid(entry(frame, "transform_matrix", (list,), where), f"{where} ({name})")
                path = find_image(self.folder, name)
                if path is None:
                    missing.append(name)
                    continue
                check_stays(self.folder, path)
                if path in seen:
                    raise UserError(f"{where} shows {name}, as does frame {seen[path]}: remove one")
                seen[path] = i
                shots.append(self._shot(content | _given(frame), name, path, c2w, where))
        if not problems.sentences:
            warn_of_missing(missing, len(frames), listing)
        return shots

    def _shot(self, values: dict[str, Any], name: str, path: Path, c2w: Tensor, where: str) -> Shot:
        near, far = _range(values, c2w, where)
        depth = self._beside(values, ("depth_file_path", "depth_path"), where)
        mask = self._beside(values, ("mask_path",), where)
        dynamic = path.with_name(f"dynamic_mask_{path.stem}.png")
        is_dynamic = mask is None and exists(dynamic)
        unit = self.depth_unit
        if "integer_depth_scale" in values:
            unit = number(values, "integer_depth_scale", where)
        return Shot(
            name=name.replace("\\", "/"),
            path=path,
            c2w=c2w,
            intrinsics=_intrinsics(values, path, where),
            near=near,
            far=far,
            mask=dynamic if is_dynamic else mask,
            is_mask_inverted=is_dynamic,
            depth=depth,
            depth_unit=unit,
        )

    def _beside(self, values: dict[str, Any], keys: tuple[str, ...], where: str) -> Path | None:
        """The file that the first of the keys names, if any does."""
        for key in keys:
            if values.get(key) is not None:
                name = entry(values, key, (str,), where)
                path = find_image(self.folder, name)
                if path is None:
                    raise UserError(f"{where}: {key} is {name}, which does not exist: restore it")
                check_stays(self.folder, path)
                return path
        return None

    def _moved(self, shots: list[Shot], everything: list[Shot]) -> list[Shot]:
        """The photographs of one split, as all of them settle the frame of the scene."""
        c2w = torch.stack([shot.c2w for shot in everything])
        motion = upright(c2w) if self.orient else Similarity.identity()
        size = unit_box(motion.poses(c2w)) if self.scale else 1.0
        return moved(shots, replace(motion, scale=size), self.near, self.far)


def _given(frame: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in frame.items() if value is not None}


def _intrinsics(values: dict[str, Any], path: Path, where: str) -> Intrinsics:
    def optional(key: str, default: float) -> float:
        return default if values.get(key) is None else number(values, key, where)

    for key in UNKNOWN_LENSES:
        given = values.get(key)
        if any(given) if isinstance(given, list) else given:
            raise UserError(f"{where}: {key} is not supported: export pinhole or OpenCV cameras")
    model = values.get("camera_model", "OPENCV")
    if model not in (*PINHOLES, *FISHEYES):
        known = ", ".join((*PINHOLES, *FISHEYES))
        raise UserError(f"{where}: camera_model {model!r:.40} is none of {known}: export it anew")
    stored = (0, 0)
    if values.get("w") is None or values.get("h") is None:
        stored = image_size(path)
    width, height = optional("w", stored[0]), optional("h", stored[1])
    if values.get("fl_x") is None and values.get("camera_angle_x") is None:
        raise UserError(f"{where}: the key fl_x is missing, or camera_angle_x: add one of them")
    focal_x = optional("fl_x", 0) or _focal(values, "camera_angle_x", width, where)
    focal_y = optional("fl_y", 0)
    if values.get("fl_y") is None:
        has_angle = values.get("fl_x") is None and values.get("camera_angle_y") is not None
        focal_y = _focal(values, "camera_angle_y", height, where) if has_angle else focal_x
    result = Intrinsics(
        width=round(width),
        height=round(height),
        focal=(focal_x, focal_y),
        centre=(optional("cx", width / 2), optional("cy", height / 2)),
        distortion=tuple(optional(name, 0.0) for name in COEFFICIENTS),
        is_fisheye=bool(values.get("is_fisheye")) or model in FISHEYES,
    )
    result.check(where)
    return result


def _focal(values: dict[str, Any], key: str, side: float, where: str) -> float:
    if values.get(key) is None:
        return 0.0
    angle = number(values, key, where)
    if not 0 < angle < math.pi:
        raise UserError(f"{where}: {key} must be an angle in (0, pi), got {angle}")
    return 0.5 * side / math.tan(0.5 * angle)


def _range(values: dict[str, Any], c2w: Tensor, where: str) -> tuple[float, float]:
    """Near and far in units of the file; NaN where it says nothing of them."""
    if values.get("near") is not None and values.get("far") is not None:
        near, far = number(values, "near", where), number(values, "far", where)
        if not 0 < near < far:
            raise UserError(f"{where}: near {near} and far {far} must satisfy 0 < near < far")
        return near, far
    if values.get("aabb_scale") is None:
        return math.nan, math.nan
    scale = number(values, "aabb_scale", where)
    if scale <= 0:
        raise UserError(f"{where}: aabb_scale must be positive, got {scale}")
    distance, radius = float(c2w[:3, 3].norm()), math.sqrt(3) * NGP_BOX * scale
    far = distance + radius
    return max(distance - radius, 0.02 * far), far


def _named_splits(
    content: dict[str, Any], shots: list[Shot], listing: Path, problems: Problems
) -> dict[Split, list[Shot]]:
    """The splits that `train_filenames` and so on name; what none of them names is for training
    where that one is missing."""
    known = {shot.name.removeprefix("./"): shot for shot in shots}
    listed = {
        frame["file_path"].replace("\\", "/").removeprefix("./")
        for frame in content["frames"]
        if isinstance(frame, dict) and isinstance(frame.get("file_path"), str)
    }
    splits: dict[Split, list[Shot]] = {}
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
        taken = {shot.name for part in splits.values() for shot in part}
        splits["train"] = [shot for shot in shots if shot.name not in taken]
    return {split: part for split, part in splits.items() if part or split == "train"}
