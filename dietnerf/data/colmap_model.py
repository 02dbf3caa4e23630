"""The files of a COLMAP model: cameras, images and points3D, as .bin or .txt.

Formats: https://colmap.github.io/format.html
"""

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from dietnerf.data.files import is_file
from dietnerf.errors import UserError

Entry = TypeVar("Entry")

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

    number: int
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
    """All of a model; points by their numbers, as position and reprojection error in pixels."""

    cameras: dict[int, CameraEntry]
    images: list[ImageEntry]
    points: dict[int, tuple[float, float, float, float]]


def has_model(folder: Path) -> bool:
    """Whether cameras and images of a model are there."""
    return all(any(is_file(folder / (name + end)) for end in (".bin", ".txt")) for name in NEEDED)


NEEDED = ("cameras", "images")


def read_model(folder: Path) -> Model:
    """The model in a folder, from binary files where there are such.

    Raises:
        UserError: a file is cut short, or is none of COLMAP's.
    """
    cameras = _read(folder / "cameras", _binary_camera, _text_cameras)
    images = _read(folder / "images", _binary_image, _text_images)
    points: list[tuple[int, tuple[float, float, float, float]]] = []
    if any(is_file(folder / f"points3D.{end}") for end in ("bin", "txt")):
        points = _read(folder / "points3D", _binary_point, _text_points)
    return Model({camera.number: camera for camera in cameras}, images, dict(points))


class _Bytes:
    """A binary file, read from its beginning on."""

    def __init__(self, path: Path) -> None:
        self.content = path.read_bytes()
        self.at = 0

    def take(self, form: str) -> tuple:
        values = struct.unpack_from("<" + form, self.content, self.at)
        self.at += struct.calcsize("<" + form)
        return values

    def array(self, form: np.dtype, n: int) -> np.ndarray:
        values = np.frombuffer(self.content, form, n, self.at)
        self.at += values.nbytes
        return values

    def text(self) -> str:
        end = self.content.index(b"\0", self.at)
        value = self.content[self.at : end].decode("utf-8")
        self.at = end + 1
        return value


def _read(
    stem: Path,
    binary: Callable[[_Bytes], Entry],
    text: Callable[[Iterator[str]], Iterator[Entry]],
) -> list[Entry]:
    path = stem.with_name(stem.name + ".bin")
    try:
        if is_file(path):
            file = _Bytes(path)
            (n,) = file.take("Q")
            entries = [binary(file) for _ in range(n)]
            if file.at != len(file.content):
                raise ValueError("more bytes than entries")
            return entries
        path = stem.with_name(stem.name + ".txt")
        lines = path.read_text(encoding="utf-8").splitlines()
        return list(text(iter(lines)))
    except (OSError, ValueError, IndexError, OverflowError, struct.error) as error:
        raise UserError(
            f"{path} is cut short or not a file of COLMAP ({error}): export the model again"
        ) from error


def _binary_camera(file: _Bytes) -> CameraEntry:
    number, model, width, height = file.take("iiQQ")
    if not 0 <= model < len(CAMERA_MODELS):
        raise ValueError(f"camera model {model} is unknown")
    name, n = CAMERA_MODELS[model]
    return CameraEntry(number, name, width, height, file.take(f"{n}d"))


def _binary_image(file: _Bytes) -> ImageEntry:
    _, *pose = file.take("I7d")
    (camera,) = file.take("i")
    name = file.text()
    (n,) = file.take("Q")
    values = file.array(np.dtype([("place", "<f8", 2), ("point", "<i8")]), n)
    return ImageEntry(
        name, camera, tuple(pose[:4]), tuple(pose[4:]), values["place"], values["point"]
    )


def _binary_point(file: _Bytes) -> tuple[int, tuple[float, float, float, float]]:
    number, x, y, z, _, _, _, error, n_seen = file.take("Q3d3BdQ")
    file.array(np.dtype("<i4"), 2 * n_seen)
    return number, (x, y, z, error)


def _is_content(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")


def _text_cameras(lines: Iterator[str]) -> Iterator[CameraEntry]:
    for line in filter(_is_content, lines):
        number, model, width, height, *parameters = line.split()
        if len(parameters) != N_PARAMETERS.get(model, len(parameters)):
            raise ValueError(f"camera model {model} has {len(parameters)} parameters")
        values = tuple(float(x) for x in parameters)
        yield CameraEntry(int(number), model, int(width), int(height), values)


def _text_images(lines: Iterator[str]) -> Iterator[ImageEntry]:
    for line in filter(_is_content, lines):
        _, *pose, camera, name = line.split(maxsplit=9)
        values = np.array([float(x) for x in next(lines, "").split()]).reshape(-1, 3)
        qw, qx, qy, qz, tx, ty, tz = (float(x) for x in pose)
        yield ImageEntry(
            name.strip(),
            int(camera),
            (qw, qx, qy, qz),
            (tx, ty, tz),
            values[:, :2],
            values[:, 2].astype(np.int64),
        )


def _text_points(
    lines: Iterator[str],
) -> Iterator[tuple[int, tuple[float, float, float, float]]]:
    for line in filter(_is_content, lines):
        number, x, y, z, _, _, _, error, *_ = line.split()
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
