"""PLY files beside listings: sparse points, as nerfstudio and `prepare` put them there, and which
photographs show them, as `prepare` alone does."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.files import open_regular

MOST_BYTES = 2 << 30
MOST_ROWS = 10_000_000  # of an element
ENOUGH = 100_000  # points, taken evenly of all
LONGEST_HEADER = 200  # lines
VERTEX, OBSERVATION = "vertex", "observation"
TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2",
    "ushort": "u2", "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
VERTEX_ROW = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
)
OBSERVATION_ROW = np.dtype([("image", "<u4"), ("vertex", "<u4"), ("x", "<f4"), ("y", "<f4")])
NAMES = {"u1": "uchar", "u4": "uint", "f4": "float"}  # of types that are written
ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}

Elements = dict[str, tuple[int, list[tuple[str, str]]]]  # rows and properties: name, type


@dataclass(frozen=True)
class Observations:
    """Which photographs show which sparse points.

    Args:
        images: ids of the photographs, (n,), int64.
        points: the points, (n, 3), float64.
        pixels: column and row in the full photograph, whose upper left pixel has its center at
            0.5, 0.5, (n, 2), float64.
    """

    images: np.ndarray
    points: np.ndarray
    pixels: np.ndarray


def read_points(path: Path) -> Tensor:
    """The vertices of a PLY file, at most `ENOUGH`, those alone that are finite: (n, 3), float64.

    Raises:
        UserError: it is none, or its vertices or what comes before them have lists.
    """
    with _naming(path):
        points = _stacked(_read(path, VERTEX)[VERTEX], "xyz")
    points = points[np.isfinite(points).all(axis=1)]
    return torch.from_numpy(points[:: -(-len(points) // ENOUGH) or 1])


def read_vertices(path: Path, what: str, needs: tuple[str, ...]) -> np.ndarray:
    """The vertices of a PLY file, a structured array (n,) with a field for each property.

    Args:
        path: the file.
        what: its vertices should be, for the error, such as `splats`.
        needs: properties without which they are not that.

    Raises:
        UserError: they are not that, or what comes before them has lists.
    """
    with _naming(path, what):
        vertices = _read(path, VERTEX)[VERTEX]
        missing = [name for name in needs if name not in (vertices.dtype.names or ())]
        if missing:
            raise ValueError(f"its vertices have no {missing[0]}")
        return vertices


def read_observations(path: Path) -> Observations | None:
    """The element `observation` of a PLY file: `image`, `vertex`, `x` and `y`; None without it.

    Raises:
        UserError: it cannot be read, or names vertices that are not there.
    """
    with _naming(path):
        elements = _read(path, OBSERVATION)
        if OBSERVATION not in elements:
            return None
        points, seen = _stacked(elements[VERTEX], "xyz"), elements[OBSERVATION]
        vertices, images = _indices(seen["vertex"]), _indices(seen["image"])
        if vertices.max(initial=-1) >= len(points):
            raise ValueError(f"it observes vertex {vertices.max()} of {len(points)}")
        return Observations(images, points[vertices], _stacked(seen, "xy"))


def read_comments(path: Path) -> list[list[str]]:
    """The words of each comment of a PLY file.

    Raises:
        UserError: it is none.
    """
    with _naming(path), open_regular(path, MOST_BYTES) as file:
        return [words[1:] for words in _lines(file) if words[0] == "comment"]


def write_ply(path: Path, elements: dict[str, np.ndarray], comments: Sequence[str] = ()) -> None:
    """Write elements, structured arrays of little-endian `NAMES`, in binary: text takes twice the
    room."""
    header = ["ply", "format binary_little_endian 1.0", *(f"comment {c}" for c in comments)]
    for name, rows in elements.items():
        header.append(f"element {name} {len(rows)}")
        for field in rows.dtype.names or ():
            header.append(f"property {NAMES[rows.dtype[field].str[1:]]} {field}")
    text = "\n".join([*header, "end_header\n"])
    path.write_bytes(b"".join([text.encode(), *(rows.tobytes() for rows in elements.values())]))


@contextmanager
def _naming(path: Path, what: str = "points") -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise UserError(f"{path} is no PLY file of {what} ({error})") from error


def _stacked(rows: np.ndarray, fields: str) -> np.ndarray:
    """Fields named by single letters, (n, n_fields), float64."""
    return np.stack([rows[field] for field in fields], axis=1).astype(np.float64)


def _indices(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "iu" or values.min(initial=0) < 0:
        raise ValueError("the indices of its observations are no natural numbers")
    return values.astype(np.int64)


def _read(path: Path, last: str) -> dict[str, np.ndarray]:
    """The elements of a PLY file up to the last that is wanted; none where the file lacks that."""
    found: dict[str, np.ndarray] = {}
    with open_regular(path, MOST_BYTES) as file:
        order, elements = _header(file)
        for name, (n_rows, fields) in elements.items() if last in elements else ():
            row = np.dtype([(field, ORDERS[order] + TYPES[kind]) for field, kind in fields])
            found[name] = _rows(file, order, n_rows, row)
            if name == last:
                break
    return found


def _header(file: BinaryIO) -> tuple[str, Elements]:
    """The kind of file, and its elements in order."""
    lines = _lines(file)
    if next(lines, None) != ["ply"]:
        raise ValueError("it does not begin with ply")
    order, elements, fields = "ascii", Elements(), list[tuple[str, str]]()
    for words in lines:
        if words[0] == "format":
            order = words[1]
        elif words[0] == "element":
            if words[1] in elements:
                raise ValueError(f"it has two elements {words[1]}")
            fields = []
            elements[words[1]] = int(words[2]), fields
        elif words[0] == "property":
            fields.append((words[2], words[1]))
    return order, elements


def _lines(file: BinaryIO) -> Iterator[list[str]]:
    """The words of each line of the header."""
    for _ in range(LONGEST_HEADER):
        words = file.readline(1000).decode("ascii").split()
        if words == ["end_header"]:
            return
        if words:
            yield words
    raise ValueError("its header does not end")


def _rows(file: BinaryIO, order: str, n_rows: int, row: np.dtype) -> np.ndarray:
    """The next rows of a file, which must be long enough for as many as it declares."""
    is_text, n_fields = order == "ascii", len(row.names or ())
    least = 2 * n_fields * n_rows - 1 if is_text else row.itemsize * n_rows
    if not 0 <= n_rows <= MOST_ROWS or least > _n_left(file):
        raise ValueError(f"it has no room for the {n_rows} rows of {n_fields} values it declares")
    if not is_text:
        return np.frombuffer(file.read(least), row, n_rows)
    rows = np.loadtxt(file, row, max_rows=n_rows, ndmin=1) if n_rows else np.zeros(0, row)
    if len(rows) < n_rows:
        raise ValueError(f"it ends after {len(rows)} of {n_rows} rows")
    return rows


def _n_left(file: BinaryIO) -> int:
    here = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(here)
    return end - here
