"""A wheel follows from the sources alone, not from the folder, the time or the builder's umask."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.reliability.conftest import FaultCounter

pytestmark = pytest.mark.reliability

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "configs", "csrc", "dietnerf")
BUILT = shutil.ignore_patterns("*.so", "_build_info.json", "__pycache__")
PIP = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]


def built_in(folder: Path, umask: int) -> str:
    """The hash of the wheel of a copy of the sources."""
    folder.mkdir(parents=True)
    for name in SOURCES:
        path = ROOT / name
        copy = shutil.copyfile if path.is_file() else shutil.copytree
        copy(path, folder / name, **({} if path.is_file() else {"ignore": BUILT}))
    environment = {**os.environ, "DIETNERF_CUDA": "0"}
    environment.pop("SOURCE_DATE_EPOCH", None)
    command = [*PIP, "--no-build-isolation", "--no-deps", "--wheel-dir", "dist", "."]
    subprocess.run(command, cwd=folder, env=environment, check=True, umask=umask)
    (wheel,) = (folder / "dist").glob("*.whl")
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def test_two_wheels_are_the_same_bytes(tmp_path: Path, faults: FaultCounter):
    with faults.attempt("a wheel built elsewhere, later"):
        first = built_in(tmp_path / "one", 0o022)
        time.sleep(2)  # a zip file counts in steps of two seconds
        assert built_in(tmp_path / "another/folder", 0o002) == first
