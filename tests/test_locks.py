"""Locks on folders: who has them is named, and none outlives its process."""

import errno
import fcntl
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dietnerf.errors import UserError
from dietnerf.locks import FolderLock

HOLDER = """
import sys
from pathlib import Path
from dietnerf.locks import FolderLock
with FolderLock(Path(sys.argv[1]), sys.argv[2], "--run"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(folder: Path, task: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lock, until the block or the process ends."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-c", HOLDER, str(folder), task]
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.communicate()


def lock(folder: Path, task: str = "fit") -> FolderLock:
    return FolderLock(folder, task, "--run")


def test_the_holder_is_named_and_other_tasks_are_free(tmp_path: Path):
    with held_elsewhere(tmp_path, "fit") as process:
        with pytest.raises(UserError) as refused, lock(tmp_path):
            pass
        said = str(refused.value)
        who = f"(process {process.pid} on {platform.node()} since 20"
        assert said.startswith(f"{tmp_path} is in use by another `fit` {who}"), said
        assert said.endswith("wait until it ends, or name another --run")
        with lock(tmp_path, "test"):
            pass
    with lock(tmp_path):
        pass


def test_a_lock_that_is_another_file_as_well_is_not_written(tmp_path: Path):
    (tmp_path / "other").write_text("good")
    (tmp_path / "run").mkdir()
    os.link(tmp_path / "other", tmp_path / "run" / ".fit.lock")
    with (
        pytest.raises(UserError, match="is a hard link to another file"),
        FolderLock(tmp_path / "run", "fit", "--run"),
    ):
        pass
    assert (tmp_path / "other").read_text() == "good"


def test_a_killed_process_leaves_no_lock(tmp_path: Path):
    with held_elsewhere(tmp_path, "fit") as process:
        process.kill()
        process.wait()
        assert (tmp_path / ".fit.lock").exists()
        with lock(tmp_path):
            assert f"process {os.getpid()} on" in (tmp_path / ".fit.lock").read_text()


def test_what_it_made_goes_with_it(tmp_path: Path):
    with lock(tmp_path / "new"):
        assert (tmp_path / "new/.fit.lock").exists()
    assert not (tmp_path / "new").exists()
    with lock(tmp_path / "new"):
        (tmp_path / "new/result").touch()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["result"]


def test_a_process_may_enter_it_again(tmp_path: Path):
    with lock(tmp_path):
        with lock(tmp_path):
            pass
        assert (tmp_path / ".fit.lock").exists()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_replaced_is_noticed(tmp_path: Path):
    folder = tmp_path / "run"
    with lock(folder) as held:
        assert held.is_in_place()
        folder.rename(tmp_path / "moved")
        assert not held.is_in_place()
        with held_elsewhere(folder, "fit"):
            assert not held.is_in_place()
            with pytest.raises(UserError, match="in use by another"):
                held.renew()
        held.renew()
        assert held.is_in_place()
        with lock(tmp_path / "moved"):
            pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_used_with_a_warning(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with lock(tmp_path / "run") as held:
        assert held.is_in_place()
    said = capsys.readouterr().err
    assert f"{tmp_path / 'run'} cannot be locked ({os.strerror(number)})" in said
    assert said.count("\n") == 1
