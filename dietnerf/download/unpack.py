"""Unpacks untrusted archives into a new folder: regular files only, nothing outside of it, no
links.

Zip, and tar in any compression that Python knows. Permissions and owners are ignored.
"""

import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from dietnerf.errors import UserError
from dietnerf.files import new_folder
from dietnerf.prepare.progress import progress_of_bytes

CHUNK = 1 << 20  # bytes
MOST_BEHIND = 1024  # chunks of zeros behind the last member of a tar: some seconds
MOST_FILES = 500_000
MOST_GROWTH = 20  # of an archive, photos in which hardly shrink
SLACK = 1 << 24  # bytes, above which the compression ratio is checked
SPARE = 1 << 27  # bytes of a disk that stay free
DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, EOFError),
    *(zlib.error, gzip.BadGzipFile, lzma.LZMAError),
    ValueError,  # invalid names and sizes
    RuntimeError,  # of a zip: it is encrypted, or its compression is unknown
)
JUNK = ("__MACOSX", ".DS_Store")


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    is_file: bool
    is_folder: bool
    open: Callable[[], IO[bytes] | None]


def unpack(archive: Path, folder: Path, inside: str = "") -> int:
    """Make a folder of an archive; it appears only if all of it could be unpacked.

    Args:
        archive: zip or tar.
        folder: to be made.
        inside: folder of the archive that becomes `folder`, or all of it.

    Returns:
        The number of files.

    Raises:
        UserError: a member lies outside, is a link or of another kind, or there are too many; the
            archive is damaged; the disk is too small.
    """
    most = SLACK + MOST_GROWTH * archive.stat().st_size
    n_files = n_bytes = 0
    with _readable(archive), new_folder(folder) as part, _members(archive) as (members, total):
        if total is not None:
            check_room(folder, min(total, most), f"{archive.name} unpacks to")
        with progress_of_bytes("unpacking", total) as bar:
            for member in members:
                names = _checked(member, archive)
                bar.update(member.size)
                if member.is_folder or not _is_wanted(names, inside):
                    continue
                n_files, n_bytes = n_files + 1, n_bytes + member.size
                if n_files > MOST_FILES or n_bytes > most:
                    raise UserError(
                        f"{archive} holds more than {MOST_FILES:,} files or {MOST_GROWTH} times "
                        "its own size, as no data set does: it was not unpacked"
                    )
                _write(member, part.joinpath(*names[1 if inside else 0 :]), archive)
        if not n_files:
            raise UserError(f"{archive} holds nothing in {inside or 'it'}: is it the right file?")
    return n_files


def check_room(folder: Path, n_bytes: int, what: str) -> None:
    """Refuse more bytes than the disk of a folder, which may be missing, has free.

    Args:
        n_bytes: that are to come.
        what: the beginning of the sentence.

    Raises:
        UserError: says how much is free.
    """
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if n_bytes + SPARE > free:
        raise UserError(
            f"{what} {n_bytes / 1e9:.2f} GB, and {place} has {free / 1e9:.2f} GB free: make room, "
            "or name another folder with --out"
        )


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGED as error:
        raise UserError(
            f"{archive} is damaged, or no archive ({error}): remove it, and the same command "
            "brings it anew"
        ) from error


@contextmanager
def _members(archive: Path) -> Iterator[tuple[Iterator[_Member], int | None]]:
    """The members of an archive, and their total size in bytes, if known in advance."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            yield _of_zip(zipped), sum(info.file_size for info in zipped.infolist())
    else:
        with tarfile.open(archive) as tarred:
            yield _of_tar(tarred), None
            _read_checksum(tarred, archive)


def _read_checksum(tarred: tarfile.TarFile, archive: Path) -> None:
    """Read what follows the last member, where compressed files have their checksum.

    Raises:
        UserError: there is no end of it.
    """
    assert tarred.fileobj is not None
    for _ in range(MOST_BEHIND):
        if not tarred.fileobj.read(CHUNK):
            return
    raise UserError(
        f"{archive} goes on for more than {MOST_BEHIND * CHUNK >> 20} MB behind its last file, so "
        "its checksum was not reached: it was not unpacked"
    )


def _of_zip(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for info in archive.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where no Unix packed it
        is_file = kind in (0, stat.S_IFREG) and not info.is_dir()

        def opened(info: zipfile.ZipInfo = info) -> IO[bytes]:
            return archive.open(info)

        yield _Member(info.filename, info.file_size, is_file, info.is_dir(), opened)


def _of_tar(archive: tarfile.TarFile) -> Iterator[_Member]:
    for info in archive:

        def opened(info: tarfile.TarInfo = info) -> IO[bytes] | None:
            return archive.extractfile(info)

        yield _Member(info.name, info.size, info.isreg(), info.isdir(), opened)


def _checked(member: _Member, archive: Path) -> tuple[str, ...]:
    """The parts of a member's name.

    Raises:
        UserError: it leads outside on some system, or is neither file nor folder.
    """
    path, on_windows = PurePosixPath(member.name), PureWindowsPath(member.name)
    names = path.parts
    is_rooted = path.is_absolute() or bool(on_windows.drive or on_windows.root)
    is_plain = ".." not in names and "\\" not in member.name and member.name.isprintable()
    if is_rooted or not is_plain or not (names or member.is_folder):
        raise UserError(f"{archive} names {member.name!r:.200}, outside its folder: not unpacked")
    if not member.is_file and not member.is_folder:
        raise UserError(f"{archive} holds {member.name!r:.200}, a link or a device: not unpacked")
    return names


def _is_wanted(names: tuple[str, ...], inside: str) -> bool:
    return not set(names) & set(JUNK) and (not inside or (names[0] == inside and len(names) > 1))


def _write(member: _Member, path: Path, archive: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    source = member.open()
    assert source is not None  # it is a file
    try:
        with source, path.open("xb") as target:
            shutil.copyfileobj(source, target, CHUNK)
    except FileExistsError as error:
        raise UserError(f"{archive} names {member.name!r:.200} twice: not unpacked") from error
