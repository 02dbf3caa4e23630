"""What a run leaves behind when it is stopped, its disk fills up, or a checkpoint is torn."""

import errno
import os
import shutil
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tensorboard.summary.writer.record_writer import RecordWriter

from dietnerf.export import render
from dietnerf.runs.checkpoints import is_whole
from dietnerf.training import cli, saving
from dietnerf.training.system import DietNeRF
from tests.helpers import SMALL_RUN, fit, weights


@pytest.fixture(autouse=True)
def _heeds_hangups() -> Iterator[None]:
    """Also where the tests themselves run under nohup."""
    handler = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, handler)


def in_step(monkeypatch, number: int, happens) -> None:
    """Let something happen in the midst of a training step."""
    take_step = DietNeRF.take_step

    def stepped(self, step, is_last):
        if step == number:
            happens()
        take_step(self, step, is_last)

    monkeypatch.setattr(DietNeRF, "take_step", stepped)


def same(run: Path, other: Path) -> bool:
    found, expected = (weights(path / "checkpoints/last.ckpt") for path in (run, other))
    return all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stopped_run_is_saved_and_says_how_to_go_on(
    number: int, finished_run: Path, tmp_path: Path, monkeypatch, capsys
):
    run, handler = tmp_path / "run", signal.getsignal(number)
    with monkeypatch.context() as patched:
        in_step(patched, 5, lambda: os.kill(os.getpid(), number))
        with pytest.raises(SystemExit) as ended:
            fit(run, "--save_every", "1000")
    assert ended.value.code == 128 + number and signal.getsignal(number) == handler
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 6
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("stopped; ") and said.endswith(f"fit --run {run} --ckpt_path last")
    cli.main(["fit", "--run", str(run), "--ckpt_path", "last"])
    assert same(run, finished_run)


def in_picture(monkeypatch, subcommand: str, happens) -> None:
    """Let something happen in the midst of the second picture."""
    name = {"validate": "validation_step"}.get(subcommand, f"{subcommand}_step")
    step = getattr(DietNeRF, name)

    def stepped(self, view, batch_idx):
        if batch_idx == 1:
            happens()
        return step(self, view, batch_idx)

    monkeypatch.setattr(DietNeRF, name, stepped)


VIEWS = ("--data.val_views.init_args.n", "3", "--trainer.enable_progress_bar", "false")


@pytest.mark.parametrize(
    ("subcommand", "number"),
    [
        *(("validate", signal.SIGTERM), ("validate", signal.SIGINT)),
        *(("test", signal.SIGTERM), ("test", signal.SIGHUP)),
        *(("predict", signal.SIGTERM), ("predict", signal.SIGINT)),
    ],
)
def test_what_looks_at_a_run_stops_after_the_picture(
    subcommand: str, number: int, finished_run: Path, tmp_path: Path, monkeypatch, capsys
):
    run, handler = tmp_path / "run", signal.getsignal(number)
    shutil.copytree(finished_run, run)
    (run / "metrics.json").write_text("of a test before")
    in_picture(monkeypatch, subcommand, lambda: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as ended:
        cli.main([subcommand, "--run", str(run), *VIEWS])
    assert ended.value.code == 128 + number and signal.getsignal(number) == handler
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("stopped; what was written so far stays; begin again: ")
    assert said.endswith(f"{subcommand} --run {run}")
    n_pictures = 0 if subcommand == "validate" else 2
    assert len(list((run / subcommand).glob("*.png"))) == n_pictures
    assert (run / "metrics.json").read_text() == "of a test before"


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


def test_a_second_signal_stops_at_once(tmp_path: Path, monkeypatch, capsys):
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(saving, "ONE_REQUEST", 0.0)
    in_step(monkeypatch, 5, twice)
    with pytest.raises(SystemExit) as ended:
        fit(tmp_path / "run")
    assert ended.value.code == 2 and "error: stopped at once; go on" in capsys.readouterr().err
    last = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 4, "half a step is not saved"


def test_a_closed_terminal_stops_a_run_that_can_write_no_more(tmp_path: Path, monkeypatch):
    """It says so twice, as a shell that ends with it does, which is one request."""
    kept, (master, terminal) = os.dup(2), os.openpty()

    def closes() -> None:
        os.dup2(terminal, 2)
        os.close(master)
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)

    in_step(monkeypatch, 5, closes)
    try:
        with pytest.raises(SystemExit) as ended:
            fit(tmp_path / "run")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(terminal)
    assert ended.value.code == 128 + signal.SIGHUP
    last = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 6


def test_a_run_under_nohup_goes_on(tmp_path: Path, monkeypatch):
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    in_step(monkeypatch, 5, lambda: os.kill(os.getpid(), signal.SIGHUP))
    try:
        fit(tmp_path / "run")
    finally:
        signal.signal(signal.SIGHUP, handler)


def test_an_error_saves_nothing_of_the_step_that_it_broke(tmp_path: Path, monkeypatch):
    def fails() -> None:
        raise ZeroDivisionError

    in_step(monkeypatch, 6, fails)
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path / "run")
    last = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 4


@pytest.mark.parametrize("kept", [0, 5000, -1], ids=["empty", "torn", "one byte short"])
def test_a_torn_checkpoint_is_passed_over(kept: int, finished_run: Path, tmp_path: Path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    for name in ("last", "000012"):
        path = run / f"checkpoints/{name}.ckpt"
        path.write_bytes(path.read_bytes()[:kept])
    film = ["--frames", "1", "--size", "8", "8", "--out", str(tmp_path / "film.gif")]
    render.main([str(run), *film])
    cli.main(["fit", "--run", str(run), "--ckpt_path", "last"])
    said = capsys.readouterr().err
    for name in ("last", "000012"):
        assert said.count(f"{name}.ckpt is torn or empty: passing it over") == 2
    assert same(run, finished_run)


def test_a_changed_byte_is_found(finished_run: Path, tmp_path: Path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    path = run / "checkpoints/last.ckpt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    cli.main(["validate", "--run", str(run), "--trainer.enable_progress_bar", "false"])
    assert "last.ckpt is torn or empty: passing it over" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "bits"),
    [(6, 64), (8, 32), (10, 1), (46, 128), (10, 8)],
    ids=["version", "patched", "compression", "name", "deflated"],
)
def test_a_changed_bit_of_the_directory_is_found(
    place: int, bits: int, finished_run: Path, tmp_path: Path
):
    """Of which zipfile makes an error of another kind each."""
    path = tmp_path / "last.ckpt"
    content = bytearray((finished_run / "checkpoints/last.ckpt").read_bytes())
    content[content.index(b"PK\x01\x02") + place] ^= bits
    path.write_bytes(content)
    assert not is_whole(path)


def test_a_folder_in_place_of_a_checkpoint_is_named(tmp_path: Path, capsys):
    (tmp_path / "run/checkpoints/last.ckpt").mkdir(parents=True)
    with pytest.raises(SystemExit) as ended:
        fit(tmp_path / "run")
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 2 and "checkpoints/last.ckpt is a folder" in message


def test_a_broken_sector_is_found(finished_run: Path, monkeypatch):
    def broken(archive: zipfile.ZipFile) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(zipfile.ZipFile, "testzip", broken)
    assert not is_whole(finished_run / "checkpoints/last.ckpt")


def test_a_checkpoint_between_two_names_is_found(finished_run: Path, tmp_path: Path):
    """Killed after 000012.ckpt, before last.ckpt: a run that had no other."""
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    (run / "checkpoints/last.ckpt").unlink()
    cli.main(["validate", "--run", str(run), "--trainer.enable_progress_bar", "false"])


def test_a_run_killed_in_its_first_checkpoint_begins_again(finished_run: Path, tmp_path: Path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints/.dietnerf-last.part123.ckpt").write_bytes(b"half of it")
    fit(run)
    assert same(run, finished_run)
    assert not list((run / "checkpoints").glob(".*"))


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
