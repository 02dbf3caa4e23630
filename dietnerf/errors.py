"""Mistakes that a user can mend: one sentence on the screen, a non-zero exit, and no traceback."""

import functools
import os
import sys
import time
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")
SECONDS_FOR_THE_FIRST = 2.0  # of many processes to say what all would say, which ends the others


class UserError(Exception):
    """A wrong file or option; the message names it and says what to do.

    Not a `ValueError`: the command line's parser would take that for "try another type".
    """


def mistake_behind(error: BaseException) -> UserError | None:
    """The `UserError` that an error is, or that caused it, if any did."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__
    return cause


def exit_on_user_error(main: Callable[P, None]) -> Callable[P, None]:
    """Turn a `UserError` that leaves `main`, or caused what does, into its sentence and exit 2."""

    @functools.wraps(main)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            main(*args, **kwargs)
        except Exception as error:
            mistake = mistake_behind(error)
            if mistake is None and isinstance(error, OSError) and error.filename is not None:
                mistake = UserError(f"{error.filename}: {error.strerror}")
            if mistake is None:
                raise
            if os.environ.get("RANK", "0") != "0":
                time.sleep(SECONDS_FOR_THE_FIRST)
            print(f"error: {mistake}", file=sys.stderr)
            sys.exit(2)

    return guarded
