"""The files of a COLMAP model: cameras, images and points3D, as .bin or .txt.

Formats: https://colmap.github.io/format.html
"""

import io
import math
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from dietnerf.data.files import LONGEST_NAME, exists
from dietnerf.errors import UserError
from dietnerf.files import open_regular

Entry = TypeVar("Entry")
Place = tuple[float, float, float, float]  # of a point, and its reprojection error in pixels
MOST_BYTES = 2 << 30  # of a file
MOST_ENTRIES = 1_000_000  # cameras or photographs, or points seen in one photograph
LONGEST_LINE = 16 << 20  # of a text file
POINT = np.dtype([("number", "<i8"), ("place", "<f8", 4)])
SEEN = np.dtype([("place", "<f8", 2), ("point", "<i8")])  # a point in a photograph

# Name and number of parameters of each camera model, by COLMAP's number.
CAMERA_MODELS = [
    ("SIMPLE_PINHOLE", 3), ("PINHOLE", 4), ("SIMPLE_RADIAL", 4), ("RADIAL", 5), ("OPENCV", 8),
    ("OPENCV_FISHEYE", 8), ("FULL_OPENCV", 12), ("FOV", 5), ("SIMPLE_RADIAL_FISHEYE", 4),
    ("RADIAL_FISHEYE", 5), ("THIN_PRISM_FISHEYE", 12),
]  # fmt: skip
N_PARAMETERS = dict(CAMERA_MODELS)


@dataclass(frozen=True)
class CameraEntry:
    """A camera: the name of its model, the size of its images, its parameters in COLMAP's order."""

    model: str
    width: int
    height: int
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class ImageEntry:
    """A photograph: world-to-camera quaternion (w, x, y, z) and translation, x right and y down,
    and the places of its sparse points, (n, 2), with their numbers, int64, (n,)."""

    name: str
    camera: int
    quaternion: tuple[float, ...]
    translation: tuple[float, ...]
    places: np.ndarray
    points: np.ndarray


@dataclass(frozen=True)
class Model:
    """All of a model; points by rising number, each with its position and reprojection error in
    pixels, of the type `POINT`."""

    cameras: dict[int, CameraEntry]
    images: list[ImageEntry]
    points: np.ndarray


def has_model(folder: Path) -> bool:
    """Whether cameras and images of a model are there."""
    return all(any(exists(folder / (name + end)) for end in (".bin", ".txt")) for name in NEEDED)


NEEDED = ("cameras", "images")


def read_model(folder: Path) -> Model:
    """The model in a folder, from binary files where there are such.

    Raises:
        UserError: a file is cut short, or is none of COLMAP's.
    """
    with _entries(folder / "cameras", _binary_camera, _text_cameras) as found:
        cameras = dict(_few(found))
    with _entries(folder / "images", _binary_image, _text_images) as found:
        images = [image for _, image in _few(found)]
    points = np.empty(0, POINT)
    if any(exists(folder / f"points3D.{end}") for end in ("bin", "txt")):
        with _entries(folder / "points3D", _binary_point, _text_points) as found:
            points = np.fromiter(found, POINT)
    points.sort(order="number")
    return Model(cameras, images, points)


@contextmanager
def _entries(
    stem: Path,
    binary: Callable[["_Bytes"], tuple[int, Entry]],
    text: Callable[[Iterator[str]], Iterator[tuple[int, Entry]]],
) -> Iterator[Iterator[tuple[int, Entry]]]:
    """The entries of a file with their numbers, one after the other."""
    path = stem.with_name(stem.name + ".bin")
    is_binary = exists(path)
    if not is_binary:
        path = stem.with_name(stem.name + ".txt")
    try:
        with open_regular(path, MOST_BYTES) as file:
            yield _distinct(_Bytes(file).entries(binary) if is_binary else text(_lines(file)))
    except (OSError, ValueError, IndexError, OverflowError, struct.error) as error:
        raise UserError(
            f"{path} is cut short or not a file of COLMAP ({error}): export the model again"
        ) from error


def _distinct(entries: Iterator[tuple[int, Entry]]) -> Iterator[tuple[int, Entry]]:
    """The same, but not the like over and over again, as of a hole in a file."""
    last = None
    for number, entry in entries:
        if number == last:
            raise ValueError(f"number {number} comes twice")
        yield number, entry
        last = number


def _few(entries: Iterator[tuple[int, Entry]]) -> Iterator[tuple[int, Entry]]:
    yield from islice(entries, MOST_ENTRIES)
    if next(entries, None) is not None:
        raise ValueError(f"it has more than {MOST_ENTRIES} entries")


def _lines(file: BinaryIO) -> Iterator[str]:
    text = io.TextIOWrapper(file, encoding="utf-8")
    while line := text.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise ValueError("a line in it does not end")
        yield line


class _Bytes:
    """A binary file, read from its beginning on."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = file.seek(0, io.SEEK_END)
        file.seek(0)

    def entries(self, binary: Callable[["_Bytes"], Entry]) -> Iterator[Entry]:
        (n,) = self.take("Q")
        for _ in range(n):
            yield binary(self)
        if self.file.tell() != self.size:
            raise ValueError("more bytes than entries")

    def take(self, form: str) -> tuple:
        return struct.unpack("<" + form, self.file.read(struct.calcsize("<" + form)))

    def array(self, form: np.dtype, n: int) -> np.ndarray:
        if n > MOST_ENTRIES:
            raise ValueError(f"{n} points in one image")
        return np.frombuffer(self.file.read(n * form.itemsize), form, n)

    def skip(self, n_bytes: int) -> None:
        if self.file.tell() + n_bytes > self.size:
            raise ValueError("a point is seen more often than there is room for")
        self.file.seek(n_bytes, io.SEEK_CUR)

    def text(self) -> str:
        start = self.file.tell()
        value, end, _ = self.file.read(LONGEST_NAME).partition(b"\0")
        if not end:
            raise ValueError("a name in it does not end")
        self.file.seek(start + len(value) + 1)
        return value.decode("utf-8")


def _binary_camera(file: _Bytes) -> tuple[int, CameraEntry]:
    number, model, width, height = file.take("iiQQ")
    if not 0 <= model < len(CAMERA_MODELS):
        raise ValueError(f"camera model {model} is unknown")
    name, n = CAMERA_MODELS[model]
    return number, CameraEntry(name, width, height, file.take(f"{n}d"))


def _binary_image(file: _Bytes) -> tuple[int, ImageEntry]:
    number, *pose, camera = file.take("I7di")
    name = file.text()
    (n,) = file.take("Q")
    seen = file.array(SEEN, n)
    seen = seen[seen["point"] >= 0]  # which are few of all features
    image = ImageEntry(name, camera, tuple(pose[:4]), tuple(pose[4:]), seen["place"], seen["point"])
    return number, image


def _binary_point(file: _Bytes) -> tuple[int, Place]:
    number, x, y, z, error, n_seen = file.take("q3d3xdQ")
    file.skip(8 * n_seen)
    return number, (x, y, z, error)


def _is_content(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")


def _text_cameras(lines: Iterator[str]) -> Iterator[tuple[int, CameraEntry]]:
    for line in filter(_is_content, lines):
        number, model, width, height, *parameters = line.split()
        if len(parameters) != N_PARAMETERS.get(model, len(parameters)):
            raise ValueError(f"camera model {model} has {len(parameters)} parameters")
        values = tuple(float(x) for x in parameters)
        yield int(number), CameraEntry(model, int(width), int(height), values)


def _text_images(lines: Iterator[str]) -> Iterator[tuple[int, ImageEntry]]:
    for line in filter(_is_content, lines):
        number, *pose, camera, name = line.split(maxsplit=9)
        values = np.array([float(x) for x in next(lines, "").split()]).reshape(-1, 3)
        qw, qx, qy, qz, tx, ty, tz = (float(x) for x in pose)
        image = ImageEntry(
            name.strip(),
            int(camera),
            (qw, qx, qy, qz),
            (tx, ty, tz),
            values[:, :2],
            values[:, 2].astype(np.int64),
        )
        yield int(number), image


def _text_points(lines: Iterator[str]) -> Iterator[tuple[int, Place]]:
    for line in filter(_is_content, lines):
        number, x, y, z, _, _, _, error, *_ = line.split(maxsplit=8)
        yield int(number), (float(x), float(y), float(z), float(error))


def rotation(quaternion: tuple[float, ...]) -> np.ndarray:
    """The rotation (3, 3) of a quaternion (w, x, y, z), which should be of length one.

    Raises:
        ValueError: it is far from that.
    """
    length = math.hypot(*quaternion)
    if not abs(length - 1) < 1e-2:
        raise ValueError(f"has length {length:.4g}, not 1")
    w, x, y, z = (value / length for value in quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
