"""Checkpoint files: finding them in a run, and turning them back into a field."""

from pathlib import Path
from typing import Any

import torch

from dietnerf.errors import UserError
from dietnerf.training.hub import fetch, is_remote
from dietnerf.training.system import DietNeRF, check_format


def find_checkpoint(path: Path | str) -> Path:
    """A checkpoint file, or the last checkpoint of a run folder or of `hf://owner/name`.

    Raises:
        UserError: there is none.
    """
    path = fetch(path) if is_remote(path) else Path(path)
    found = path / "checkpoints" / "last.ckpt" if path.is_dir() else path
    if not found.is_file():
        raise UserError(
            f"there is no checkpoint at {found}; give a .ckpt file or the folder of a run"
        )
    return found


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file, without running any code from it.

    Raises:
        UserError: the file is broken, or not a checkpoint that this version can read.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch.load makes of bytes that are no checkpoint
        raise UserError(
            f"{path} is not a readable checkpoint ({type(error).__name__}); "
            "it may be torn, or of another program"
        ) from error
    check_format(checkpoint if isinstance(checkpoint, dict) else {}, str(path))
    return checkpoint


def load_system(path: Path) -> DietNeRF:
    """Field, sampler and cameras of a checkpoint, ready to render, on the CPU.

    Raises:
        UserError: as `read_checkpoint`.
    """
    read_checkpoint(path)
    system = DietNeRF.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    return system.eval()
