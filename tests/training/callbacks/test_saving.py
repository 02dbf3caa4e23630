"""What a run leaves behind when it breaks off or its disk fills up."""

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch
from tensorboard.summary.writer.record_writer import RecordWriter

from dietnerf.training import cli
from tests.helpers import SMALL_RUN, fit
from tests.training.callbacks.test_stopping import VIEWS, in_step


def full_for(monkeypatch, *names: str) -> None:
    """No room on the disk for files of these names."""
    sync = os.fsync

    def full(descriptor: int) -> None:
        if any(name in os.readlink(f"/proc/self/fd/{descriptor}") for name in names):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)


@pytest.mark.parametrize(
    ("names", "written"),
    [(["test_1.part"], {"test_0.png", "test_2.png", "metrics.json"}), (["metrics.part"], None)],
    ids=["a picture", "the scores"],
)
def test_a_test_goes_on_without_what_cannot_be_written(
    names, written, finished_run: Path, tmp_path: Path, monkeypatch, capsys
):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    for old in (run / "metrics.json", *(run / "test").glob("*")):
        old.unlink(missing_ok=True)
    full_for(monkeypatch, *names)
    with pytest.raises(SystemExit) as ended:
        cli.main(["test", "--run", str(run), *VIEWS])
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert "No space left on device; what was written so far stays" in said.err.splitlines()[-1]
    assert "psnr" in said.out, "they are on the screen at least"
    found = {path.name for path in (*run.glob("*.json"), *(run / "test").iterdir())}
    assert found == written or {f"test_{i}.png" for i in range(3)}


@pytest.mark.parametrize(
    ("subcommand", "n_events"),
    [("fit", 1), ("validate", 0), ("validate", 1), ("test", 0), ("test", 1), ("predict", 0)],
)
def test_a_log_that_cannot_be_written_is_one_sentence(
    subcommand: str, n_events: int, finished_run: Path, tmp_path: Path, monkeypatch, capsys
):
    """TensorBoard's own thread writes it, and finds the disk full after some events."""
    run, write, written = tmp_path / "run", RecordWriter.write, []

    def fills(self, content: bytes) -> None:
        written.append(content)
        if len(written) > n_events:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, content)

    if subcommand != "fit":
        shutil.copytree(finished_run, run)
    (run / "metrics.json").unlink(missing_ok=True)
    monkeypatch.setattr(RecordWriter, "write", fills)
    words = [subcommand, *(SMALL_RUN if subcommand == "fit" else VIEWS), "--run", str(run)]
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith(f"error: {run} cannot be written: No space left on device; ")
    has_scores = (run / "metrics.json").is_file()
    assert has_scores == (subcommand == "test" and n_events == 1), "they are written before"


def test_an_error_saves_nothing_of_the_step_that_it_broke(tmp_path: Path, monkeypatch):
    def fails() -> None:
        raise ZeroDivisionError

    in_step(monkeypatch, 6, fails)
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path / "run")
    last = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 4


def test_a_folder_in_place_of_a_checkpoint_is_named(tmp_path: Path, capsys):
    (tmp_path / "run/checkpoints/last.ckpt").mkdir(parents=True)
    with pytest.raises(SystemExit) as ended:
        fit(tmp_path / "run")
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 2 and "checkpoints/last.ckpt is a folder" in message


def test_full_disk(tmp_path: Path, monkeypatch, capsys):
    """The second checkpoint finds no room: the first one stays, and no trace of the second."""
    sync, synced = os.fsync, []

    def full(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        if "000008.ckpt" in synced[-1] or "000008.part" in synced[-1]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    run = tmp_path / "run"
    with pytest.raises(SystemExit) as ended:
        fit(run)
    assert ended.value.code == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith(f"error: {run}/checkpoints/000008.ckpt cannot be written: No space")
    assert message.endswith(f"fit --run {run} --ckpt_path last")
    assert not list((run / "checkpoints").glob(".*"))
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 4
    assert any(path.endswith("/checkpoints") for path in synced), "the folder's names as well"
