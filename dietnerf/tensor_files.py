"""Reads untrusted files of `torch.save` without running code from them, and without using more
memory than they have bytes."""

import io
import math
import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from dietnerf.files import check_regular

LARGEST_PICKLE = 16 << 20  # bytes; that of a run with a thousand views has some 100,000
# What stands beside tensors. torch would also call bytearray, Counter or codecs of any text, which
# make gigabytes, or hours, of a few bytes.
CALLED = re.compile(
    r"torch\._utils _rebuild_(tensor_v2|parameter)|collections OrderedDict|torch (\w+Storage|Size)"
)
N_LEGACY = 5  # pickles before the numbers, in files of torch before 1.6
MOST_LONG = 1000  # whole numbers beyond 32 bits; millions of them as keys can take hours to sort in


def load_tensors(path: Path, most: float = math.inf) -> Any:
    """The content of a file of `torch.save`, on the CPU: tensors and plain values.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        UserError: it is no regular file, or too large.
        Exception: whatever torch, zipfile and pickle make of other bytes.
    """
    check_regular(path, most)
    if zipfile.is_zipfile(path):
        _check_archive(path)
    else:
        with path.open("rb") as file:
            for _ in range(N_LEGACY):
                _check_pickle(file)
    return torch.load(path, map_location="cpu", weights_only=True)


def _check_archive(path: Path) -> None:
    """Refuse an archive whose parts are packed, overlap, or are others for torch than here."""
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
        if end[zipfile._ECD_OFFSET] != archive.start_dir:  # type: ignore[attr-defined]
            raise ValueError("two lists of parts")
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise ValueError("packed parts")
    if sum(part.file_size for part in parts) > path.stat().st_size:
        raise ValueError("parts that overlap")
    _check_pickle(io.BytesIO(torch._C.PyTorchFileReader(str(path)).get_record("data.pkl")))


def _check_pickle(file: BinaryIO) -> None:
    """Refuse a pickle that calls what tensors have no need of."""
    start, n_long = file.tell(), 0
    for operation, argument, position in pickletools.genops(file):
        n_long += operation.name in ("LONG", "LONG1", "LONG4")
        if operation.name == "GLOBAL" and not CALLED.fullmatch(argument or ""):
            raise ValueError(f"it calls {argument}")
        if operation.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
            raise ValueError("it calls what it computes")
        if (position or 0) - start > LARGEST_PICKLE or n_long > MOST_LONG:
            raise ValueError("more values than any such file has")
