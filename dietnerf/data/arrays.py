"""Arrays of NumPy in .npy files, whose headers may say anything."""

import io
import math
import os
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dietnerf.errors import UserError
from dietnerf.files import open_regular

READ_ERRORS = (  # what NumPy raises for broken files
    *(OSError, ValueError, EOFError, SyntaxError, OverflowError, MemoryError, RecursionError),
    tokenize.TokenError,
)
LONGEST_HEADER = 1 << 16  # bytes


def read_array(path: Path, most: int) -> np.ndarray:
    """The numbers of a .npy file.

    Raises:
        UserError: it is broken, holds something else, or says that it has more than `most`.
    """
    with _open_array(path, most) as (file, _):
        values: np.ndarray = np.load(file, allow_pickle=False)
    return values


def array_shape(path: Path, most: int) -> tuple[int, ...]:
    """The shape of the numbers in a .npy file, from its header.

    Raises:
        UserError: as `read_array`.
    """
    with _open_array(path, most) as (_, shape):
        return shape


@contextmanager
def _open_array(path: Path, most: int) -> Iterator[tuple[BinaryIO, tuple[int, ...]]]:
    """A .npy file whose header is right and says no more than is there, and the shape in it."""
    try:
        with open_regular(path) as file:
            head = io.BytesIO(file.read(LONGEST_HEADER))
            form = np.lib.format.read_magic(head)
            read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
                form, np.lib.format.read_array_header_2_0
            )
            shape, _, kind = read(head)
            if kind.kind not in "biuf":
                raise UserError(f"{path} must hold numbers, got {kind}: write it again")
            n, start = abs(math.prod(shape)), head.tell()
            if n > most:
                raise UserError(f"{path} has shape {shape}, more than {most} numbers: check it")
            if n * kind.itemsize > file.seek(0, os.SEEK_END) - start:
                raise EOFError("fewer numbers than the header says")
            file.seek(0)
            yield file, shape
    except READ_ERRORS as error:
        raise UserError(
            f"{path} cannot be read as a NumPy array, it may be truncated: copy it again"
        ) from error
