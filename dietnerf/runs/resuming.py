"""Checkpoints that a command starts from, checked before time and memory are spent."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from dietnerf.errors import UserError
from dietnerf.files import check_writable
from dietnerf.history import MOST
from dietnerf.registry import OptionReader
from dietnerf.runs.checkpoint_checks import check_weights
from dietnerf.runs.checkpoints import (
    BEST,
    checkpoints_of,
    find_checkpoint,
    read_checkpoint,
    weights_of,
)
from dietnerf.scene_model import PARTS

# Entries of a checkpoint that training needs besides weights: type, and smallest number or size.
STATE = {
    "global_step": (int, 0),
    "epoch": (int, 0),
    "loops": (dict, 1),
    "callbacks": (dict, 0),
    "optimizer_states": (list, 1),
    "lr_schedulers": (list, 1),
    "SceneDataModule": (dict, 1),
}


def choose_checkpoint(subcommand: str, run: Path, name: str | None, model: type) -> Path | None:
    """The checkpoint to start from: none for a new fit, by default the last one otherwise.

    Args:
        subcommand: what is to be done with it.
        run: folder of the run.
        name: a file, `last`, `best`, or None.
        model: the class whose options a checkpoint of a training holds.

    Raises:
        UserError: it is missing or unreadable, or a new fit would write over an old one.
    """
    if subcommand != "validate":
        check_writable(run, "--run")
    if subcommand == "fit" and name is None:
        check_unused(run)
        return None
    by_name = {None: run, "last": run, "best": run / "checkpoints" / BEST}
    path = find_checkpoint(Path(by_name.get(name, name or "")))
    content = read_checkpoint(path)
    check_options_of(content, path, model)
    if subcommand == "fit" and "optimizer_states" not in content:
        raise UserError(
            f"{path} came from the hub, without the optimizer's state, so training cannot go on "
            "from it; train again with its config.yaml and another --run"
        )
    if subcommand == "fit":
        _check_state(content, path)
    return path


def check_options_of(content: dict[str, Any], path: Path, model: type) -> None:
    """Refuse a checkpoint with options that the model does not have, or that name a class that no
    file may name, including options that rendering does not need."""
    options = content.get("hyper_parameters") or {}
    # Older checkpoints name a loader there, which is not followed.
    saved = {name: value for name, value in options.items() if name != "_instantiator"}
    OptionReader(path).options(saved, model, "hyper_parameters")


def _check_state(content: dict[str, Any], path: Path) -> None:
    """Refuse a checkpoint that training cannot resume from, where Lightning would begin anew."""
    for name, (kind, least) in STATE.items():
        value = content.get(name)
        size = value if isinstance(value, int) else len(value or ())
        if type(value) is not kind or size < least:
            raise UserError(f"training cannot go on from {path}: its {name} is {value!r:.60}")
    if not all(
        type(n) is bool or (type(n) is int and 0 <= n <= MOST) for n in _counts(content["loops"])
    ):
        raise UserError(f"training cannot go on from {path}: its loops hold what is no count")


def _counts(loops: Any) -> Iterator[Any]:
    """The values of nested dictionaries."""
    if not isinstance(loops, dict):
        yield loops
        return
    for one in loops.values():
        yield from _counts(one)


def check_declared(options: dict[str, Any], model: type, checkpoint: Path) -> None:
    """Refuse a model whose weights are not those of a checkpoint, before memory is allocated.

    Args:
        options: of the model.
        model: its class.
        checkpoint: its file.

    Raises:
        UserError: the model declares other weights than there are.
    """
    reader = OptionReader(checkpoint)
    try:
        parts = reader.options({name: options.get(name) for name in PARTS}, model, "model")
    except UserError:  # a user's own class, named on the command line
        return
    try:
        check_weights(parts, weights_of(read_checkpoint(checkpoint), checkpoint), checkpoint)
    except (RuntimeError, KeyError) as error:
        raise _unfitting(checkpoint, " ".join(str(error).split())[:200]) from error


def check_unused(run: Path) -> None:
    """Refuse a folder that holds a training already.

    Raises:
        UserError: it has a checkpoint.
    """
    if checkpoints_of(run):
        raise UserError(
            f"{run} holds a run already; go on with it by --ckpt_path last, or name another --run"
        )


def load_weights(module: nn.Module, options: Mapping[str, Any], checkpoint: Path) -> None:
    """Load the weights of a checkpoint, to see that they fit before anything is written.

    Args:
        module: is given the weights.
        options: it was made with.
        checkpoint: the file.

    Raises:
        UserError: field or sampler have other sizes than those in the checkpoint, or the field
            other options.
    """
    content = read_checkpoint(checkpoint)
    try:
        module.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise _unfitting(checkpoint, " ".join(str(error).split())[:200]) from error
    # With other options the same weights can be another field: cells of a grid, an activation.
    saved, chosen = (_field_options(h) for h in (content.get("hyper_parameters") or {}, options))
    for name in saved.keys() & chosen.keys():
        if saved[name] != chosen[name]:
            reason = f"its field has {name} {saved[name]}, not {chosen[name]}"
            raise _unfitting(checkpoint, reason)


def _field_options(hyper_parameters: Mapping[str, Any]) -> dict[str, Any]:
    field = hyper_parameters.get("field") or {}
    return dict(field.get("init_args", {}))


def _unfitting(checkpoint: Path, reason: str) -> UserError:
    return UserError(
        f"{checkpoint} does not fit the model of this command; "
        f"leave --model and --config as they were in training ({reason})"
    )
