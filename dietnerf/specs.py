"""Objects that are described but not built yet: a class, and the options of its constructor."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints


@dataclass(frozen=True)
class Spec:
    """An object that is not built yet.

    Args:
        cls: its class.
        options: arguments of the constructor; plain values, specs, and lists of both.
        is_factory: what is wanted is a function that builds such an object at each call.
    """

    cls: type
    options: dict[str, Any]
    is_factory: bool = False

    def build(self) -> Any:
        """The object.

        Raises:
            UserError: an option is out of its range.
            TypeError: an option that has no default is missing.
        """
        if self.is_factory:
            return Spec(self.cls, self.options).build
        return self.cls(**{name: built(value) for name, value in self.options.items()})


def built(value: Any) -> Any:
    """A value with all specs in it built."""
    if isinstance(value, list):
        return [built(one) for one in value]
    return value.build() if isinstance(value, Spec) else value


def plain(value: Any) -> Any:
    """A value with all specs in it written out, classes by the path that imports them."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if not isinstance(value, Spec):
        return value
    path = f"{value.cls.__module__}.{value.cls.__qualname__}"
    return {"class_path": path, "init_args": plain(value.options)}


def concrete_subclasses(base: type) -> list[type]:
    """The imported subclasses of a class, and itself, but for abstract ones."""
    found = [] if inspect.isabstract(base) else [base]
    cls: type
    for cls in base.__subclasses__():
        found += [one for one in concrete_subclasses(cls) if one not in found]
    return found


def constructor_hints(cls: type) -> dict[str, tuple[Any]]:
    """The type of each option of a class, those that it hands on to its bases included, each in a
    tuple: a type can be None."""
    found: dict[str, tuple[Any]] = {}
    for base in cls.__mro__:
        begin: Callable[..., Any] | None = vars(base).get("__init__")
        if begin is None:
            continue
        try:
            hints = get_type_hints(begin)
        except (NameError, AttributeError, TypeError):  # of optional packages that are missing
            hints = dict(getattr(begin, "__annotations__", {}))
        hands_on = False
        for name, parameter in list(inspect.signature(begin).parameters.items())[1:]:
            if parameter.kind is parameter.VAR_KEYWORD:
                hands_on = True
            elif parameter.kind is not parameter.VAR_POSITIONAL:
                found.setdefault(name, (hints.get(name, Any),))
        if not hands_on:
            break
    return found
