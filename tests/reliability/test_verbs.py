"""All verbs under clocks that are wrong, by users who may not write, without a name or a home, and
from folders that are read-only: as ever, or one sentence and nothing changed."""

import hashlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.helpers import SMALL_RUN
from tests.reliability.conftest import FaultCounter
from tests.reliability.pipeline import differing, finish, what_was_trained
from tests.reliability.test_faults import remount, small_disk
from tests.reliability.verbs import Ends, carried_out

pytestmark = pytest.mark.reliability

LAST = "checkpoints/last.ckpt"
NOBODY, UNKNOWN = "65534", "12345"
WRITING = ("go on", "report", "test", "predict", "film")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "trained"
    finish(run, [*SMALL_RUN, "--trainer.max_steps", "200"])
    return run


@pytest.fixture
def copied(trained: Path) -> Iterator[Path]:
    """A run in a folder that other users may look into, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(trained, folder / "run")
        (folder / "out").mkdir()
        yield folder / "run"


@pytest.fixture(scope="module")
def unharmed(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that was gone on with, and with what was made of it."""
    folder = tmp_path_factory.mktemp("unharmed")
    shutil.copytree(trained, folder / "run")
    (folder / "out").mkdir()
    assert not failed(carried_out(folder / "run", folder / "out"))
    return folder


def failed(ends: Ends) -> dict[str, str]:
    return {name: said[-1000:] for name, (status, said) in ends.items() if status != 0}


def same_bits(folder: Path, expected: Path) -> bool:
    return all(
        differing(what_was_trained(folder / run / LAST), what_was_trained(expected / run / LAST))
        == []
        for run in ("run", "out/new")
    )


def counted(faults: FaultCounter, fault: str, ends: Ends, allowed: Callable[[str], bool]) -> None:
    """Each verb is a try, survived if it worked or was refused where that is allowed."""
    for name, (status, said) in ends.items():
        with faults.attempt(fault):
            assert status == 2 * allowed(name), f"{name}: {said[-1000:]}"


LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
CLOCKS = {
    "before 1970": ["-f", "@1931-01-02 00:00:00"],
    "stopped in 1970": ["-f", "1970-01-02 00:00:00"],
    "past 32 bits": ["-f", "@2107-02-08 00:00:00"],
    "a thousand times too fast": ["-f", "+0 x1000"],
    "a hundred times too slow": ["-f", "+0 x0.01"],
}


@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed")
@pytest.mark.parametrize("clock", CLOCKS)
def test_wrong_clocks_change_nothing(
    clock: str, copied: Path, unharmed: Path, faults: FaultCounter
):
    folder = copied.parent
    ends = carried_out(copied, folder / "out", ["faketime", "-m", *CLOCKS[clock]])
    counted(faults, "wrong clock, all verbs", ends, lambda name: False)
    assert same_bits(folder, unharmed)


@pytest.mark.skipif(not LIBRARIES, reason="faketime is not installed")
def test_a_clock_that_jumps_by_a_year_to_and_fro(
    copied: Path, unharmed: Path, tmp_path: Path, faults: FaultCounter
):
    folder, offset, is_over = copied.parent, tmp_path / "offset", Event()

    def jump() -> None:
        for year in itertools.cycle(("+0", "-1y")):
            offset.write_text(year)
            if is_over.wait(0.05):
                return

    preloaded = {
        "LD_PRELOAD": str(LIBRARIES[0]),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    jumping = Thread(target=jump)
    jumping.start()
    try:
        ends = carried_out(copied, folder / "out", **preloaded)
    finally:
        is_over.set()
        jumping.join()
    del ends["mp4"]  # imageio sleeps, which libfaketime turns into an error when it jumps
    counted(faults, "wrong clock, all verbs", ends, lambda name: False)
    assert same_bits(folder, unharmed)


def as_user(number: str) -> list[str]:
    """Words that start a program as another user, who may read all and write what is theirs."""
    may_read = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
    words = ["setpriv", "--reuid", number, "--regid", number, "--clear-groups", *may_read]
    probe = [*words, sys.executable, "-c", "import torch"]
    if os.geteuid() != 0 or subprocess.run(probe, capture_output=True).returncode != 0:
        pytest.skip("no other user can be become here")
    return words


def give(folder: Path, number: str) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, int(number), int(number))


def digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found.update(f"{path} {path.stat().st_uid}".encode())
        found.update(path.read_bytes() if path.is_file() else b"")
    return found.hexdigest()


def test_a_run_of_another_user_is_read_and_stays_as_it_is(copied: Path, faults: FaultCounter):
    out, before = copied.parent / "out", digest(copied)
    give(out, NOBODY)
    ends = carried_out(copied, out, as_user(NOBODY), copied.parent, HOME="/nonexistent")
    counted(faults, "run of another user, all verbs", ends, lambda name: name in WRITING)
    for name in WRITING:
        said = ends[name][1].strip()
        assert said.startswith("error: ") and "cannot be written to" in said and "\n" not in said
    assert digest(copied) == before


def test_a_user_without_name_and_home_does_all(copied: Path, unharmed: Path, faults: FaultCounter):
    """As in a container that was started for a number."""
    folder = copied.parent
    give(folder, UNKNOWN)
    unset = [word for name in ("HOME", "USER", "LOGNAME") for word in ("-u", name)]
    ends = carried_out(copied, folder / "out", [*as_user(UNKNOWN), "env", *unset], Path("/"))
    counted(faults, "user without a name, all verbs", ends, lambda name: False)
    assert same_bits(folder, unharmed)


CACHES = (
    *("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR", "TORCH_HOME", "HF_HOME", "TRITON_CACHE_DIR"),
    *("PYTORCH_KERNEL_CACHE_PATH", "NUMBA_CACHE_DIR"),
)


def test_read_only_working_folder_and_caches(
    copied: Path, unharmed: Path, tmp_path: Path, faults: FaultCounter
):
    with small_disk(tmp_path / "disk", "1m") as disk:
        remount(disk, "ro")
        caches = dict.fromkeys(CACHES, str(disk))
        ends = carried_out(copied, copied.parent / "out", (), disk, **caches)
    counted(faults, "read-only working folder and caches, all verbs", ends, lambda name: False)
    assert same_bits(copied.parent, unharmed)


def test_without_a_folder_for_temporary_files(tmp_path: Path, faults: FaultCounter):
    lacking = "import tempfile; tempfile._candidate_tempdir_list = lambda: []; "
    done = subprocess.run(
        [sys.executable, "-c", lacking + "import dietnerf.training.cli"],
        capture_output=True,
        text=True,
    )
    with faults.attempt("no folder for temporary files"):
        assert done.returncode == 2
        assert "set TMPDIR to a folder for temporary files" in done.stderr
        assert done.stderr.count("\n") == 1
