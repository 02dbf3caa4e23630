"""Checkpoints of a finished run, changed by hand."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dietnerf.runs.checkpoints import (
    find_checkpoint,
)

Content = dict[str, Any]


def changed(run: Path, to: Path, change: Callable[[Content], None]) -> Path:
    """A copy of a run with a changed last checkpoint, and no others."""
    content = torch.load(find_checkpoint(run), weights_only=True)
    change(content)
    (to / "checkpoints").mkdir(parents=True)
    shutil.copy(run / "config.yaml", to)
    torch.save(content, to / "checkpoints" / "last.ckpt")
    return to


def option(part: str, name: str, value: Any) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        content["hyper_parameters"][part]["init_args"][name] = value

    return change
