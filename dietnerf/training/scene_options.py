"""Expansion of short options, such as `--scene` and `--steps`, to those that they stand for."""

import argparse
import inspect
from pathlib import Path
from typing import Any

import yaml

from dietnerf.arguments import with_values
from dietnerf.data import AllViews, EvenViews, FarthestViews
from dietnerf.data.detect import find_reader
from dietnerf.data.reader import AbstractReader, DatasetIndex
from dietnerf.errors import UserError
from dietnerf.geometry.poses import face_one_way
from dietnerf.presets import preset_for
from dietnerf.training.xla import NAMES as TPUS

FOR_FIELDS = (
    "--model.refinement",
    "--model.use_cuda_graphs",
    "--model.schedules",
    "--model.sampler",
)
OF_SCENE = ("--scene", "--views", "--downscale", "--run")
WITH_A_RUN = ("validate", "test", "predict")
FEWEST_TO_SPARE = 16  # photos, of which some can be held out for testing
HOLD_EVERY = 8
SHORT = {  # what one option stands for
    "--steps": "--trainer.max_steps",
    "--seed": "--seed_everything",
    "--devices": "--trainer.devices",
    "--accelerator": "--trainer.accelerator",
}


def expand(verb: str, words: list[str]) -> list[str]:
    """The arguments of a command with short options expanded.

    A capture, `--scene`, becomes its reader, and where no config is given the preset that suits it,
    which is printed.

    Args:
        verb: the subcommand.
        words: arguments after it.

    Raises:
        UserError: there is no capture, or options contradict each other.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in OF_SCENE:
        parser.add_argument(option, action="append", default=[])
    parser.add_argument("-c", "--config", action="append", default=[])
    words = with_values(_split(words), "--viewer")
    known, others = parser.parse_known_args([SHORT.get(word, word) for word in words])
    others += _of_length(words)
    if not known.scene:
        others += _renamed("views.init_args.n", known.views)
        others += _renamed("reader.init_args.downscale", known.downscale)
        configs, run = known.config, known.run[-1:]
    elif verb in WITH_A_RUN:
        raise UserError(f"--scene goes with fit and report; {verb} takes the scene of its --run")
    else:
        scene, n_views = known.scene[-1], _number(known.views)
        needs_field = any(
            word.startswith(FOR_FIELDS) or word.split("=")[-1] in TPUS for word in others
        )
        content, configs = _content(scene, n_views, known.downscale, known.config, needs_field)
        configs = [*configs, yaml.safe_dump(content, sort_keys=False)]
        run = known.run[-1:] or [f"runs/{Path(scene).resolve().name}"]
    chosen = [word for name in configs for word in ("--config", name)]
    return [*chosen, *(word for name in run for word in ("--run", name)), *others]


def _split(words: list[str]) -> list[str]:
    """`--steps=3` as two words."""
    names = (*SHORT, *OF_SCENE, "--config", "-c")
    parts = [word.split("=", 1) if word.partition("=")[0] in names else [word] for word in words]
    return [part for pair in parts for part in pair]


def _of_length(words: list[str]) -> list[str]:
    """Options implied by a number of steps: a resumed run may have been limited by time instead.

    Raises:
        UserError: a time limit is given as well.
    """
    if "--steps" not in words:
        return []
    if "--minutes" in {word.partition("=")[0] for word in words}:
        raise UserError("--steps and --minutes are both the length of the training: give one")
    return ["--minutes", "null"]


def _renamed(name: str, values: list[str]) -> list[str]:
    return [word for value in values for word in (f"--data.{name}", value)]


def _number(values: list[str]) -> int | None:
    if not values:
        return None
    if not values[-1].isdecimal() or int(values[-1]) < 1:
        raise UserError(f"--views is {values[-1]!r:.60}; give a whole number, at least 1")
    return int(values[-1])


def _content(
    scene: str,
    n_views: int | None,
    downscale: list[str],
    configs: list[str],
    needs_field: bool,
) -> tuple[dict[str, Any], list[str]]:
    """A config that reads a capture, and the presets that it overlays."""
    cls, folder = find_reader(scene)
    options = _defaults(cls) | {"root": str(folder), "downscale": _downscale(downscale)}
    if "hold_every" in options:
        options["hold_every"] = 0
    reader = cls(**options)
    listing = reader.listing("train")
    assert listing is not None
    n_held = 0
    can_hold = "hold_every" in options and len(listing) >= FEWEST_TO_SPARE
    if can_hold and reader.listing("test") is None:
        options["hold_every"] = HOLD_EVERY
        reader = cls(**options)
        listing, n_held = reader.listing("train"), len(reader.listing("test") or ())
        assert listing is not None
    path = f"dietnerf.data.{cls.__name__}"
    data: dict[str, Any] = {"reader": {"class_path": path, "init_args": options}}
    if n_views is not None or not configs:
        data["views"] = _views(listing, n_views)
    if configs:
        return {"data": data}, configs
    one = listing.read([0])
    has_depths = one.depths is not None
    preset = preset_for(listing.cameras, n_views, one.is_cut_out, has_depths, needs_field)
    held = f"; every {HOLD_EVERY}th ({n_held}) is kept for `test`" if n_held else ""
    print(f"{folder}, read by {path}: {preset.reason}, so {preset.options}{held}", flush=True)
    return {"data": data}, list(preset.configs)


def _defaults(cls: type[AbstractReader]) -> dict[str, Any]:
    """All options of a reader with their defaults, so that those of a preset are overwritten."""
    parameters = inspect.signature(cls.__init__).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not one.empty}


def _downscale(given: list[str]) -> float | str:
    if not given or given[-1] == "auto":
        return "auto"
    try:
        return float(given[-1])
    except ValueError as error:
        raise UserError(f"--downscale is {given[-1]!r:.60}; give a number or auto") from error


def _views(listing: DatasetIndex, n: int | None) -> dict[str, Any]:
    if n is None:
        return {"class_path": f"dietnerf.data.{AllViews.__name__}"}
    cls = EvenViews if face_one_way(listing.cameras) else FarthestViews
    return {"class_path": f"dietnerf.data.{cls.__name__}", "init_args": {"n": n}}
