"""What a command sets up once for its process: the memory allocator, and filters of warnings."""

import ctypes
import errno
import logging
import os
import platform
import threading
import warnings

from dietnerf.errors import full_disk_behind
from dietnerf.files import UNWRITABLE

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h
_NEVER, _PAD_BYTES = -1, 64 << 20

# Advice of Lightning that users of this package cannot act on, or that does not hold.
_UNHELPFUL = (
    ".*LeafSpec.*",
    ".*`__len__` defined.*",
    ".*does not have many workers.*",
    ".*litlogger.*",
    ".*Total length of `list` across ranks is zero.*",  # no validation views
    r"\s*.*deprecated in v4.*",  # jsonargparse to Lightning
    r"\s*.*JsonargparseDeprecationWarning.*",
    ".*LightningCLI.s args parameter.*",
    ".*your dataloader is not resumable.*",  # batches follow from the step
    ".*Checkpoint directory .* exists and is not empty.*",  # only when going on with a run
    ".*The dirpath has changed.*",
    ".*callbacks used to create the checkpoint.*",
    ".*It is recommended to use .*sync_dist=True.*",  # what is logged so is the same on all
    "Detected call of `lr_scheduler.step",  # the optimizer's first step may be in a CUDA graph
    "Using ModelCheckpoint with manual optimization.*",  # the state after a step is the one to keep
    ".*is an instance of `nn.Module`.*",  # the command line saves the config instead
)


def prepare_process() -> None:
    """Keep freed memory for the next tensor, and silence warnings that no user can act on."""
    keep_freed_memory()
    for name in ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.seed"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _UNHELPFUL:
        warnings.filterwarnings("ignore", message)
    threading.excepthook = _say_of_thread


def _say_of_thread(args: threading.ExceptHookArgs) -> None:
    """Leave errors of a full disk or a missing folder to the main thread, to which TensorBoard's
    writer reports them."""
    error = args.exc_value
    is_gone = isinstance(error, OSError) and error.errno in (*UNWRITABLE, errno.ENOENT)
    if error is None or not (is_gone or full_disk_behind(error)):
        threading.__excepthook__(args)


def keep_freed_memory() -> None:
    """Tell glibc not to return freed memory to the kernel, which costs up to half of a CPU step.

    Does nothing elsewhere, or if the user tuned it.
    """
    is_tuned = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if platform.libc_ver()[0] != "glibc" or is_tuned:
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, _NEVER)
    mallopt(_M_TOP_PAD, _PAD_BYTES)
