"""Command lines: numbers within bounds, and mistakes as one sentence."""

import argparse
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, TypeVar

from dietnerf.errors import UserError

Number = TypeVar("Number", int, float)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, without its usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message.removeprefix('argument ')} (--help says what there is)")


def number(kind: type[Number], least: Number, most: Number) -> Callable[[str], Number]:
    """What reads an option that is a number from `least` to `most`, for the `type` of argparse."""

    def read(text: str) -> Number:
        with suppress(ValueError):
            value = kind(text)
            if least <= value <= most:
                return value
        what = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"{text!r} is not {what} from {least} to {most}")

    return read


def with_values(words: list[str], option: str) -> list[str]:
    """A command line on which an option that is true or false has its value, also where it stands
    alone."""
    found: list[str] = []
    for word, after in zip(words, [*words, ""][1:], strict=True):
        is_alone = word == option and after not in ("true", "false")
        found += [word, "true"] if is_alone else [word]
    return found


def typed(command: str) -> str:
    """What a user types for a command of `dietnerf`, in the way that this one was called."""
    called = Path(sys.argv[0]).stem
    if called in ("dietnerf", "__main__"):
        return f"{'dietnerf' if called == 'dietnerf' else 'python -m dietnerf'} {command}"
    if command == "render":
        return "python render.py"
    is_training = command in ("fit", "validate", "test", "predict", "report")
    return f"python train.py {command}" if is_training else f"python -m dietnerf {command}"


def path_name(text: str) -> Path:
    """What reads an option that is the name of a file or folder: the empty one would be that of the
    folder that the command runs in."""
    if not text:
        raise argparse.ArgumentTypeError("it names nothing")
    return Path(text)
