"""Writes the reference of configs and of options, from the configs and the constructors themselves.

python .ci/reference.py docs/reference        # `make reference`

configs.md has each config with what it is for; options.md each option of each class that a config
can name, with its type, its default, the configs that set it, and what its docstring says.
"""

import inspect
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import yaml

import dietnerf.research  # noqa: F401  (whose classes are listed, too)
from dietnerf.data import AbstractReader, AbstractViewSelector
from dietnerf.fields import AbstractRadianceField
from dietnerf.geometry.refinement import CameraRefinement
from dietnerf.geometry.viewpoints import AbstractViewpoints
from dietnerf.losses import AbstractLoss
from dietnerf.sampling import AbstractSampler
from dietnerf.schedules import AbstractSchedule
from dietnerf.semantics import AbstractImageEncoder
from dietnerf.specs import concrete_subclasses, constructor_hints
from dietnerf.training.datamodule import SceneDataModule
from dietnerf.training.exposure import ExposureCorrection
from dietnerf.training.learning_rate import AbstractLearningRate
from dietnerf.training.system import DietNeRF

CONFIGS = Path(__file__).parents[1] / "configs"
WRITTEN = "<!-- Written by `make reference`. -->\n"
PARTS = {  # of the model and the data, the option that names each, and the class that it must be
    "Readers": ("data.reader", AbstractReader),
    "Choices of views": ("data.views", AbstractViewSelector),
    "Fields": ("model.field", AbstractRadianceField),
    "Samplers": ("model.sampler", AbstractSampler),
    "Losses": ("model.losses", AbstractLoss),
    "Schedules": ("model.schedules", AbstractSchedule),
    "Learning rates": ("model.learning_rate", AbstractLearningRate),
    "Corrections of cameras": ("model.refinement", CameraRefinement),
    "Corrections of exposure": ("model.exposure", ExposureCorrection),
    "Image encoders": ("encoder of a loss", AbstractImageEncoder),
    "Viewpoints": ("viewpoints of a loss", AbstractViewpoints),
}
Uses = dict[tuple[str, str], list[str]]  # the configs that set an option, by its class and name


def config_files() -> list[Path]:
    return sorted(CONFIGS.rglob("*.yaml"))


def name_of(config: Path) -> str:
    """What a config is called on the command line."""
    return str(config.relative_to(CONFIGS).with_suffix(""))


def configs_page() -> str:
    parts = [
        "# Configs\n",
        WRITTEN,
        "Each file of `configs/`. Later ones overlay earlier ones, and the command line beats them "
        "all: [Train](../train.md).\n",
        *map(config_section, config_files()),
    ]
    return "\n".join(parts)


def config_section(config: Path) -> str:
    """What a config is for, as its comment says, how it is run, and its content."""
    lines = config.read_text().splitlines()
    n = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    comment = [line.removeprefix("#") for line in lines[:n]]
    commands = [line.strip() for line in comment if line.startswith("   python train.py")]
    prose = " ".join(line.strip() for line in comment if line.strip() not in commands)
    command = "\n".join(commands).replace("python train.py", "dietnerf")
    content = "\n".join(lines[n:])
    return f"## {name_of(config)}\n\n{prose}\n\n```sh\n{command}\n```\n\n```yaml\n{content}\n```\n"


def options_page() -> str:
    uses = uses_in_configs()
    parts = [
        "# Options\n",
        WRITTEN,
        "Each option with its type, its default and the [configs](configs.md) that set it. Those "
        "that no config sets are for what a configuration cannot know: a capture, a machine, an "
        "experiment. `dietnerf fit --config fast --print_config` shows all values of a run.\n",
        section("Data", "data", [SceneDataModule], uses),
        section("Model", "model", [DietNeRF], uses),
        *(
            section(title, option, classes_of(base), uses)
            for title, (option, base) in PARTS.items()
        ),
    ]
    return "\n".join(parts)


def classes_of(base: type) -> list[type]:
    """The classes that a config can name, those of `dietnerf.research` last; of losses what all
    have in common comes first."""
    found = [cls for cls in concrete_subclasses(base) if cls.__module__.startswith("dietnerf.")]
    named = [cls for cls in found if not cls.__name__.startswith("Abstract")]
    common = [base] if base is AbstractLoss else []
    return common + sorted(named, key=lambda cls: (is_research(cls), cls.__name__))


def is_research(cls: type) -> bool:
    return cls.__module__.startswith("dietnerf.research")


def path_of(cls: type) -> str:
    """The shortest package that has a class, or its module."""
    parts = cls.__module__.split(".")
    packages = (".".join(parts[:n]) for n in range(2, len(parts) + 1))
    return next(name for name in packages if hasattr(sys.modules[name], cls.__name__))


def section(title: str, option: str, classes: list[type], uses: Uses) -> str:
    return f"## {title}\n\n`{option}`\n\n" + "\n".join(table(cls, uses) for cls in classes)


def table(cls: type, uses: Uses) -> str:
    heading = f"### {path_of(cls)}.{cls.__name__}\n\n{first_sentence(cls)}\n"
    rows = list(rows_of(cls, uses))
    if not rows:
        return heading
    head = "| option | type | default | set by | |\n|---|---|---|---|---|"
    return "\n".join([heading, head, *rows]) + "\n"


def first_sentence(cls: type) -> str:
    text = (inspect.getdoc(cls) or "").partition("\n\n")[0]
    return " ".join(text.split())


def rows_of(cls: type, uses: Uses) -> Iterator[str]:
    hints, said = constructor_hints(cls), arguments(cls)
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:  # what all classes of this kind have
            continue
        kind = type_name(hints[name][0])
        is_needed = parameter.default is parameter.empty
        default = "" if is_needed else f"`{written(parameter.default)}`"
        configs = ", ".join(uses.get((cls.__name__, name), []))
        yield f"| `{name}` | {kind} | {default} | {configs} | {escaped(said.get(name, ''))} |"


def arguments(cls: type) -> dict[str, str]:
    """What the docstring of a class says of each argument of its constructor."""
    _, _, block = (inspect.getdoc(cls) or "").partition("Args:\n")
    block = re.split(r"\n(?=\S)", block)[0]
    entries = re.findall(r"^    (\S[^:]*): (.*(?:\n {5,}.*)*)", block, re.MULTILINE)
    return {name: " ".join(text.split()) for names, text in entries for name in names.split(", ")}


def type_name(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " \\| ".join(map(type_name, get_args(hint)))
    is_plain = isinstance(hint, type) and not get_args(hint)
    plain = hint.__name__ if is_plain else str(hint)
    return escaped(re.sub(r"\b(?:\w+\.)+(?=\w)", "", plain.replace("NoneType", "None")))


def written(value: Any) -> str:
    """A default as YAML has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def escaped(text: str) -> str:
    return text.replace("|", "\\|")


def uses_in_configs() -> Uses:
    found: Uses = defaultdict(list)
    for config in config_files():
        for use in dict.fromkeys(uses_in(yaml.safe_load(config.read_text()))):
            found[use].append(name_of(config))
    return found


def uses_in(content: Any) -> Iterator[tuple[str, str]]:
    """The class and the name of each option in a config."""
    roots = {"model": DietNeRF, "data": SceneDataModule}
    for key, cls in roots.items():
        options = content.get(key) or {}
        yield from ((cls.__name__, name.removesuffix("+")) for name in options)
    yield from uses_in_objects(content)


def uses_in_objects(content: Any) -> Iterator[tuple[str, str]]:
    if isinstance(content, list):
        for one in content:
            yield from uses_in_objects(one)
    if isinstance(content, dict):
        name = str(content.get("class_path")).rpartition(".")[2]
        yield from ((name, option) for option in content.get("init_args") or {})
        for one in content.values():
            yield from uses_in_objects(one)


def main() -> None:
    folder = Path(sys.argv[1])
    (folder / "configs.md").write_text(configs_page())
    (folder / "options.md").write_text(options_page())


if __name__ == "__main__":
    main()
