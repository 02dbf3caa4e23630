"""The format of checkpoints: what can be read, and which entries are not."""

from typing import Any

import dietnerf
from dietnerf.errors import UserError

CHECKPOINT_FORMAT = 4  # raised whenever older checkpoints can no longer be read


def check_format(checkpoint: dict[str, Any], name: str) -> None:
    """Refuse a checkpoint that this version cannot read.

    Raises:
        UserError: it is not one of dietnerf's, or of another format.
    """
    saved = checkpoint.get("dietnerf")
    if not isinstance(saved, dict) or "format" not in saved:
        raise UserError(f"{name} was not written by dietnerf; train one with `train.py fit`")
    if type(saved["format"]) is not int or saved["format"] != CHECKPOINT_FORMAT:
        raise UserError(
            f"{name} was written by dietnerf {saved.get('version')} (format {saved['format']}), "
            f"but this is {dietnerf.__version__} (format {CHECKPOINT_FORMAT}); "
            "use that version or train it again"
        )


def drop_paths(checkpoint: dict[str, Any]) -> None:
    """Drop the paths that callbacks saved: no file decides what is removed or written over."""
    for state in checkpoint.get("callbacks", {}).values():
        for name in [key for key in state if str(key).endswith(("path", "best_k_models"))]:
            del state[name]
        state["best_model_path"] = ""  # which Lightning's callback expects
