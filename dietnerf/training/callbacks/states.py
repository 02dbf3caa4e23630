"""Checks of the states of callbacks in a checkpoint."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Callback
from torch import Tensor

from dietnerf.errors import UserError


def check_callbacks(states: Any, callbacks: Iterable[Callback], path: Path) -> None:
    """Refuse states of callbacks with values of another type or range.

    Args:
        states: by their keys.
        callbacks: in their initial state.
        path: the file that the states come from.

    Raises:
        UserError: names the callback.
    """
    for callback in callbacks:
        if not type(callback).__module__.startswith(("dietnerf", "pytorch_lightning")):
            continue  # a user's own, whose state can be anything
        saved = states.get(callback.state_key)
        if saved is not None and not _is_like(saved, callback.state_dict()):
            raise UserError(f"{path} holds an impossible state of {type(callback).__name__}")


def _is_like(saved: Any, fresh: Any) -> bool:
    """Whether a saved value has the type and the range of the fresh one."""
    if isinstance(fresh, dict):
        return isinstance(saved, dict) and all(
            _is_like(saved[name], value) for name, value in fresh.items() if name in saved
        )
    if isinstance(saved, Tensor):
        return saved.numel() == 1 and isinstance(fresh, Tensor | None)
    if isinstance(fresh, str) or isinstance(saved, str):
        return isinstance(saved, str) and isinstance(fresh, str | None)
    if saved is None or isinstance(fresh, bool):
        return type(saved) is type(fresh)
    return type(saved) in (int, float) and 0 <= saved < 2**53
