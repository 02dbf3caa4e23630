"""docs/licenses.md lists what is locked, and what it says of ffmpeg is so."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from packaging.markers import Marker

ROOT = Path(__file__).parents[1]
LOCK, DOCUMENT = ROOT / "requirements.lock", ROOT / "docs/licenses.md"
COMMAND = [sys.executable, str(ROOT / ".ci/licenses.py")]


def locked() -> dict[tuple[str, str], str]:
    """Name and version of each package, and where it is installed."""
    text = re.sub(r" *#.*\n|\\\n", "", LOCK.read_text())
    found = re.findall(r"^([\w.-]+)==(\S+)(?: ; ([^#]*?))? +--hash", text, re.MULTILINE)
    return {(name, number): where for name, number, where in found}


def test_every_locked_package_has_its_row():
    rows = re.findall(r"^\| ([\w.-]+) \| ([\d]\S*) \| \S", DOCUMENT.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(locked()), "run `make licenses`"


def is_installed(name: str, number: str) -> bool:
    try:
        return version(name) == number
    except PackageNotFoundError:
        return False


def test_the_table_is_what_the_installed_packages_state(tmp_path: Path):
    wanted = [key for key, where in locked().items() if not where or Marker(where).evaluate()]
    is_linux = sys.platform == "linux" and sys.version_info[:2] == (3, 11)
    if not is_linux or not all(is_installed(*key) for key in wanted):
        pytest.skip("this is not the environment of the lock, on Linux and Python 3.11")
    written = tmp_path / "licenses.md"
    written.write_text(DOCUMENT.read_text())
    subprocess.run([*COMMAND, LOCK, written], check=True)
    assert written.read_text() == DOCUMENT.read_text(), "run `make licenses`"


def test_a_package_that_is_not_installed_is_named(tmp_path: Path):
    (tmp_path / "lock").write_text("no-such-package==1.0 \\\n    --hash=sha256:0\n")
    (tmp_path / "licenses.md").write_text("# Licenses\n")
    done = subprocess.run(
        [*COMMAND, tmp_path / "lock", tmp_path / "licenses.md"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "no-such-package 1.0 is locked, but not installed: run `make build`"
    )
    assert (tmp_path / "licenses.md").read_text() == "# Licenses\n"


def test_ffmpeg_is_as_the_document_says():
    said = subprocess.run([get_ffmpeg_exe(), "-version"], capture_output=True, text=True).stdout
    if "imageio_ffmpeg" not in get_ffmpeg_exe():
        pytest.skip("this is another ffmpeg than imageio-ffmpeg's")
    stated = re.findall(r"`(--enable-gpl [^`]+)`", DOCUMENT.read_text())
    assert stated and all(option in said for option in stated[0].split())
