"""`transforms_{train,val,test}.json` as NeRF's Blender scenes have them: frames with their poses,
and one camera for all."""

import math
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dietnerf.data.error_collector import ErrorCollector
from dietnerf.data.files import IMAGE_SUFFIXES, check_stays, entry, exists, find_image, read_object
from dietnerf.data.frames import Intrinsics
from dietnerf.data.images import Header
from dietnerf.data.intrinsics import read_intrinsics
from dietnerf.data.path_suggestions import file_instead, instead
from dietnerf.errors import UserError
from dietnerf.geometry.poses import rigid

NARROWEST = 1e-4  # angle of view, radians; no lens has less
UNLIKE = 0.02  # by what the ratio of an image's sides may differ from that of its camera's
OF_ALL = ("fl_x", "fl_y", "cx", "cy", "k1")  # what all frames have in common


@dataclass(frozen=True)
class ListedFrame:
    """One entry of the JSON list: its position there, its image, its pose (4, 4), float64."""

    position: int
    path: Path
    c2w: Tensor

    @property
    def number(self) -> int:
        """The number that ends the file name (8 in r_8.png), or else the position in the list."""
        digits = re.search(r"\d+$", self.path.stem)
        return int(digits[0]) if digits else self.position


def common_camera(
    content: dict[str, Any], photo: Path, header: Header, listing: Path
) -> Intrinsics:
    """The camera of all photographs, for the size that they have."""
    values = {"w": header.width, "h": header.height}
    values |= {key: value for key, value in content.items() if value is not None}
    camera = read_intrinsics(values, photo, str(listing))
    if camera.is_fisheye or any(camera.distortion or ()):
        raise UserError(
            f"{listing} describes a lens, which this reader does not know: use dietnerf.data."
            "Transforms for --data.reader"
        )
    across, down = header.width / camera.width, header.height / camera.height
    if abs(across / down - 1) > UNLIKE:
        raise UserError(
            f"{listing} has w {camera.width} and h {camera.height}, but its images are "
            f"{header.width}x{header.height}: correct the size, or use the images that it is of"
        )
    (focal_x, focal_y), (center_x, center_y) = camera.focal, camera.center
    focal, center = (focal_x * across, focal_y * down), (center_x * across, center_y * down)
    return Intrinsics(header.width, header.height, focal, center)


def read_listing(listing: Path) -> tuple[dict[str, Any], list[ListedFrame]]:
    """The content and the frames of one checked `transforms_*.json`."""
    content = read_object(listing)
    problems = ErrorCollector(listing)
    frames = []
    with problems.caught():
        if content.get("fl_x") is None:
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
    return content, read


def _read_frame(content: Any, position: int, listing: Path) -> ListedFrame:
    where = f"{listing}, frame {position}"
    name = entry(content, "file_path", (str,), where)
    own = [key for key in OF_ALL if content.get(key) is not None]
    if own:
        raise UserError(
            f"{where} has its own {own[0]}, where this reader knows one camera for all: use "
            "dietnerf.data.Transforms for --data.reader"
        )
    matrix = entry(content, "transform_matrix", (list,), where)
    path = find_image(listing.parent, name)
    if not name.lower().endswith(IMAGE_SUFFIXES):
        name += ".png"
    path = path or listing.parent / name
    return ListedFrame(position, path, rigid(matrix, f"{where} ({name})"))


def check_files(frames: list[ListedFrame], folder: Path, problems: ErrorCollector) -> None:
    """Note which images do not exist, or lie outside of the scene's folder."""
    missing = [frame.path for frame in frames if not exists(frame.path)]
    if missing:
        first = missing[0]
        found = file_instead(folder, os.path.relpath(first, folder))
        many = "" if len(missing) == 1 else f" (as {len(missing)} of {len(frames)})"
        what_to_do = "restore it or remove its frame" if found is None else "correct the listing"
        problems.add(f"{first} is listed but does not exist{many}{instead(found)}: {what_to_do}")
    for frame in frames:
        if frame.path not in missing:
            with problems.caught():
                check_stays(folder, frame.path)
