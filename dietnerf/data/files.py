"""Where the files of a scene are, and what stands in its JSON files, checked."""

import json
import math
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from dietnerf.errors import UserError
from dietnerf.files import check_regular, open_regular

IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".heic", ".heif",
)  # fmt: skip

LONGEST_NAME, MOST_FOLDERS = 4096, 64  # of a file; each of these is looked into
MOST_JSON = 64 << 20  # bytes: a listing of some 60,000 views
MOST_VALUES = 4_000_000  # in it; each takes up to 64 bytes of memory


def read_object(path: Path) -> dict[str, Any]:
    """The content of a JSON file that holds one object.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    try:
        with open_regular(path, MOST_JSON) as file:
            text = file.read()
        if text.count(b",") > MOST_VALUES:
            raise ValueError(f"it holds more than {MOST_VALUES} values")
        content = json.loads(text)
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}): export it again") from error
    if not isinstance(content, dict):
        raise UserError(
            f"{path} must hold a JSON object in braces, got {_shorten(content)}: a list of poses, "
            "as ns-export writes it, says nothing of the camera; use the capture's transforms.json"
        )
    return content


def entry(content: Any, key: str, types: tuple[type, ...], where: Path | str) -> Any:
    """A value that must be there.

    Raises:
        UserError: it is missing or of another type; the message says `where`.
    """
    if not isinstance(content, dict) or content.get(key) is None:
        raise UserError(f"{where}: the key {key} is missing, add it")
    value = content[key]
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        kinds = " or ".join(kind.__name__ for kind in types)
        raise UserError(f"{where}: {key} must be of type {kinds}, got {_shorten(value)}")
    return value


def number(content: dict[str, Any], key: str, where: Path | str) -> float:
    """A finite number that must be there."""
    value = entry(content, key, (int, float), where)
    if not (abs(value) < 1e300 and math.isfinite(value)):
        raise UserError(f"{where}: {key} must be a finite number, got {_shorten(value)}")
    return float(value)


def find_image(folder: Path, name: str) -> Path | None:
    """What a listing in `folder` means by `name`, or None.

    The name may be absolute or relative, with slashes or backslashes, with or without its ending,
    or lack the folder images/. Of an absolute path that is not on this machine, the part below the
    scene's folder counts. Accents may be written in either form of Unicode. Where there is no such
    file, a pipe or folder of that name is found, for `check_regular` to refuse.
    """
    name = name.replace("\\", "/")
    if len(name) > LONGEST_NAME or name.count("/") > MOST_FOLDERS:
        return None
    other = None
    for place in _places(folder, name):
        for found in _spellings(place) if is_folder(place.parent) else ():
            if is_file(found):
                return found
            if other is None and exists(found):
                other = found
    return other


def _places(folder: Path, name: str) -> Iterator[Path]:
    path = PurePosixPath(name)
    yield folder / path
    is_absolute = path.is_absolute() or (len(name) > 1 and name[1] == ":")
    n_starts = len(path.parts) if is_absolute else 1
    for start in range(int(is_absolute), n_starts):
        tail = PurePosixPath(*path.parts[start:])
        yield folder / tail
        yield folder / "images" / tail


def _spellings(place: Path) -> Iterator[Path]:
    forms = (unicodedata.normalize(form, place.name) for form in ("NFC", "NFD"))
    for name in dict.fromkeys((place.name, *forms)):
        yield from _with_endings(place.with_name(name) if name else place)


def _with_endings(path: Path) -> Iterator[Path]:
    yield path
    if path.name and not path.name.lower().endswith(IMAGE_SUFFIXES):
        for suffix in IMAGE_SUFFIXES:
            yield path.with_name(path.name + suffix)
            yield path.with_name(path.name + suffix.upper())


def check_stays(folder: Path, path: Path) -> None:
    """Refuse a file outside of the scene's folder, where a link or the listing says one: a copy of
    the scene would lack it, and a stranger's listing has no business there.

    Raises:
        UserError: names the file, or the link and where it goes.
    """
    if path.resolve().is_relative_to(folder.resolve()):
        return
    steps = path.relative_to(folder).parts if path.is_relative_to(folder) else ()
    here = folder
    for step in steps:
        here = here / step
        if step != ".." and here.is_symlink():
            goal = here.resolve()
            if not goal.is_relative_to(folder.resolve()):
                raise UserError(
                    f"{here} is a symbolic link to {goal}, outside of the scene's folder: "
                    "put the file itself there"
                )
    raise UserError(
        f"{path} is listed, but lies outside of the scene's folder {folder}: put it there"
    )


def list_images(folder: Path) -> list[Path]:
    """The image files of a folder by name, without hidden ones.

    Raises:
        UserError: the name of an image is that of a folder, a pipe or a device.
    """
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().endswith(IMAGE_SUFFIXES) and not path.name.startswith(".")
    )
    for path in paths:
        check_regular(path)
    return paths


def exists(path: Path) -> bool:
    """Whether there is something of that name; a name that cannot be one is none."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that cannot be one is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; a name that cannot be one is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _shorten(value: Any) -> str:
    return f"{value!r:.60}"
