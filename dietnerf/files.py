"""Files that appear whole or not at all, and files that are read only if they are files."""

import errno
import io
import math
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from dietnerf.errors import UserError

UNWRITABLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS),
    *(errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR, errno.EISDIR),
    *(errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.ENXIO),  # of a disk that is gone
)
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_regular(path: Path, most: float = math.inf) -> int:
    """Refuse what is not a file on a disk before it is opened: a pipe may never answer, and a
    device may never end.

    Args:
        path: to be read.
        most: bytes that it may have.

    Returns:
        Its size in bytes.

    Raises:
        UserError: names the path, and says what it is instead.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path} cannot be read: {reason}") from error
    if not stat.S_ISREG(found.st_mode):
        kind = KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise UserError(f"{path} is {kind}, not a file: put the file itself there")
    if found.st_size > most:
        raise UserError(
            f"{path} has {found.st_size / 1e6:,.0f} MB, and {most / 1e6:,.0f} MB are the most that "
            "such a file may have: check whether it is the right one"
        )
    return found.st_size


@contextmanager
def open_regular(path: Path, most: float = math.inf) -> Iterator[BinaryIO]:
    """A file to be read, as `check_regular` allows it.

    One without a size is not opened but counts as empty: those of /proc may never answer.
    """
    with path.open("rb") if check_regular(path, most) else io.BytesIO() as file:
        yield file


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """A temporary name with the same ending, which becomes `path` only if the block succeeds, and
    only when all of it is on the disk.

    Raises:
        UserError: there is no room on the disk, or the folder cannot be written to.
    """
    temporary = path.with_name(f".{path.stem}.part{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_parts(folder: Path) -> None:
    """Remove what writers that were killed in `replace_file` left in a folder."""
    for part in folder.glob(".*.part*"):
        part.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder, which becomes `path`, so far missing or empty, if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part{os.getpid()}")
    temporary.mkdir()
    try:
        yield temporary
        if path.is_dir():
            path.rmdir()  # an empty one
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_writable(folder: Path, option: str) -> None:
    """Refuse a folder that cannot be made or written to, before time is spent on its content.

    Raises:
        UserError: names the option.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UserError(f"{option} {folder}: {existing} is a file; name a folder")
    if not os.access(existing, os.W_OK):
        raise UserError(f"{option} {folder}: {existing} cannot be written to; name another folder")
