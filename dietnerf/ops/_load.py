"""Finds the compiled kernels that `setup.py` puts beside the package, and says what was built."""

import functools
import json
import os
import warnings
from pathlib import Path
from typing import Any

import torch

PACKAGE = Path(__file__).parents[1]
LIBRARIES = {"_C": "CPU", "_C_cuda": "CUDA"}


def load_kernels() -> None:
    """Load each library beside the package, unless its kernels are registered already.

    A second copy of a library in one process would abort it.
    """
    for library, dispatch_key in LIBRARIES.items():
        for path in sorted(PACKAGE.glob(f"{library}.*")):
            if path.suffix not in (".so", ".pyd") or has_kernels(dispatch_key):
                continue
            if dispatch_key == "CUDA" and torch.version.cuda is None:
                continue
            try:
                torch.ops.load_library(path)
            except OSError as error:
                warnings.warn(f"{path.name} does not load with this torch: {error}", stacklevel=2)


def use_one_thread_after_fork() -> None:
    """Limit forked processes to one thread.

    OpenMP's threads are not forked with the process, which would wait for them forever: in these
    ops as in torch's own.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=functools.partial(torch.set_num_threads, 1))


def has_kernels(dispatch_key: str) -> bool:
    return _has_kernel("composite", dispatch_key)


def is_compiled(op: str, device: torch.device) -> bool:
    """Whether a compiled kernel, not the PyTorch reference, runs on a device."""
    return _has_kernel(op, device.type.upper())


def _has_kernel(op: str, dispatch_key: str) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"dietnerf::{op}", dispatch_key)


def describe_build() -> str:
    """One line: which kernels this process has, how they were built, why others are missing."""
    path = PACKAGE / "_build_info.json"
    info: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    parts = []
    for key in LIBRARIES.values():
        built = info.get(key.lower(), {})
        if has_kernels(key):
            parts.append(f"{key} kernels: yes ({built.get('how', 'no build record')})")
        else:
            reason = built.get("reason") or built.get("how") or "never built"
            parts.append(f"{key} kernels: no ({reason})")
    return f"dietnerf.ops with torch {torch.__version__}: " + "; ".join(parts)
