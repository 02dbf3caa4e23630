"""Two processes in the folder of a run, and a folder that vanishes from under it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from dietnerf.export import render
from dietnerf.training import cli
from tests.helpers import SMALL_RUN, fit, refused
from tests.test_locks import held_elsewhere
from tests.training.callbacks.test_stopping import in_step

ROOT = Path(__file__).parents[3]
QUIET = ["--trainer.enable_progress_bar", "false"]


def steps(run: Path) -> int:
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"]


def test_a_second_fit_into_a_run_is_refused(tmp_path: Path, monkeypatch):
    """A new one and one that goes on, at a moment at which there is no checkpoint yet."""
    run, said = tmp_path / "run", []

    def begin_again() -> None:
        words = ["train.py", "fit", *SMALL_RUN, "--seed_everything", "7", "--run", str(run)]
        second = subprocess.run(
            [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        said.append((second.returncode, second.stderr.strip()))

    in_step(monkeypatch, 2, begin_again)
    fit(run)
    assert said[0][0] == 2, said
    assert said[0][1].startswith(f"error: {run} is in use by another `fit` (process {os.getpid()} ")
    assert "\n" not in said[0][1]
    assert yaml.safe_load((run / "config.yaml").read_text())["seed_everything"] == 0
    assert steps(run) == 12 and not list(run.glob(".*"))


def test_a_run_that_trains_can_be_read(finished_run: Path, tmp_path: Path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    film = ["--frames", "1", "--size", "8", "8", "--out", str(tmp_path / "film.gif")]
    with held_elsewhere(run, "fit"):
        on = refused(capsys, cli.main, "fit", "--run", str(run), "--ckpt_path", "last")
        assert "is in use by another `fit`" in on
        cli.main(["validate", "--run", str(run), *QUIET])
        cli.main(["test", "--run", str(run), *QUIET])
        render.main([str(run), *film])
    assert (run / "metrics.json").exists()


def test_two_tests_do_not_mix_their_results(finished_run: Path, tmp_path: Path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    with held_elsewhere(run, "test"):
        assert "is in use by another `test`" in refused(
            capsys, cli.main, "test", "--run", str(run), *QUIET
        )
    assert not (run / "metrics.json").exists()


def empty(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    for path in (run / "config.yaml", *run.glob("events*")):
        path.unlink()


VANISHES = {
    "deleted": shutil.rmtree,
    "renamed": lambda run: run.rename(run.with_name("renamed")),
    "emptied": empty,
}


@pytest.mark.parametrize("how", VANISHES)
def test_what_vanishes_from_a_run_in_training_is_made_again(
    how: str, tmp_path: Path, monkeypatch, capsys
):
    run = tmp_path / "run"
    in_step(monkeypatch, 5, lambda: VANISHES[how](run))
    fit(run)
    is_said = f"{run} was deleted, renamed or unmounted: at step 6 it is made again"
    assert (is_said in capsys.readouterr().err) == (how != "emptied")
    assert yaml.safe_load((run / "config.yaml").read_text())["seed_everything"] == 0
    assert steps(run) == 12 and list(run.glob("events*")) and not list(run.glob(".*"))


def test_a_run_in_whose_place_another_trains_ends(tmp_path: Path, monkeypatch, capsys):
    run, others = tmp_path / "run", []

    def replace() -> None:
        run.rename(tmp_path / "renamed")
        others.append(held_elsewhere(run, "fit"))
        others[0].__enter__()

    in_step(monkeypatch, 5, replace)
    said = refused(capsys, cli.main, "fit", *SMALL_RUN, "--run", str(run))
    others[0].__exit__(None, None, None)
    assert said.startswith(f"error: {run} is in use by another `fit` (process ")
    assert steps(tmp_path / "renamed") == 4


def test_a_file_in_place_of_the_folder_ends_a_run(tmp_path: Path, monkeypatch, capsys):
    run = tmp_path / "run"

    def replace() -> None:
        shutil.rmtree(run)
        run.touch()

    in_step(monkeypatch, 5, replace)
    assert str(run) in refused(capsys, cli.main, "fit", *SMALL_RUN, "--run", str(run))
    assert run.is_file()


def test_what_tensorboard_cannot_write_is_one_sentence(tmp_path: Path, monkeypatch, capsys):
    """Its writer names files in bytes, and finds the folder gone before we do."""

    def fail() -> None:
        name = os.fsencode(tmp_path / "run/events")
        raise FileNotFoundError(2, "No such file or directory", name)

    in_step(monkeypatch, 5, fail)
    said = refused(capsys, cli.main, "fit", *SMALL_RUN, "--run", str(tmp_path / "run"))
    assert said.startswith(f"error: {tmp_path}/run/events: No such file or directory; go on from")
