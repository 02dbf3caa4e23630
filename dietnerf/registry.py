"""Objects described by plain options, as in YAML: `{class_path: NAME, init_args: {...}}`.

Which classes a file may name is a closed list: the concrete subclasses of the class that an option
expects, as far as they are imported already. Nothing is imported by a name from a file, and a class
is built only where the type of the option says so.
"""

import collections.abc
import importlib
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from dietnerf.errors import UserError
from dietnerf.specs import Spec, concrete_subclasses, constructor_hints

TRUSTED = "DIETNERF_TRUSTED"  # environment variable: further packages, with commas between them
MOST_OPTIONS = 100_000  # aliases in YAML can make a few lines into billions
MOST_OBJECTS = 200
LARGEST_NUMBER = 2**53
PLAIN = (bool, int, float, str, NoneType, Path, timedelta)
WORD = re.compile(r"[\w:-]*")  # names nothing that could be imported, and no file elsewhere
SEQUENCES = (list, collections.abc.Sequence, collections.abc.Iterable)
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}

Listed = Mapping[type, Sequence[type]]


class OptionReader:
    """Reads nested options against the types of the constructors that they are for.

    Args:
        path: the file that they come from.
        listed: the classes that can be named where one of another package is expected, by that
            class. Where one of this package is expected, all its concrete subclasses can.
        is_overlay: options may stand without the class that they are for, which another file names.
    """

    def __init__(self, path: Path, listed: Listed | None = None, is_overlay: bool = False) -> None:
        self.path = path
        self.listed = listed or {}
        self.is_overlay = is_overlay
        self.trusted = set(os.environ.get(TRUSTED, "").replace(" ", "").split(",")) - {""}
        self.n_options = self.n_objects = 0

    def options(self, content: Any, of: type, name: str) -> dict[str, Any]:
        """Arguments of a constructor.

        Args:
            content: them, as they were read.
            of: the class.
            name: of the option that they stand in.

        Raises:
            UserError: they are not options of that class, or name a class that is not listed.
        """
        if not isinstance(content, dict):
            raise UserError(f"{self.path}: {name} must hold options, got {content!r:.60}")
        try:
            return self._options(content, of, name)
        except RecursionError as error:
            raise UserError(f"{self.path}: {name} is nested too deeply") from error

    def value(self, value: Any, hint: Any, name: str) -> Any:
        """One option, of the type `hint`.

        Raises:
            UserError: it is of another type, or names a class that is not listed.
        """
        self.n_options += 1
        if self.n_options > MOST_OPTIONS:
            raise UserError(f"{self.path} holds more than {MOST_OPTIONS} options: none has so many")
        origin, inner = get_origin(hint), get_args(hint)
        if origin in (Union, UnionType):
            return self._one_of(value, inner, name)
        if origin is Literal:
            return self._checked(any(same(value, one) for one in inner), value, hint, name)
        if origin in SEQUENCES or hint in SEQUENCES:
            self._checked(isinstance(value, list | tuple), value, hint, name)
            return [self.value(one, inner[0] if inner else Any, name) for one in value]
        if origin is dict:
            self._checked(isinstance(value, dict), value, hint, name)
            return {
                self.value(k, inner[0], name): self.value(v, inner[1], name)
                for k, v in value.items()
            }
        if origin is collections.abc.Callable and inner and isinstance(inner[-1], type):
            found = self._spec(value, inner[-1], name)
            return Spec(found.cls, found.options, is_factory=True)
        if hint in PLAIN or hint is None:
            return self._plain(value, hint, name)
        if isinstance(hint, type) and origin is None:
            return self._spec(value, hint, name)
        return self._checked(value is None, value, hint, name)  # anything at all could be there

    def _options(self, content: dict[Any, Any], of: type, name: str) -> dict[str, Any]:
        hints = constructor_hints(of)
        found = {}
        for key, value in content.items():
            hint = hints.get(str(key).removesuffix("+"))  # `losses+` makes a list longer
            if hint is None:
                found[str(key)] = self._unknown(key, value, of, name)
                continue
            found[str(key)] = self.value(value, hint[0], f"{name}.{key}")
        return found

    def _one_of(self, value: Any, hints: Sequence[Any], name: str) -> Any:
        if isinstance(value, str) and any(map(is_class, hints)) and not self._is_word(value):
            raise self._refusal(value, name, ())

        def fits(hint: Any) -> bool:
            """Whether this is the alternative that was meant."""
            if isinstance(value, list):
                return get_origin(hint) in SEQUENCES
            return isinstance(value, dict) and is_class(hint)

        failures = []
        for hint in sorted(hints, key=fits, reverse=True):
            try:
                return self.value(value, hint, name)
            except UserError as error:
                if fits(hint):
                    raise
                failures.append(error)
        known = " or ".join(map(kind_of, hints))
        raise UserError(f"{self.path}: {name} must be {known}, got {value!r:.60}") from failures[0]

    def _plain(self, value: Any, hint: Any, name: str) -> Any:
        if hint in (None, NoneType):
            return self._checked(value is None, value, hint, name)
        if hint is float and isinstance(value, int | str) and not isinstance(value, bool):
            try:  # YAML takes 1e-3, without a point, for text
                return float(value)
            except (ValueError, OverflowError):
                return self._checked(False, value, hint, name)
        if hint in (Path, timedelta):
            return self._checked(isinstance(value, str), value, hint, name)
        if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
            raise UserError(f"{self.path}: {name} is beyond all numbers that an option can be")
        if isinstance(value, str) and "\0" in value:
            raise UserError(f"{self.path}: {name} holds a null character")
        is_bool = isinstance(value, bool)
        return self._checked(
            isinstance(value, hint) and is_bool == (hint is bool), value, hint, name
        )

    def _checked(self, is_right: bool, value: Any, hint: Any, name: str) -> Any:
        if not is_right:
            raise UserError(f"{self.path}: {name} must be {kind_of(hint)}, got {value!r:.60}")
        return value

    def _unknown(self, key: Any, value: Any, of: type, name: str) -> Any:
        """An option that no constructor names."""
        if self._is_trusted(of.__module__):
            return self._free(value, f"{name}.{key}")
        # What constructors of other packages hand on to others is written out by the parser.
        is_harmless = value is None or value == "" or isinstance(value, bool | int | float)
        if of.__module__.partition(".")[0] == "dietnerf" or not is_harmless:
            raise UserError(f"{self.path}: {of.__name__} has no option {key!r:.60}, in {name}")
        return value

    def _free(self, value: Any, name: str) -> Any:
        """An option of unknown type: nothing that a parser could take for an object."""
        if isinstance(value, dict) and "class_path" not in value:
            return {str(key): self._free(one, name) for key, one in value.items()}
        if isinstance(value, list):
            return [self._free(one, name) for one in value]
        is_text = isinstance(value, str) and not set("{}[]:\n") & set(value)
        is_plain = value is None or isinstance(value, bool | int | float) or is_text
        return self._checked(is_plain, value, "a plain value", name)

    def _spec(self, value: Any, base: type, name: str) -> Spec:
        self.n_objects += 1
        if self.n_objects > MOST_OBJECTS:
            raise UserError(f"{self.path} names more than {MOST_OBJECTS} objects: none has so many")
        if not isinstance(value, dict):
            raise self._refusal(value, name, self.known(base))
        others = value.keys() - {"class_path", "init_args"}
        if others:
            raise UserError(
                f"{self.path}: {name} holds {min(map(str, others))!r:.60}, which is no option"
            )
        options = value.get("init_args") or {}
        if self.is_overlay and "class_path" not in value:
            return self._first_spec(options, base, name)
        found = self._find(value.get("class_path"), base)
        if found is None:
            raise self._refusal(value.get("class_path"), name, self.known(base))
        return Spec(found, self.options(options, found, name))

    def _first_spec(self, options: Any, base: type, name: str) -> Spec:
        """A class that has all these options."""
        failures = []
        for cls in self.known(base):
            try:
                return Spec(cls, self.options(options, cls, name))
            except UserError as error:
                failures.append(error)
        raise failures[0] if failures else self._refusal(None, name, ())

    def known(self, base: type) -> Sequence[type]:
        """The classes that can be named where `base` is expected."""
        if base in self.listed:
            return self.listed[base]
        is_own = base.__module__.partition(".")[0] == "dietnerf" or self._is_trusted(
            base.__module__
        )
        return concrete_subclasses(base) if is_own else ()

    def _find(self, path: Any, base: type) -> type | None:
        if not isinstance(path, str):
            return None
        module, _, name = path.rpartition(".")
        if self._is_trusted(module):
            try:
                found = getattr(importlib.import_module(module), name, None)
            except ImportError as error:
                raise UserError(
                    f"{module} of {TRUSTED} cannot be imported ({error}): set PYTHONPATH to its "
                    "folder"
                ) from error
            return found if isinstance(found, type) and issubclass(found, base) else None
        imported = vars(sys.modules[module]) if module in sys.modules else {}
        for cls in self.known(base):
            if cls.__name__ == name and (not module or imported.get(name) is cls):
                return cls
        return None

    def _is_trusted(self, module: str) -> bool:
        return module.partition(".")[0] in self.trusted

    def _is_word(self, value: str) -> bool:
        """Whether it can only be a name that an option has for an object, such as `ddp`."""
        folders = (Path(), self.path.parent)
        return bool(WORD.fullmatch(value)) and not any((f / value).exists() for f in folders)

    def _refusal(self, named: Any, name: str, known: Iterable[type]) -> UserError:
        package = str(named).partition(".")[0]
        names = ", ".join(sorted({cls.__name__ for cls in known}))
        return UserError(
            f"{self.path}: {name} names the class {named!r:.80}, which is not one that a file may "
            f"name there ({names or 'none'})"
            + (
                f"; if the file comes from you, set {TRUSTED}={package}"
                if package.isidentifier() and "." in str(named) and package != "dietnerf"
                else ""
            )
        )


def same(value: Any, literal: Any) -> bool:
    return type(value) is type(literal) and bool(value == literal)


def is_class(hint: Any) -> bool:
    """Whether a type is that of objects with a constructor."""
    is_plain = get_origin(hint) in (*SEQUENCES, Literal, dict) or hint in (*PLAIN, None)
    return not is_plain


def kind_of(hint: Any) -> str:
    """What a value of a type is called in a message."""
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if hint in (None, NoneType):
        return "null"
    if get_origin(hint) in (*SEQUENCES, tuple):
        return "a list"
    if isinstance(hint, str):
        return hint
    return KINDS.get(hint) or (
        f"an object of {hint.__name__}" if isinstance(hint, type) else "null"
    )
