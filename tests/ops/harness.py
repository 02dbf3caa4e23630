"""Headers of the kernels, compiled by themselves so that a test can carry them out on the CPU."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def compiled(name: str, folder: Path) -> ctypes.CDLL:
    """The library of tests/ops/`name`.cpp."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    from torch.utils.cpp_extension import include_paths

    library = folder / f"{name}.so"
    flags = ["-O2", "-std=c++17", "-shared", "-fPIC", "-Wno-attributes"]
    flags.append("-DTORCH_TARGET_VERSION=0x020a000000000000")
    folders = [f"-I{folder}" for folder in (ROOT, *include_paths())]
    source = str(ROOT / f"tests/ops/{name}.cpp")
    subprocess.run([compiler, *flags, *folders, source, "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))
