"""The folder of a run: its config and checkpoints, and how a command line finds them."""

import argparse
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from dietnerf.errors import UserError
from dietnerf.files import check_links, check_writable
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
from dietnerf.runs.hub import is_remote, repository_of
from dietnerf.scene_model import PARTS
from dietnerf.training.allowlist import check_config, config_of_run
from dietnerf.training.scene_options import expand
from dietnerf.training.system import DietNeRF
from dietnerf.yaml_files import read_yaml

LATEST = "runs/latest"
TAKING_UP = ("validate", "test", "predict", "look")  # commands for a run that is there
# What a checkpoint holds of a training besides weights: its type, and the least number or size.
STATE = {
    "global_step": (int, 0),
    "epoch": (int, 0),
    "loops": (dict, 1),
    "callbacks": (dict, 0),
    "optimizer_states": (list, 1),
    "lr_schedulers": (list, 1),
    "SceneDataModule": (dict, 1),
}
MOST_TEXT = 100_000  # characters of a config that is handed on to other processes
_PACKAGE = Path(__file__).parents[1]
# Beside the code in an installed package, at the top of a checkout.
CONFIGS = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent / "configs"


def complete(args: list[str]) -> list[str]:
    """Write short options out, find configs that come with the package, and the config that a run
    began with.

    Raises:
        UserError: there is no such run or config, it is on the hub, or it is not YAML.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--run", default=LATEST)
    parser.add_argument("--ckpt_path")
    parser.add_argument("-c", "--config", action="append", default=[])
    if not args or {"-h", "--help"} & set(args):
        return args
    args = [args[0], *expand(args[0], args[1:])]
    known, others = parser.parse_known_args(args[1:])
    if is_remote(known.run):
        raise UserError(
            f"{known.run} is on the hub, and this command writes into a run of one's own: make one "
            f"by `dietnerf export pull {repository_of(known.run)} FOLDER`"
        )
    run, trains = Path(known.run), args[0] == "fit"
    goes_on = args[0] in TAKING_UP or known.ckpt_path is not None
    configs = [str(find_config(name)) for name in known.config if not _is_text(name)]
    for config in configs:
        check_config(_read_yaml(Path(config)), Path(config), run)
    configs += [name for name in known.config if _is_text(name)]
    if not configs and goes_on and "--print_config" not in args:
        configs = [_text_of(run, trains)]
    check_links(run)
    chosen = [part for config in configs for part in ("--config", config)]
    going_on = [] if known.ckpt_path is None else ["--ckpt_path", known.ckpt_path]
    return [args[0], *chosen, "--run", known.run, *going_on, *others]


def _is_text(config: str) -> bool:
    """Whether it is the content of a config, which this process was started with by another, and
    no file: the name of one can have line breaks as well."""
    return "\n" in config and not os.path.lexists(config)


def _text_of(run: Path, trains: bool) -> str:
    """The config of a run, as far as a command takes it up."""
    config = _config_of(run)
    text: str = yaml.safe_dump(config_of_run(_read_yaml(config), config, trains), sort_keys=False)
    if len(text) > MOST_TEXT:
        raise UserError(f"{config} is longer than any config that dietnerf writes")
    return text


def find_config(name: str) -> Path:
    """A config by its file's name, or by that of one that comes along.

    Raises:
        UserError: there is none.
    """
    given = Path(name)
    if given.is_file():
        return given
    short = given.relative_to("configs") if given.is_relative_to("configs") else given
    packaged = CONFIGS / short.with_suffix(".yaml")
    if not packaged.is_file():
        places = (path.relative_to(CONFIGS) for path in CONFIGS.rglob("*.yaml"))
        known = ", ".join(sorted(str(place.with_suffix("")) for place in places))
        raise UserError(f"there is no config {name}; give a file, or one that comes along: {known}")
    return packaged


def _config_of(run: Path) -> Path:
    config = run / "config.yaml"
    if not config.is_file():
        raise UserError(f"there is no run at {run}: {config} is missing; train one with `fit`")
    return config


def _read_yaml(config: Path) -> dict[str, Any]:
    content = read_yaml(config)
    if not isinstance(content, dict):
        raise UserError(f"{config} holds no options; see configs/nerf.yaml for an example")
    return content


def choose_checkpoint(subcommand: str, run: Path, name: str | None) -> Path | None:
    """The checkpoint to start from: none for a new fit, by default the last one otherwise.

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
    check_options_of(content, path)
    if subcommand == "fit" and "optimizer_states" not in content:
        raise UserError(
            f"{path} came from the hub, without the optimizer's state, so training cannot go on "
            "from it; train again with its config.yaml and another --run"
        )
    if subcommand == "fit":
        _check_state(content, path)
    return path


def check_options_of(content: dict[str, Any], path: Path) -> None:
    """Refuse a checkpoint whose options, also those that rendering does without, are not those of
    a system, or name a class that no file may name."""
    options = content.get("hyper_parameters") or {}
    # Older checkpoints name a loader there, which is not followed.
    saved = {name: value for name, value in options.items() if name != "_instantiator"}
    OptionReader(path).options(saved, DietNeRF, "hyper_parameters")


def _check_state(content: dict[str, Any], path: Path) -> None:
    """Refuse a checkpoint whose training cannot go on, as Lightning would begin anew."""
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
    """What stands in nested dictionaries."""
    if not isinstance(loops, dict):
        yield loops
        return
    for one in loops.values():
        yield from _counts(one)


def check_declared(model: dict[str, Any], checkpoint: Path) -> None:
    """Refuse a model that is not that of a checkpoint, before memory is spent on it.

    Args:
        model: options of the system.
        checkpoint: its file.

    Raises:
        UserError: the model declares other weights than there are.
    """
    reader = OptionReader(checkpoint)
    try:
        parts = reader.options({name: model.get(name) for name in PARTS}, DietNeRF, "model")
    except UserError:  # a class of the user's own, which the command line names
        return
    try:
        check_weights(parts, weights_of(read_checkpoint(checkpoint), checkpoint), checkpoint)
    except (RuntimeError, KeyError) as error:
        raise _unfitting(checkpoint, " ".join(str(error).split())[:200]) from error


def check_unused(run: Path) -> None:
    """Refuse a folder in which something was trained already.

    Raises:
        UserError: it has a checkpoint.
    """
    if checkpoints_of(run):
        raise UserError(
            f"{run} holds a run already; go on with it by --ckpt_path last, or name another --run"
        )


def load_weights(system: DietNeRF, checkpoint: Path) -> None:
    """Load the weights of a checkpoint, to see that they fit before anything is written.

    Raises:
        UserError: field or sampler have other sizes than those in the checkpoint, or the field
            other options.
    """
    content = read_checkpoint(checkpoint)
    try:
        system.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise _unfitting(checkpoint, " ".join(str(error).split())[:200]) from error
    # With other options the same weights can be another field: cells of a grid, an activation.
    saved, chosen = (
        _field_options(h) for h in (content.get("hyper_parameters") or {}, system.hparams)
    )
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
