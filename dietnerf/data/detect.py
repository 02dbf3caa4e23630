"""Which reader a folder is for, by what lies in it."""

import difflib
import shlex
from pathlib import Path

from dietnerf.data.blender import Blender
from dietnerf.data.colmap import COLMAP
from dietnerf.data.files import IMAGE_SUFFIXES, exists, read_object
from dietnerf.data.llff import LLFF
from dietnerf.data.nerfstudio import Transforms
from dietnerf.data.path_suggestions import places_of
from dietnerf.data.reader import AbstractReader
from dietnerf.errors import UserError

VIDEOS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")
LISTINGS: dict[str, type[AbstractReader]] = {  # what a folder must hold, the surest sign first
    "transforms.json": Transforms,
    "transforms_train.json": Blender,
    "poses_bounds.npy": LLFF,
    "sparse": COLMAP,
    "colmap": COLMAP,
    "dense": COLMAP,
    "cameras.bin": COLMAP,
    "cameras.txt": COLMAP,
}


def _alike(path: Path) -> Path | None:
    """A folder beside a missing one that is called almost the same."""
    try:
        names = [folder.name for folder in path.parent.iterdir() if folder.is_dir()]
    except OSError:
        return None
    close = difflib.get_close_matches(path.name, names, n=1)
    return path.parent / close[0] if close else None


def find_reader(scene: str) -> tuple[type[AbstractReader], Path]:
    """The reader of a capture, and its folder.

    Args:
        scene: a folder, or a listing in it; a relative one is also looked for in `data/` and in the
            folder that the environment variable DIETNERF_DATA names.

    Raises:
        UserError: nothing there is a capture with poses.
    """
    possible = places_of(scene)
    places = [place for place in possible if exists(place)]
    if not places:
        meant = next(filter(None, map(_alike, possible)), None)
        advice = "name the folder of a capture" if meant is None else f"did you mean {meant}?"
        raise UserError(f"there is no --scene {scene}: {advice}")
    for place in places:
        folder = place.parent if place.name in LISTINGS and not place.is_dir() else place
        for name, reader in LISTINGS.items():
            if exists(folder / name):
                return _kind_of(reader, folder / name), folder
    raise UserError(_missing(places[0]))


def _kind_of(reader: type[AbstractReader], listing: Path) -> type[AbstractReader]:
    """instant-ngp and nerfstudio write lists by split as well, but with a focal length."""
    if reader is not Blender:
        return reader
    content = read_object(listing)
    frames = content.get("frames")
    first = frames[0] if isinstance(frames, list) and frames else None
    said = content.keys() | (first.keys() if isinstance(first, dict) else set())
    return Transforms if said & {"fl_x", "k1", "camera_model"} else Blender


def _prepare(photos: Path) -> str:
    name = shlex.quote(str(photos))
    return (
        f"`dietnerf prepare {name} SCENE` finds where they were taken from, "
        f"`dietnerf make {name} --out SCENE` makes a film as well"
    )


def _missing(place: Path) -> str:
    if place.suffix.lower() in VIDEOS:
        return f"{place} is a video: " + _prepare(place)
    if not place.is_dir():
        return f"--scene {place} is a file: name the folder of a capture"
    inside = sorted(place.iterdir())
    photos = [path for path in inside if path.suffix.lower() in IMAGE_SUFFIXES]
    if photos:
        return f"{place} holds {len(photos)} photos without poses: " + _prepare(place)
    below = [path for path in inside if path.is_dir() and any(exists(path / n) for n in LISTINGS)]
    if below:
        return f"{place} is no capture, but {below[0]} is: --scene {below[0]}"
    folders = [path for path in inside if path.is_dir()]
    for folder in folders:
        if any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir()):
            return f"{folder} holds photos without poses: " + _prepare(folder)
    return f"{place} holds no capture: none of {', '.join(LISTINGS)} is in it"
