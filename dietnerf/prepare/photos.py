"""A folder of photographs, copied upright into a scene, each once."""

import hashlib
import math
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, ImageOps

from dietnerf.data.error_collector import N_LISTED
from dietnerf.data.files import IMAGE_SUFFIXES, exists, is_folder, list_images
from dietnerf.data.image_files import HEIC_SUFFIXES, check_codec, open_image
from dietnerf.data.images import encoded, read_image
from dietnerf.errors import UserError, printable
from dietnerf.prepare.panorama import N_LEVEL, cut, is_panorama, view_cameras
from dietnerf.prepare.progress import tracked
from dietnerf.prepare.quality import Choice

JPEG = (".jpg", ".jpeg", *HEIC_SUFFIXES)  # copied as JPEG, anything else as PNG
LONGEST = 200  # bytes of a copy's name, which gets further endings
FULL_FRAME = math.hypot(36, 24)  # the diagonal that "35 mm equivalent" refers to, millimeters
MILLIMETRES = {2: 25.4, 3: 10.0, 4: 1.0, 5: 1e-3}  # of EXIF's FocalPlaneResolutionUnit
PLAUSIBLE = (0.2, 20.0)  # focal length over the longer side of the picture


@dataclass(frozen=True)
class Photo:
    """One photograph, upright.

    Args:
        name: of its file in the scene's `images`.
        width, height: in pixels.
        focal: what its EXIF data say of the focal length, in pixels, if they do.
        view: which view of a panorama it is, cut out with exactly this focal length, if it is one.
    """

    name: str
    width: int
    height: int
    focal: float | None
    view: int | None = None

    @property
    def panorama(self) -> str | None:
        """What the views of one panorama have in common, and no others."""
        return None if self.view is None else self.name.removeprefix(prefix_of(self.view))


VIEW_OF = re.compile(r"view\d+_of_")  # as `prefix_of` has it


def prefix_of(view: int) -> str:
    """What the names of this view of all panoramas begin with."""
    return f"view{view}_of_"


def find_photos(folder: Path) -> list[Path]:
    """The photographs of a folder, r_2 before r_10.

    Raises:
        UserError: there is no such folder, or no photograph in it that can be read here.
    """
    if not is_folder(folder):
        reason = "is not a folder" if exists(folder) else "does not exist"
        raise UserError(f"{folder} {reason}: give a folder of photos, or a video file")
    photos = list_images(folder)
    if not photos:
        known = ", ".join(IMAGE_SUFFIXES)
        raise UserError(f"{folder} holds no photos: it needs files that end in one of {known}")
    for path in photos:
        check_codec(path)
    return sorted(photos, key=lambda path: _counted(path.name))


def _counted(name: str) -> list[tuple[int, str]]:
    """A sorting key by the numbers in a name."""
    return [(int(digits or 0), text) for digits, text in re.findall(r"(\d+)|(\D+)", name)]


def copy_photos(
    paths: list[Path], images: Path, panorama: Choice = "auto"
) -> tuple[list[Photo], list[str]]:
    """Write upright copies; where a file is upright already, it is copied as it is. Of panoramas
    their views are written, the first of all of them, then the second, and so on.

    Args:
        paths: of the photographs.
        images: folder of the copies, which is made.
        panorama: which photographs are equirectangular: those with the tag, all, or none.

    Returns:
        The photographs, and in sentences what was left out and what is uncommon.

    Raises:
        UserError: some cannot be read; it names all of them.
    """
    images.mkdir(parents=True)
    photos: list[Photo] = []
    notes, problems = [], []
    seen: dict[bytes, str] = {}
    named = list(zip(paths, _names(paths), strict=True))
    for path, name in tracked(named, "copies", "photos"):
        try:
            is_cut = is_panorama(path, panorama)
            picture, focal, is_kept = open_upright(path)
        except UserError as error:
            problems.append(str(error))
            continue
        digest = hashlib.sha256(picture.tobytes()).digest()
        if digest in seen:
            same = f"{path.name} is the same picture as {seen[digest]}: left out"
            notes.append(printable(same))
            continue
        seen[digest] = path.name
        if is_cut:
            photos += _write_views(picture, images, name)
            continue
        if is_kept:
            shutil.copyfile(path, images / name)
        else:
            _write(picture, images / name)
        photos.append(Photo(name, *picture.size, focal))
    if problems:
        more = [f"and {len(problems) - N_LISTED} more"] if len(problems) > N_LISTED else []
        raise UserError("; ".join([*problems[:N_LISTED], *more]))
    n_cut = len({photo.panorama for photo in photos} - {None})
    if n_cut:
        notes.append(f"{n_cut} 360-degree pictures are cut into {N_LEVEL + 1} views each")
    n_wide = sum(photo.width == 2 * photo.height for photo in photos)
    if n_wide and panorama == "auto":
        notes.append(
            f"{n_wide} photos are twice as wide as high: if they are 360-degree pictures, cut them "
            "by --panorama yes"
        )
    photos.sort(key=lambda photo: -1 if photo.view is None else photo.view)
    return photos, notes + _on_sizes(photos)


def _write(picture: Image.Image, path: Path) -> None:
    kind = "JPEG" if path.suffix == ".jpg" else "PNG"
    path.write_bytes(encoded(picture, kind, quality=95, subsampling=0))


def _write_views(picture: Image.Image, images: Path, name: str) -> Iterator[Photo]:
    """Write the views of a panorama."""
    focal = float(view_cameras(picture.width).focal[0, 0])
    for i, view in enumerate(cut(picture)):
        photo = Photo(f"{prefix_of(i)}{name}", *view.size, focal, i)
        _write(view, images / photo.name)
        yield photo


def _names(paths: list[Path]) -> list[str]:
    """What the copies are called: as the photographs, as far as COLMAP and JSON can write it, each
    name once."""
    stems = Counter(_writable(path.stem) for path in paths)
    names: dict[str, None] = {}
    for path in paths:
        stem = _writable(path.stem)
        if VIEW_OF.match(stem):  # which a view of a panorama may be called
            stem = f"_{stem}"
        if stems[stem] > 1:
            stem += f"_{path.suffix[1:]}"
        ending = ".jpg" if path.suffix.lower() in JPEG else ".png"
        while stem + ending in names:
            stem += "_"
        names[stem + ending] = None
    return list(names)


def _writable(stem: str) -> str:
    plain = "".join(char if char.isprintable() else "_" for char in stem)
    return plain.encode()[:LONGEST].decode(errors="ignore")


def _on_sizes(photos: list[Photo]) -> list[str]:
    sizes = Counter((photo.width, photo.height) for photo in photos)
    if len(sizes) < 2:
        return []
    counts = ", ".join(f"{n} of {width}x{height}" for (width, height), n in sizes.most_common())
    return [f"the photos have several sizes ({counts}): each gets a camera of its own"]


def open_upright(path: Path) -> tuple[Image.Image, float | None, bool]:
    """A photograph turned as EXIF says, in 8 bits.

    Returns:
        The picture, RGB or RGBA; its focal length in pixels, if known; and whether its file holds
        just that already, so that it can be copied.

    Raises:
        UserError: it cannot be read.
    """
    picture = Image.fromarray(read_image(path).numpy())
    with open_image(path, is_decoded=False) as file:
        exif, mode, kind = file.getexif(), file.mode, file.format
        has_palette = "transparency" in file.info
        focal = focal_of(exif, *picture.size)
        orientation = exif.get(ExifTags.Base.Orientation, 1)
    is_kept = orientation == 1 and kind in ("JPEG", "PNG") and mode in ("RGB", "RGBA")
    if path.suffix.lower() not in (".png" if kind == "PNG" else JPEG):
        is_kept = False  # the ending says another format
    if orientation in range(1, 9):
        picture.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(picture), focal, is_kept and not has_palette


def focal_of(exif: Image.Exif, width: int, height: int) -> float | None:
    """The focal length in pixels that a camera noted, or None where it noted none that can be.

    From the focal length on a 35 mm film, or else from the true one and the pixels on the sensor.

    Args:
        exif: of the photograph.
        width, height: of the stored picture, pixels.
    """
    details = exif.get_ifd(ExifTags.IFD.Exif)
    on_film = _number(details.get(ExifTags.Base.FocalLengthIn35mmFilm))
    length = _number(details.get(ExifTags.Base.FocalLength))
    density = _number(details.get(ExifTags.Base.FocalPlaneXResolution))
    unit = MILLIMETRES.get(details.get(ExifTags.Base.FocalPlaneResolutionUnit, 2), 25.4)
    full_width = _number(details.get(ExifTags.Base.ExifImageWidth)) or width
    if on_film:
        focal = on_film / FULL_FRAME * math.hypot(width, height)
    elif length and density:
        focal = length * density / unit * width / full_width
    else:
        return None
    low, high = PLAUSIBLE
    return focal if low <= focal / max(width, height) <= high else None


def _number(value: Any) -> float | None:
    """What EXIF gives as a rational number, if it is a positive one."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if 0 < number < math.inf else None
