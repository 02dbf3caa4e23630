"""Plans of a benchmark, read from untrusted files: scenes, methods, seeds."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dietnerf.errors import UserError
from dietnerf.runs.allowlist import OF_ONE_COMMAND
from dietnerf.runs.configs import find_config
from dietnerf.training.allowed_classes import ALLOWLIST
from dietnerf.training.scene_options import SHORT
from dietnerf.yaml_files import parse_yaml, read_yaml

NAME = re.compile(r"\w[\w .,+()-]{0,99}")  # of a scene or a method, which becomes a folder's
MOST_SEEDS = 1000
OWN = "dietnerf."  # how the path of a class begins


@dataclass(frozen=True)
class Plan:
    """What is to be compared.

    Args:
        scenes, methods: names, and the words of the command line that choose them.
        seeds: number of initialization seeds, 0 and up.
    """

    scenes: dict[str, list[str]]
    methods: dict[str, list[str]]
    seeds: int = 3

    @classmethod
    def read(cls, path: Path) -> "Plan":
        """Read a plan.

        Raises:
            UserError: there is none, it is not as it should be, or it says what no file may say.
        """
        if not path.is_file():
            raise UserError(f"there is no plan {path}; benchmarks/plans has some")
        content = read_yaml(path)
        if not isinstance(content, dict) or not {"scenes", "methods"} <= content.keys():
            raise UserError(f"{path} must have scenes and methods; see dietnerf/benchmark.py")
        unknown = sorted(map(str, content.keys() - {"scenes", "methods", "seeds"}))
        if unknown:
            raise UserError(f"{path}: {', '.join(unknown)} is not part of a plan")
        seeds = content.get("seeds", 3)
        if type(seeds) is not int or not 1 <= seeds <= MOST_SEEDS:
            raise UserError(f"{path}: seeds is {seeds!r:.60}; give a number from 1 to {MOST_SEEDS}")
        return cls(_words(content, "scenes", path), _words(content, "methods", path), seeds)


@dataclass(frozen=True)
class Run:
    """One of the runs of a plan.

    Args:
        scene, method: their names.
        seed: of the weights.
        folder: of the run.
        words: what `fit` is called with.
    """

    scene: str
    method: str
    seed: int
    folder: Path
    words: list[str]

    @property
    def results(self) -> Path:
        return self.folder / "metrics.json"


def runs_of(plan: Plan, out: Path) -> list[Run]:
    """All runs, seed by seed, so that a table with every row is there early."""
    return [
        Run(
            scene,
            method,
            seed,
            out / scene / method / f"seed{seed}",
            [*of_method, *of_scene, "--seed_everything", str(seed)],
        )
        for seed in range(plan.seeds)
        for scene, of_scene in plan.scenes.items()
        for method, of_method in plan.methods.items()
    ]


def _words(content: dict[Any, Any], kind: str, path: Path) -> dict[str, list[str]]:
    """The words by the names that they are for."""
    named = content[kind]
    if not isinstance(named, dict) or not named:
        raise UserError(f"{path}: {kind} must have at least one name with a list of words")
    for name, words in named.items():
        if not isinstance(words, list) or not NAME.fullmatch(str(name)):
            raise UserError(
                f"{path}: {kind}: {name!r:.60} must be a name of letters, digits and spaces, and "
                "have a list of words"
            )
        try:  # the folders of runs are not known yet: a plan names no places at all
            ALLOWLIST.check_config(_options([str(word) for word in words], path), path, path)
        except UserError as error:
            raise UserError(f"{kind}: {name}: {error}") from error
    return {str(name): [str(word) for word in words] for name, words in named.items()}


def _options(words: list[str], path: Path) -> dict[str, Any]:
    """What words of the command line say, nested as in a config.

    Raises:
        UserError: they are no options with values.
    """
    pairs = [
        part for word in words for part in (word.split("=", 1) if word[:2] == "--" else [word])
    ]
    found: dict[str, Any] = {}
    for word, text in zip(pairs[::2], [*pairs[1::2], ""], strict=False):
        name = SHORT.get(word, word)
        if name == "--config":
            find_config(text)  # whose content `fit` checks
            continue
        if not re.fullmatch(r"--[a-z]\w*(\.\w+)*\+?", name) or name[2:] in OF_ONE_COMMAND:
            raise UserError(f"{path}: {name!r:.60} is no option with a value, or none of a plan")
        *above, last = name[2:].split(".")
        place = found
        for part in above:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise UserError(f"{path}: {name!r:.60} is an option of what has a value already")
        value = parse_yaml(text, path)
        if isinstance(value, str) and value.startswith(OWN):
            value = {"class_path": value}
        if last.endswith("+"):
            value = [*place.get(last, []), *(value if isinstance(value, list) else [value])]
        place[last] = value
    return found
