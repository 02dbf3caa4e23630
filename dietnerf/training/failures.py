"""Errors of subcommands as one sentence that says how to resume."""

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pytorch_lightning.utilities.exceptions import MisconfigurationException

from dietnerf.arguments import typed
from dietnerf.errors import UserError, full_disk_behind
from dietnerf.files import UNWRITABLE
from dietnerf.runs.checkpoints import checkpoints_of
from dietnerf.training.distributed import is_loss_of_a_process
from dietnerf.training.trainer_options import part_behind


@contextmanager
def naming_bad_options() -> Iterator[None]:
    """Turn errors of Lightning's classes about their options into one sentence."""
    try:
        yield
    except (MisconfigurationException, ValueError, TypeError, OverflowError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise UserError(f"an option cannot be used ({reason})") from error


@contextmanager
def naming_checkpoint(checkpoint: str | None, is_restoring: Callable[[], bool]) -> Iterator[None]:
    """Turn errors while the state of a run is restored into one sentence.

    Args:
        checkpoint: its file; None where no state is restored.
        is_restoring: whether the state was being restored, called after an error.
    """
    try:
        yield
    except Exception as error:
        is_known = isinstance(error, UserError | OSError) or is_loss_of_a_process(error)
        if checkpoint is None or is_known or full_disk_behind(error) or not is_restoring():
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UserError(
            f"training cannot go on from {checkpoint} ({reason}); it may have been changed, or "
            "come from another version"
        ) from error


def sentence_for(error: Exception, run: str) -> str | None:
    """A sentence about an error of the disk, of another process or of a part of Lightning; None for
    a defect of this package."""
    if isinstance(error, OSError | ValueError):  # ValueError: Lightning's, for errors of a logger
        return _of_disk(error, run)
    if is_loss_of_a_process(error):
        return "another process of this run is gone; see what it said"
    if part := part_behind(error):
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return f"{part}, in the options of trainer, cannot go on ({reason})"
    return None


def _of_disk(error: Exception, run: str) -> str | None:
    disk = full_disk_behind(error) or error
    if not isinstance(disk, OSError) or (disk.errno not in UNWRITABLE and disk.filename is None):
        return None
    place = os.fsdecode(disk.filename or run)  # TensorBoard's are bytes
    fault = " cannot be written" if disk.errno in UNWRITABLE else ""
    return f"{place}{fault}: {disk.strerror}"


def how_to_go_on(subcommand: str, run: str) -> str:
    """A sentence with the command that resumes after a failure."""
    command = f"{typed(subcommand)} --run {shlex.quote(run)}"
    if subcommand != "fit":
        return f"what was written so far stays; begin again: {command}"
    if not checkpoints_of(Path(run)):
        return "there is no checkpoint yet, so begin again"
    return f"go on from the last checkpoint: {command} --ckpt_path last"
