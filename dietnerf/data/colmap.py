"""Reader of COLMAP's sparse models, binary or text, with their photographs."""

from dataclasses import replace
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from dietnerf.data.colmap_model import (
    CameraEntry,
    ImageEntry,
    Model,
    has_model,
    read_model,
    rotation,
)
from dietnerf.data.dataset import Split
from dietnerf.data.error_collector import ErrorCollector
from dietnerf.data.files import IMAGE_SUFFIXES, check_stays, exists, find_image
from dietnerf.data.frame_reader import AbstractFrameReader
from dietnerf.data.frames import (
    Frame,
    Intrinsics,
    check_hold_every,
    check_range,
    held_out,
    moved,
    photo_folder,
    warn_of_missing,
)
from dietnerf.data.memory import Downscale
from dietnerf.data.path_suggestions import find_folder
from dietnerf.data.ranges import range_of_points, with_common_far
from dietnerf.errors import UserError
from dietnerf.geometry.alignment import Similarity, unit_box, upright
from dietnerf.geometry.lenses import COEFFICIENTS
from dietnerf.geometry.poses import rigid

PLACES = ("sparse/*", "sparse", "colmap/sparse/*", "dense/sparse")
MAX_ERROR = 2.0  # of a sparse point that tells a distance, pixels

# Where COLMAP's parameters of each model stand: focal lengths, principal point, and distortion by
# the names of `geometry/lenses.py`.
MODELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "SIMPLE_PINHOLE": ("f", ()),
    "PINHOLE": ("ff", ()),
    "SIMPLE_RADIAL": ("f", ("k1",)),
    "RADIAL": ("f", ("k1", "k2")),
    "OPENCV": ("ff", ("k1", "k2", "p1", "p2")),
    "OPENCV_FISHEYE": ("ff", ("k1", "k2", "k3", "k4")),
    "FULL_OPENCV": ("ff", ("k1", "k2", "p1", "p2", "k3", "q1", "q2", "q3")),
    "SIMPLE_RADIAL_FISHEYE": ("f", ("k1",)),
    "RADIAL_FISHEYE": ("f", ("k1", "k2")),
}


@final
class COLMAP(AbstractFrameReader):
    """A sparse model of COLMAP (Schönberger and Frahm 2016), in `sparse/0` or thereabouts, with the
    photographs in `images` or smaller copies of it.

    Cameras of all pinhole and OpenCV models are read, several in one scene, too. Of several models
    the one with the most photographs is taken. Sparse points tell near and far of each view, and
    depth at single pixels for the loss `Depth`. Photos that are not there are left out with a
    warning.

    Args:
        root: folder of the capture; a relative one is also looked for in `data/` and in the folder
            that the environment variable DIETNERF_DATA names.
        downscale: how many times smaller than the full photographs the images become along each
            side; copies such as `images_4` are used.
        hold_every: every view of this number is for testing, from the first on, in order of file
            names; 0 tests on none.
        orient: turn the scene so that the images' mean upward direction is z, around the mean
            position.
        scale: let all cameras lie in the box from -1 to 1.
        near, far: bounds along the camera axis, scene units after scaling, instead of those of the
            sparse points.
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
    ) -> None:
        super().__init__(downscale)
        check_hold_every(hold_every)
        check_range(near, far)
        names = [f"{name}.{end}" for name in ("cameras",) for end in ("bin", "txt")]
        self.folder = find_folder(root, "sparse", "colmap", "dense", *names)
        self.hold_every = hold_every
        self.orient, self.scale = orient, scale
        self.near, self.far = near, far

    def frames(self, split: Split, problems: ErrorCollector) -> list[Frame] | None:
        folder, model = _largest_model(self.folder)
        photos = photo_folder(self.folder, self.downscale)
        frames, missing, seen = [], [], set[Path]()
        for image in sorted(model.images, key=lambda image: image.name):
            with problems.caught():
                path = _find_photo(photos, image.name)
                if path is None:
                    missing.append(image.name)
                    continue
                check_stays(self.folder, path)
                if path in seen:
                    raise UserError(f"{folder} lists {image.name} twice: remove one of them")
                seen.add(path)
                frames.append(_frame(image, model, path, f"{folder}, image {image.name}"))
        if not problems.sentences:
            warn_of_missing(missing, len(model.images), folder, self.folder)
        if not frames:
            problems.stop()
        return held_out(self._moved(with_common_far(frames)), self.hold_every, split)

    def _moved(self, frames: list[Frame]) -> list[Frame]:
        c2w = torch.stack([frame.c2w for frame in frames])
        motion = upright(c2w) if self.orient else Similarity.identity()
        size = unit_box(motion.poses(c2w)) if self.scale else 1.0
        return moved(frames, replace(motion, scale=size), self.near, self.far)


def _largest_model(root: Path) -> tuple[Path, Model]:
    places = [root, *(folder for place in PLACES for folder in sorted(root.glob(place)))]
    folders = [folder for folder in places if has_model(folder)]
    if not folders:
        raise UserError(
            f"{root} holds no model of COLMAP, which is cameras and images as .bin or .txt in "
            "sparse/0: reconstruct it first"
        )
    models = ((folder, read_model(folder)) for folder in folders)  # of which one is kept
    folder, model = max(models, key=lambda pair: len(pair[1].images))
    if not model.images:
        raise UserError(f"{folder} has no images: COLMAP placed none, take more photos")
    return folder, model


def _find_photo(folder: Path, name: str) -> Path | None:
    """The file of a photograph; a smaller copy may have another ending."""
    path = find_image(folder, name)
    if path is None and folder.name != "images":
        stem = name.rsplit(".", 1)[0]
        found = (folder / f"{stem}{end}" for end in IMAGE_SUFFIXES)
        path = next((copy for copy in found if exists(copy)), None)
    return path


def _frame(image: ImageEntry, model: Model, path: Path, where: str) -> Frame:
    camera = model.cameras.get(image.camera)
    if camera is None:
        raise UserError(f"{where} has camera {image.camera}, which is not listed: export it again")
    intrinsics = _intrinsics(camera, where)
    try:
        turn = torch.from_numpy(rotation(image.quaternion))
    except ValueError as error:
        raise UserError(f"{where}: its quaternion {error}: export the model again") from error
    shift = torch.tensor(image.translation, dtype=torch.float64)
    c2w = torch.eye(4, dtype=torch.float64)
    c2w[:3, :3] = turn.T * torch.tensor([1.0, -1.0, -1.0])  # COLMAP's y is down, z ahead
    c2w[:3, 3] = -turn.T @ shift
    points = _distances(image, model, turn, shift)
    near, far = range_of_points(points[:, 2])
    return Frame(
        name=image.name,
        path=path,
        c2w=rigid(c2w, where, "the pose"),
        intrinsics=intrinsics,
        near=near,
        far=far,
        points=points if len(points) else None,
    )


def _intrinsics(camera: CameraEntry, where: str) -> Intrinsics:
    if camera.model not in MODELS:
        raise UserError(
            f"{where} has a camera of model {camera.model}, which is none of "
            f"{', '.join(MODELS)}: run COLMAP with --ImageReader.camera_model OPENCV"
        )
    focals, names = MODELS[camera.model]
    n = len(focals)
    focal = (camera.parameters[0], camera.parameters[n - 1])
    lens = dict(zip(names, camera.parameters[n + 2 :], strict=True))
    intrinsics = Intrinsics(
        width=camera.width,
        height=camera.height,
        focal=focal,
        center=(camera.parameters[n], camera.parameters[n + 1]),
        distortion=tuple(lens.get(name, 0.0) for name in COEFFICIENTS),
        is_fisheye="FISHEYE" in camera.model,
    )
    intrinsics.check(where)
    return intrinsics


def _distances(image: ImageEntry, model: Model, turn: Tensor, shift: Tensor) -> Tensor:
    """Column, row and distance along the axis of well-placed sparse points in front, (n, 3)."""
    numbers = model.points["number"]
    index = np.searchsorted(numbers, image.points)
    is_there = index < len(numbers)
    is_there[is_there] = numbers[index[is_there]] == image.points[is_there]
    points = model.points["place"][index[is_there]]
    is_good = points[:, 3] <= MAX_ERROR
    distances = torch.from_numpy(points[is_good, :3]) @ turn[2] + shift[2]
    places = torch.from_numpy(image.places[is_there][is_good])
    found = torch.cat([places, distances[:, None]], dim=1)
    return found[(distances > 0) & found.isfinite().all(dim=1)]
