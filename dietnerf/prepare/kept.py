"""A folder for work that takes long: it goes when the work is done, and stays when it is broken
off, so that the same work goes on from there."""

import hashlib
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dietnerf.errors import UserError, printable
from dietnerf.files import check_links, write_file
from dietnerf.locks import FolderLock

KEY = "work-of-dietnerf"  # a file that says what the work is


def kept_beside(scene: Path) -> Path:
    """The folder for the work on a scene.

    Raises:
        UserError: something else has its name.
    """
    folder = scene.absolute().with_name(f"{scene.absolute().name}.partial")
    is_empty = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if folder.is_symlink() or not (is_empty or (folder / KEY).is_file()):
        raise UserError(
            f"{folder} is in the way of what is kept while {scene} is prepared: rename it, or name "
            "another scene"
        )
    return folder


@contextmanager
def kept_work(folder: Path, key: str) -> Iterator[Path]:
    """The folder, as an earlier block with the same key left it, or else empty. It is removed if
    the block succeeds; if not, a sentence says where it is.

    Raises:
        UserError: another process works in it, or a link in it leads somewhere else.
    """
    with FolderLock(folder, "prepare", "scene"):
        check_links(folder)
        if _read(folder / KEY) == key:
            print(f"going on with what is in {folder}", flush=True)
        else:
            _clear(folder)
            write_file(folder / KEY, key)
        try:
            yield folder
        except BaseException:
            with suppress(OSError):  # where the terminal is gone
                print(
                    f"stopped: what was found is kept in {printable(folder)}, and the same command "
                    "goes on from there; remove it to begin anew",
                    file=sys.stderr,
                    flush=True,
                )
            raise
        shutil.rmtree(folder)


def key_of(files: list[Path], *more: object) -> str:
    """What tells work on these files from work on others, or with other settings."""
    digests = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
    return "\n".join(map(repr, [*more, *digests]))


def _read(path: Path) -> str | None:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8")
    return None


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name == ".prepare.lock":
            continue
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
