"""How far a long task is: a bar on a terminal, elsewhere a line now and then."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 30.0
FORMAT = "{desc}: {n_fmt} of {total_fmt} {unit}, {elapsed} passed, {remaining} left"


class _Lines:
    """Standard error, on which what would be written over stands in lines of its own."""

    def write(self, text: str) -> None:
        line = text.strip()
        if line:
            print(line, file=sys.stderr, flush=True)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def progress(task: str, total: int | None, unit: str) -> tqdm:
    """A context whose `update(n)` says that n more are done, on standard error.

    Args:
        task: in a few words.
        total: how many there are to do, if that is known.
        unit: what they are, in the plural.
    """
    if sys.stderr.isatty():
        return tqdm(desc=task, total=total, unit=f" {unit}", dynamic_ncols=True)
    return tqdm(
        desc=task,
        total=total,
        unit=unit,
        mininterval=SECONDS_BETWEEN_LINES,
        maxinterval=SECONDS_BETWEEN_LINES,
        miniters=1,
        bar_format=FORMAT,
        file=_Lines(),
        leave=False,
    )


def progress_of_bytes(task: str, total: int | None, done: int = 0) -> tqdm:
    """As `progress`, for bytes.

    Args:
        task: in a few words.
        total: how many there are to do, if that is known.
        done: how many of them were done before.
    """
    bar = progress(task, total, "bytes")
    bar.unit_scale = True
    bar.initial = bar.n = bar.last_print_n = done
    return bar


def tracked(items: Sequence[Item], task: str, unit: str) -> Iterator[Item]:
    """The items, one after the other, with `progress`."""
    with progress(task, len(items), unit) as bar:
        for item in items:
            yield item
            bar.update(1)
