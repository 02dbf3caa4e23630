"""Sparse points from a PLY file, as nerfstudio and `prepare` put them beside their listings."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.files import open_regular

MOST_BYTES = 2 << 30
MOST_POINTS = 10_000_000
ENOUGH = 100_000  # points, taken evenly of all
LONGEST_HEADER = 200  # lines
TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2",
    "ushort": "u2", "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}


def read_points(path: Path) -> Tensor:
    """The vertices of a PLY file, at most `ENOUGH`, those alone that are finite: (n, 3), float64.

    Raises:
        UserError: it is none, or its vertices do not come first or have lists.
    """
    try:
        with open_regular(path, MOST_BYTES) as file:
            order, n_points, vertex = _header(file)
            values = _vertices(file, order, n_points, vertex)
        places = np.stack([values[axis] for axis in "xyz"], axis=1).astype(np.float64)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise UserError(f"{path} is no PLY file of points ({error})") from error
    places = places[np.isfinite(places).all(axis=1)]
    return torch.from_numpy(places[:: -(-len(places) // ENOUGH) or 1])


def _header(file: BinaryIO) -> tuple[str, int, np.dtype]:
    """The kind of file, the number of its vertices, and what each of them is made of."""
    lines = _lines(file)
    if next(lines, None) != ["ply"]:
        raise ValueError("it does not begin with ply")
    order, element, n_points, fields = "ascii", "", 0, []
    for words in lines:
        if words[0] == "format":
            order = words[1]
        elif words[0] == "element":
            if not element and words[1] != "vertex":
                raise ValueError(f"{words[1]} comes before vertex")
            element = words[1]
            n_points = int(words[2]) if element == "vertex" else n_points
        elif words[0] == "property" and element == "vertex":
            fields.append((words[2], ORDERS[order] + TYPES[words[1]]))
    if not 0 <= n_points <= MOST_POINTS:
        raise ValueError(f"it has {n_points} vertices")
    return order, n_points, np.dtype(fields)


def _lines(file: BinaryIO) -> Iterator[list[str]]:
    """The words of each line of the header."""
    for _ in range(LONGEST_HEADER):
        words = file.readline(1000).decode("ascii").split()
        if words == ["end_header"]:
            return
        if words:
            yield words
    raise ValueError("its header does not end")


def _vertices(file: BinaryIO, order: str, n_points: int, vertex: np.dtype) -> np.ndarray:
    if order == "ascii":
        return np.loadtxt(file, vertex, max_rows=n_points, ndmin=1)
    return np.frombuffer(file.read(n_points * vertex.itemsize), vertex, n_points)
