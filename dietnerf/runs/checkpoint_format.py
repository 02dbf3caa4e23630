"""The format of checkpoints: what an entry `dietnerf` holds, and which entries are ignored."""

from dataclasses import asdict
from typing import Any

import dietnerf
from dietnerf.data.camera_set import CameraSet
from dietnerf.errors import UserError
from dietnerf.history import History

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


def scene_facts(camera_set: CameraSet | None, history: History) -> dict[str, Any]:
    """What a checkpoint holds under `dietnerf`, beside weights and options."""
    return {
        "format": CHECKPOINT_FORMAT,
        "version": dietnerf.__version__,
        "camera_set": None if camera_set is None else camera_set.to_dict(),
        "history": asdict(history),
    }


def read_facts(checkpoint: dict[str, Any]) -> tuple[CameraSet, History]:
    """The camera set and the history of a checkpoint whose format was checked.

    Raises:
        UserError: they hold invalid values.
    """
    saved = checkpoint["dietnerf"]
    return CameraSet.from_dict(saved["camera_set"]), History.from_dict(saved["history"])


def drop_paths(checkpoint: dict[str, Any]) -> None:
    """Drop the paths that callbacks saved: no checkpoint decides what is removed or overwritten."""
    for state in checkpoint.get("callbacks", {}).values():
        for name in [key for key in state if str(key).endswith(("path", "best_k_models"))]:
            del state[name]
        state["best_model_path"] = ""  # which Lightning's callback expects
