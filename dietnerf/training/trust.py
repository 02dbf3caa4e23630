"""Which classes a file that a stranger may have written can name: this package's, no others.

The parser of options takes more than `class_path` for the name of a class: any text where one is
expected, YAML in it and files of YAML included. What this project writes always has the long form.
"""

import importlib
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from dietnerf.errors import UserError

TRUSTED = "DIETNERF_TRUSTED"  # environment variable: further packages, with commas between them
INSTANTIATOR = "pytorch_lightning.cli.instantiate_module"  # rebuilds a system from its options
PLAIN = (bool, int, float, str, bytes, NoneType, Path, timedelta, list, tuple, dict)
MOST_OPTIONS = 100_000  # aliases in YAML can make a few lines into billions


def check_classes(
    content: Mapping[str, Any], path: Path, roots: Mapping[str, type], *packages: str
) -> None:
    """Refuse classes of other packages, anywhere in nested options.

    Args:
        content: sections of options, as they were read.
        path: the file that they come from.
        roots: of which class the options in a section are; in others no classes are named.
        packages: trusted besides this one and those that the user names in `DIETNERF_TRUSTED`.

    Raises:
        UserError: names the class, and how to allow it.
    """
    check = _Check(path, packages)
    try:
        check.sections(content, roots)
    except RecursionError as error:
        raise UserError(f"{path} is nested too deeply: it was not written by dietnerf") from error


class _Check:
    """A walk through the options of one file."""

    def __init__(self, path: Path, packages: tuple[str, ...]) -> None:
        self.path = path
        self.chosen = set(os.environ.get(TRUSTED, "").replace(" ", "").split(",")) - {""}
        self.trusted = {"dietnerf", *packages, *self.chosen}
        self.n_options = 0

    def sections(self, content: Mapping[str, Any], roots: Mapping[str, type]) -> None:
        for name, value in content.items():
            self._check_name(name)
            if name == "config":
                raise UserError(
                    f"{self.path} has its options in a file, {value!r:.60}: put them in"
                )
            if name not in roots:
                self._value(value, str, object)
            elif isinstance(value, dict):
                self._options(value, roots[name])
            elif value is not None:
                raise UserError(f"{self.path}: {name} must hold options, got {value!r:.60}")

    def _options(self, content: Mapping[Any, Any], of: type) -> None:
        hints = _hints(of)
        for name, value in content.items():
            self._check_name(name)
            self._value(value, hints.get(str(name).rstrip("+"), Any), of)

    def _check_name(self, name: Any) -> None:
        if "." in str(name):  # which the parser would take apart
            raise UserError(f"{self.path}: {name!r:.60} is no name of an option")

    def _value(self, value: Any, hint: Any, of: type) -> None:
        self.n_options += 1
        if self.n_options > MOST_OPTIONS:
            raise UserError(f"{self.path} holds more than {MOST_OPTIONS} options: none has so many")
        if isinstance(value, str) and _takes_class(hint) and not self._is_word(value, hint):
            package = of.__module__.partition(".")[0]
            if package not in self.chosen:
                raise self._refusal(value, package)
        elif isinstance(value, dict) and "class_path" in value:
            self._instance(value)
        elif isinstance(value, dict):
            for name, inner in value.items():
                self._check_name(name)
                self._value(inner, Any if _takes_class(hint) else hint, of)
        elif isinstance(value, list | tuple):
            for inner in value:
                self._value(inner, hint, of)

    def _instance(self, value: dict[Any, Any]) -> None:
        name = value["class_path"]
        found = self._find(name)
        if found is None:
            raise self._refusal(name, str(name).partition(".")[0])
        for key, inner in value.items():
            if key in ("init_args", "dict_kwargs") and isinstance(inner, dict):
                self._options(inner, found)
            elif key != "class_path":
                self._value(inner, Any, found)

    def _refusal(self, name: Any, package: str) -> UserError:
        is_strange = package not in self.trusted
        way = f"; if the file comes from you, set {TRUSTED}={package}" if is_strange else ""
        return UserError(
            f"{self.path} asks for the class {name!r:.80}, which is not dietnerf's, so it is not "
            f"loaded{way}"
        )

    def _is_word(self, value: str, hint: Any) -> bool:
        """Whether it is one of the names that the command line has for an object, such as `ddp`."""
        is_file = (self.path.parent / value).exists()
        return str in get_args(hint) and value.isidentifier() and not is_file

    def _find(self, class_path: Any) -> type | None:
        module, _, name = str(class_path).rpartition(".")
        if module.partition(".")[0] not in self.trusted:
            return None
        try:
            found = getattr(importlib.import_module(module), name, None)
        except ImportError:
            return None
        # What a module imports itself is another's.
        is_own = isinstance(found, type) and found.__module__.partition(".")[0] in self.trusted
        return found if is_own else None


def _hints(of: type) -> dict[str, Any]:
    """The types of a class's options, those that it hands on to its bases included."""
    found: dict[str, Any] = {}
    for base in of.__mro__:
        begin = vars(base).get("__init__")
        try:
            hints = get_type_hints(begin) if begin else {}
        except (NameError, AttributeError, TypeError):  # of optional packages that are missing
            hints = getattr(begin, "__annotations__", {})
        found = hints | found
    return found


def _takes_class(hint: Any) -> bool:
    """Whether text there can be taken for the name of a class or function."""
    origin = get_origin(hint)
    if origin is None:
        return hint not in PLAIN
    if origin is Literal:
        return False
    return origin is Callable or any(_takes_class(argument) for argument in get_args(hint))
