"""Atomic writes of files, and reads of regular files only.

A file is written beside its place under a hidden name, its part, and renamed when all of it is on
the disk. Its writer keeps the part locked, so that `remove_parts` knows which were left behind.
"""

import errno
import io
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from dietnerf.errors import FULL, UserError

try:
    import fcntl
except ImportError:  # on Windows, which removes no file that is open
    fcntl = None  # type: ignore[assignment]

UNWRITABLE = (
    *FULL,
    *(errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.ENXIO),  # of a disk that is gone
)
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
MARK = ".dietnerf-"  # what names of parts begin with
LONGEST = 255  # bytes of a name, on most disks


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
    only when all of it is on the disk. A link stays one, and the file that it leads to is replaced.

    Raises:
        UserError: there is no room on the disk, or `path` or its folder cannot be written to.
    """
    with _naming(path):
        _check_old(path, str(path))
        path = Path(os.path.realpath(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        part = _part_of(path)
        try:
            part.touch()
            with _locked(part):
                yield part
                _sync(part)
                part.replace(path)
            _sync(path.parent)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def write_file(path: Path, content: bytes | memoryview | str) -> None:
    """Write a file, text in UTF-8, whole or not at all.

    Raises:
        UserError: as `replace_file`.
    """
    with replace_file(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder, which becomes `path`, so far missing or empty, if the block succeeds.
    What others that were killed left beside it is removed.

    Raises:
        UserError: there is no room on the disk, or `path` cannot be made.
    """
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_parts(path.parent)
        part = _part_of(path)
        part.mkdir()
        try:
            with _locked(part):
                yield part
                if path.is_dir():
                    path.rmdir()  # an empty one
                part.rename(path)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _part_of(path: Path) -> Path:
    """A hidden name of its own for this process, no longer than any name may be."""
    return path.with_name(f"{MARK}{path.stem[:50]}.part{os.getpid()}{path.suffix}")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say which file was not written for want of room or permission."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


@contextmanager
def _locked(part: Path) -> Iterator[None]:
    """Lock a part until the block, or the process, ends."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(part, os.O_RDONLY)
    try:
        with suppress(OSError):  # not every network disk has locks
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


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
    """Remove the parts that writers left in a folder when they were killed."""
    for part in folder.glob(f"{MARK}*.part*"):
        with suppress(OSError):
            if stat.S_IFMT(part.lstat().st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
                continue  # a pipe, which would never answer, or a link
            if fcntl is not None:
                descriptor = os.open(part, os.O_RDONLY)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                finally:
                    os.close(descriptor)
            shutil.rmtree(part) if part.is_dir() else part.unlink()


def check_links(folder: Path) -> None:
    """Refuse an untrusted folder with a link that leads out of it, through which files would be
    written elsewhere.

    Raises:
        UserError: names the link.
    """
    root = os.path.realpath(folder)
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *files)):
            target = os.path.realpath(path)
            if path.is_symlink() and not Path(target).is_relative_to(root):
                raise UserError(
                    f"{path} is a link to {target}, outside of {folder}, which would be written "
                    "to: put the file or folder itself there"
                )


def check_file(path: Path, option: str) -> None:
    """Refuse a file that cannot be written, before time is spent on its content.

    Raises:
        UserError: names the option, and says why.
    """
    named = f"{option} {path}"
    _check_name(path, named)
    _check_old(path, named)
    _check_place(Path(os.path.realpath(path)).parent if path.exists() else path.parent, named)


def check_writable(folder: Path, option: str) -> None:
    """Refuse a folder that cannot be made or written to, before time is spent on its content.

    Raises:
        UserError: names the option, and says why.
    """
    named = f"{option} {folder}"
    _check_name(folder, named)
    _check_place(folder, named)


def _check_old(path: Path, named: str) -> None:
    """Refuse to put a file in the place of what is none, or is protected."""
    if not os.path.lexists(path):
        return
    if not path.exists():
        raise UserError(f"{named} is a link to nothing: remove it, or choose another name")
    if path.is_dir():
        raise UserError(f"{named} is a folder: remove it, or choose another name")
    if not path.is_file():
        raise UserError(f"{named} is a device, a pipe or a socket: choose another name")
    if not os.access(path, os.W_OK):
        raise UserError(f"{named} is protected from writing: choose another name")


def _check_place(folder: Path, named: str) -> None:
    """Refuse a folder by what is there of it, or of the folders above it: by writing there."""
    place = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not place.exists():
        raise UserError(f"{named}: {place} is a link to nothing; remove it, or name another folder")
    if not place.is_dir():
        raise UserError(f"{named}: {place} is a file; name a folder")
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise UserError(
            f"{named}: {place} cannot be written to ({error.strerror}); name another folder"
        ) from error


def _check_name(path: Path, named: str) -> None:
    try:
        names = [part.encode() for part in path.parts]
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except UnicodeEncodeError as error:
        raise UserError(f"{named}: a name that is not UTF-8; choose another") from error
    except OSError as error:
        raise UserError(f"{named}: {error.strerror}; choose another name") from error
    if max(map(len, names), default=0) > LONGEST:
        raise UserError(f"{named}: a name of more than {LONGEST} bytes; choose a shorter one")
