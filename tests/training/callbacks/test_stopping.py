"""What a run leaves behind when it is stopped, and how it says to go on."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dietnerf.training import cli
from dietnerf.training.callbacks import stopping
from dietnerf.training.system import DietNeRF
from tests.helpers import fit
from tests.runs.test_checkpoint_files import same


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


def test_a_second_signal_stops_at_once(tmp_path: Path, monkeypatch, capsys):
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(stopping, "ONE_REQUEST", 0.0)
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
