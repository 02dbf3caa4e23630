"""Completes command lines from presets, configs and runs."""

import argparse
import os
from pathlib import Path

import yaml

from dietnerf.errors import UserError
from dietnerf.files import check_links
from dietnerf.runs.configs import LATEST, config_of, find_config, read_config
from dietnerf.runs.hub import is_remote, repository_of
from dietnerf.training.allowed_classes import ALLOWLIST
from dietnerf.training.scene_options import expand

TAKING_UP = ("validate", "test", "predict", "report")  # commands on an existing run
MOST_TEXT = 100_000  # characters of a config that is passed to other processes


def complete(args: list[str]) -> list[str]:
    """Expand short options, and find packaged configs and the config of an existing run.

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
        ALLOWLIST.check_config(read_config(Path(config)), Path(config), run)
    configs += [name for name in known.config if _is_text(name)]
    if not configs and goes_on and "--print_config" not in args:
        configs = [_text_of(run, trains)]
    check_links(run)
    chosen = [part for config in configs for part in ("--config", config)]
    going_on = [] if known.ckpt_path is None else ["--ckpt_path", known.ckpt_path]
    return [args[0], *chosen, "--run", known.run, *going_on, *others]


def _is_text(config: str) -> bool:
    """Whether it is the content of a config, passed by a parent process, and not a file, whose name
    may have line breaks as well."""
    return "\n" in config and not os.path.lexists(config)


def _text_of(run: Path, trains: bool) -> str:
    """The part of a run's config that a command uses."""
    config = config_of(run)
    content = ALLOWLIST.config_of_run(read_config(config), config, trains)
    text: str = yaml.safe_dump(content, sort_keys=False)
    if len(text) > MOST_TEXT:
        raise UserError(f"{config} is longer than any config that dietnerf writes")
    return text
