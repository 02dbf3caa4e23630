"""Worker processes, which end with this one."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

CONTEXT = multiprocessing.get_context("spawn")


@contextmanager
def workers(n: int, begin: Callable[..., None], *arguments: Any) -> Iterator[ProcessPoolExecutor]:
    """A pool of n processes, each of which calls `begin` with the arguments first.

    Where the block fails, or is interrupted, they are ended at once.

    Raises:
        BrokenProcessPool: by futures, if one of the processes ended before its time.
    """
    with ProcessPoolExecutor(n, CONTEXT, _begin, (begin, *arguments)) as pool:
        try:
            yield pool
        except BaseException:  # their results are not needed
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _begin(begin: Callable[..., None], *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is said by the process that waits
    threading.Thread(target=_end_with_parent, daemon=True).start()
    begin(*arguments)


def _end_with_parent() -> None:
    """End where the process that gives work was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "workers are started by another process"
    parent.join()
    os._exit(1)
