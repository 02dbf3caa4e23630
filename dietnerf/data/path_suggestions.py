"""Where a scene is, and what is there in place of a file or folder that is not."""

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

from dietnerf.data.files import LONGEST_NAME, MOST_FOLDERS, exists, is_file, is_folder
from dietnerf.errors import UserError

MOST_ENTRIES = 10_000  # of a folder that are gone through
MOST_PLACES = 50  # folders that are
OTHERS = re.compile("mask|depth|normal|train|val|test")  # folders of files with the same names


def find_folder(root: str, *needed: str) -> Path:
    """The scene's folder: `root`, or if that is relative, also below data/ and $DIETNERF_DATA.

    Args:
        root: as the user gave it.
        needed: the folder holds at least one of these.
    """
    places = places_of(root)
    for place in places:
        if any(exists(place / name) for name in needed):
            return place
    tried = ", ".join(str(place) for place in places)
    others = (_folder_instead(place, needed) for place in places)
    other = next((place for place in others if place is not None), None)
    what_to_do = (
        "give the folder that holds it, or set DIETNERF_DATA to the folder of your data sets"
        if other is None
        else f"{other} holds one, so give that"
    )
    raise UserError(f"no {' or '.join(needed)} for root={root}, tried {tried}: {what_to_do}")


def places_of(root: str) -> list[Path]:
    """Where a folder by that name can be: as it stands, below data/ and below $DIETNERF_DATA."""
    given = Path(root).expanduser()
    if given.is_absolute():
        return [given]
    data = os.environ.get("DIETNERF_DATA")
    return [given, Path("data") / given, *([Path(data).expanduser() / given] if data else [])]


def file_instead(folder: Path, name: str) -> Path | None:
    """The file that a listing in `folder` may mean by a name that no file has: one whose name
    differs in case or ending, there, in another folder of the scene, or in the folder above."""
    path = PurePosixPath(name.replace("\\", "/"))
    if len(name) > LONGEST_NAME or len(path.parts) > MOST_FOLDERS:
        return None
    stems = {path.name.casefold(), path.stem.casefold()}
    for place in _places(folder, path):
        for found in _entries(place):
            names = (found.name.casefold(), found.stem.casefold())
            if not stems.isdisjoint(names) and is_file(found):
                return found
    return None


def _folder_instead(root: Path, needed: tuple[str, ...]) -> Path | None:
    """A folder that holds one of the needed files, where `root` does not: one within it, the one
    above, or one whose name differs in case."""
    siblings = (p for p in _entries(root.parent) if p.name.casefold() == root.name.casefold())
    inner = (path for path in _entries(root) if is_folder(path))
    for place in (*siblings, *inner, root.parent):
        if any(exists(place / name) for name in needed):
            return place
    return None


def instead(found: Path | None) -> str:
    """As part of a sentence that something does not exist."""
    return "" if found is None else f", but {found} does"


def _places(folder: Path, path: PurePosixPath) -> Iterator[Path]:
    """Folders to look into, those first that the path names, but none for other things."""
    named, above = folder / path.parent, folder.parent / path.parent
    parts = {part.casefold() for part in path.parts}
    inner = (
        place
        for place in _entries(folder)
        if is_folder(place)
        and (place.name.casefold() in parts or not OTHERS.search(place.name.casefold()))
    )
    yield from islice(dict.fromkeys((named, folder, *inner, above, folder.parent)), MOST_PLACES)


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, by name, or nothing where that cannot be said."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in islice(entries, MOST_ENTRIES))
    except (OSError, ValueError):
        return []
