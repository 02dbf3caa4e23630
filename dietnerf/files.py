"""Files that appear whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dietnerf.errors import UserError


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """A temporary name with the same ending, which becomes `path` only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.part{os.getpid()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
