"""Mistakes that a user can mend: one sentence on the screen, a non-zero exit, and no traceback."""

import functools
import io
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec

P = ParamSpec("P")
LONGEST_LINE = 8000  # of a message, letters
ITEM = "\n  - "  # before each further line of a message
SECONDS_FOR_THE_FIRST = 2.0  # of many processes to say what all would say, which ends the others
RANKS = ("LOCAL_RANK", "SLURM_PROCID")  # of a process, as torchrun, Lightning and SLURM tell it


def printable(value: object) -> str:
    """Text of a value in one line that a terminal shows as it is: what would move its cursor,
    change its colors or is no UTF-8, as in the names of files, as escapes; and not endless."""
    text = str(value)
    if len(text) > LONGEST_LINE:
        text = f"{text[: LONGEST_LINE // 2]} ... {text[-LONGEST_LINE // 2 :]}"
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class UserError(Exception):
    """A wrong file or option; the message names it and says what to do.

    Not a `ValueError`: the command line's parser would take that for "try another type".

    Args:
        lines: of the message, mostly one sentence.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)

    def __str__(self) -> str:
        return ITEM.join(printable(line) for line in self.args)


class SharedError(UserError):
    """One that all processes of a run have: the first of each machine says it for the others."""


@contextmanager
def naming_missing_packages() -> Iterator[None]:
    """Turn the error that a package is not installed, or that this caused, into a `UserError`."""
    try:
        yield
    except Exception as error:
        missing: BaseException | None = error
        while missing is not None and not isinstance(missing, ModuleNotFoundError | UserError):
            missing = missing.__cause__ or missing.__context__
        if not isinstance(missing, ModuleNotFoundError):
            raise
        reason = " ".join(str(missing).split())
        raise UserError(f"a class in the options needs a package: {reason}") from error


def mistake_behind(error: BaseException) -> UserError | None:
    """The `UserError` that an error is, or that caused it, if any did."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__
    return cause


def _format_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """What Python prints of a warning: one line, without the place of those for users."""
    is_for_users = issubclass(category, UserWarning)
    place = "" if is_for_users else f"{filename}:{lineno}: {category.__name__}: "
    return f"warning: {place}{printable(str(message))}\n"


def exit_on_user_error(main: Callable[P, None]) -> Callable[P, None]:
    """Turn a `UserError` that leaves `main`, or caused what does, into its sentence and exit 2."""

    @functools.wraps(main)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        warnings.formatwarning = _format_warning
        warnings.filterwarnings("ignore", module="PIL")  # one for each odd tag of a photograph
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names that are no UTF-8
        try:
            main(*args, **kwargs)
        except Exception as error:
            mistake = mistake_behind(error)
            if mistake is None and isinstance(error, OSError) and error.filename is not None:
                mistake = UserError(f"{os.fsdecode(error.filename)}: {error.strerror}")
            if mistake is None:
                raise
            is_first = all(os.environ.get(name, "0") == "0" for name in RANKS)
            if not is_first:
                time.sleep(SECONDS_FOR_THE_FIRST)
            if is_first or not isinstance(mistake, SharedError):
                print(f"error: {mistake}", file=sys.stderr)
            sys.exit(2)

    return guarded
