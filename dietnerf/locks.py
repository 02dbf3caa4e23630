"""Folders that one process at a time writes into."""

import errno
import os
import platform
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from dietnerf.errors import UserError

# What a file system without locks answers, as NFS without its lock service.
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class FolderLock:
    """A context in which no other process does the same task in a folder.

    The operating system holds the lock, so a process that is killed leaves none behind. A process
    may enter it again, which then costs nothing.

    Args:
        folder: made if it is missing.
        task: one word; different tasks do not exclude each other.
        option: of the command line, which names another folder.
    """

    def __init__(self, folder: Path, task: str, option: str) -> None:
        self.folder, self.task, self.option = folder, task, option
        self.path = folder / f".{task}.lock"
        self._signed: os.stat_result | None = None

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            UserError: another process has it.
        """
        if self.path.exists() and self.path.stat().st_nlink > 1:
            raise UserError(
                f"{self.path} is a hard link to another file, which would be overwritten: remove it"
            )
        self._is_new_folder = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.path, mode=0o666, is_singleton=True, fallback_to_soft=False)
        try:
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise UserError(
                f"{self.folder} is in use by another `{self.task}` ({self._holder()}); "
                f"wait until it ends, or name another {self.option}"
            ) from error
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            print(
                f"{self.folder} cannot be locked ({error.strerror}): "
                f"start no other `{self.task}` in it until this one ends",
                file=sys.stderr,
            )
        self._sign()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            if self._lock.lock_counter <= 1 and self.is_in_place():
                self.path.unlink()
        with suppress(OSError):
            self._lock.release()
            if self._is_new_folder:
                self.folder.rmdir()  # if nothing was written
        self._signed = None

    @property
    def is_held(self) -> bool:
        return self._signed is not None

    def is_in_place(self) -> bool:
        """Whether the folder is still the one that was locked, and neither deleted nor renamed."""
        try:
            return self._signed is not None and os.path.samestat(self.path.stat(), self._signed)
        except OSError:
            return False

    def renew(self) -> None:
        """Take the lock of the folder that now has this name.

        Raises:
            UserError: another process has it.
        """
        with suppress(OSError):
            self._lock.release(force=True)
        self.__enter__()

    def _sign(self) -> None:
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        with suppress(OSError):  # a full disk; a locked file on Windows
            self.path.write_text(f"process {os.getpid()} on {platform.node()} since {since}\n")
        self._signed = self.path.stat()

    def _holder(self) -> str:
        try:
            return self.path.read_text().strip() or "which has just begun"
        except OSError:  # on Windows, where a locked file cannot be read
            return "which does not say more"
