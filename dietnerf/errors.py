"""How commands fail: one sentence on the terminal, an exit code, no traceback."""

import errno
import functools
import io
import os
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec

P = ParamSpec("P")
LONGEST_LINE = 8000  # of a message, letters
ITEM = "\n  - "  # before each further line of a message
SECONDS_FOR_THE_FIRST = 2.0  # of many processes to say what all would say, which ends the others
RANKS = ("LOCAL_RANK", "SLURM_PROCID")  # of a process, as torchrun, Lightning and SLURM tell it
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)  # of disks
# What torch and kernels say on a CPU; of what a thread of a kernel throws, torch keeps no word.
OUT_OF_MEMORY = ("DefaultCPUAllocator", "bad_alloc", "torch_parallel_for")
HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none
CLOSED_PIPE = 13  # SIGPIPE, by which other programs end there


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


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, what caused it, and so on."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def mistake_behind(error: BaseException) -> UserError | None:
    """The `UserError` that an error is, or that caused it, if any did."""
    return next((cause for cause in _causes(error) if isinstance(cause, UserError)), None)


def full_disk_behind(error: BaseException) -> OSError | None:
    """What a full or broken disk said, if an error is that, or was caused by it."""
    of_system = (cause for cause in _causes(error) if isinstance(cause, OSError))
    return next((cause for cause in of_system if cause.errno in FULL), None)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the host, has no memory left."""
    torch = sys.modules.get("torch")  # which has not raised anything where it was not imported
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    is_refused = isinstance(error, OSError) and error.errno == errno.ENOMEM
    return is_refused or any(sign in str(error) for sign in OUT_OF_MEMORY)


def _shortage_behind(error: Exception) -> UserError | None:
    """What the machine lacks, in a sentence, if that is why a command ended."""
    disk = full_disk_behind(error)
    if disk is None and isinstance(error, OSError) and error.filename is not None:
        disk = error
    if disk is not None:
        return UserError(f"{disk.filename or 'a file cannot be written'}: {disk.strerror}")
    if is_out_of_memory(error):
        reason = str(error).strip().partition("\n")[0] or "Python has none left"
        return UserError(f"there is not enough memory; use smaller batches: {reason}")
    return None


@contextmanager
def leaving_on_signals() -> Iterator[None]:
    """End by an exception where SIGTERM or the end of the terminal would end the process on the
    spot, so that it clears away what it has begun."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ending = (number for number in (signal.SIGTERM, HANGUP) if number is not None)
    numbers = [n for n in ending if signal.getsignal(n) == signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, _leave)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _leave(number: int, _: Any) -> None:
    sys.exit(128 + number)


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


def _is_output_closed() -> bool:
    """Whether the reader of the output has closed it."""
    if not hasattr(select, "poll"):  # Windows
        return True
    poll = select.poll()
    poll.register(1, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def exit_on_user_error(main: Callable[P, None]) -> Callable[P, None]:
    """Turn a `UserError` that leaves `main`, or caused what does, into its sentence and exit 2; so
    too what a full disk, or memory, says. Ctrl-C is exit 130; a closed pipe, as by `head`, is no
    error, and exit 141."""

    @functools.wraps(main)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        warnings.formatwarning = _format_warning
        warnings.filterwarnings("ignore", module="PIL")  # one for each odd tag of a photograph
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names that are no UTF-8
        try:
            main(*args, **kwargs)
            sys.stdout.flush()
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
        except BrokenPipeError:
            if not _is_output_closed():
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # where what is left goes at the exit
            sys.exit(128 + CLOSED_PIPE)
        except Exception as error:
            mistake = mistake_behind(error) or _shortage_behind(error)
            if mistake is None:
                raise
            is_first = all(os.environ.get(name, "0") == "0" for name in RANKS)
            if not is_first:
                time.sleep(SECONDS_FOR_THE_FIRST)
            if is_first or not isinstance(mistake, SharedError):
                print(f"error: {mistake}", file=sys.stderr)
            sys.exit(2)

    return guarded
