"""Training for a given time."""

from pathlib import Path

import pytest

from dietnerf.runs.checkpoints import find_checkpoint, read_checkpoint
from dietnerf.training import cli
from dietnerf.training.callbacks import budget, progress
from dietnerf.training.system import DietNeRF
from tests.helpers import SMALL_RUN, refused

OPTIONS = ["--trainer.log_every_n_steps", "10", "--trainer.enable_checkpointing", "true"]


class Clock:
    """Of steps that take a tenth of a second, and after the hundredth a twentieth."""

    def __init__(self) -> None:
        self.now, self.calls = 0.0, 0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    take_step = DietNeRF.take_step

    def timed(self: DietNeRF, step: int, is_last: bool) -> None:
        take_step(self, step, is_last)
        clock.now += 0.1 if step < 100 else 0.05

    monkeypatch.setattr(DietNeRF, "take_step", timed)
    monkeypatch.setattr(progress.time, "perf_counter", clock.perf_counter)
    return clock


def history_of(run: Path) -> dict:
    return read_checkpoint(find_checkpoint(run))["dietnerf"]["history"]


def test_it_ends_when_the_time_is_up(clock: Clock, tmp_path: Path):
    """Ten seconds for the first hundred steps, five for a hundred more."""
    cli.main(["fit", *SMALL_RUN, *OPTIONS, "--minutes", "0.25", "--run", str(tmp_path / "run")])
    history = history_of(tmp_path / "run")
    assert history["seconds"] == pytest.approx(15, abs=0.5)
    assert history["steps"] == pytest.approx(200, abs=10)


def test_an_earlier_part_counts(clock: Clock, tmp_path: Path):
    run = str(tmp_path / "run")
    cli.main(["fit", *SMALL_RUN, *OPTIONS, "--run", run, "--steps", "50"])
    cli.main(["fit", "--run", run, "--ckpt_path", "last", "--minutes", "0.1"])
    assert history_of(tmp_path / "run")["steps"] == pytest.approx(60, abs=10)


def test_what_goes_on_does_not_begin_its_schedules_anew(clock: Clock, tmp_path: Path, capsys):
    run = str(tmp_path / "run")
    cli.main(["fit", *SMALL_RUN, *OPTIONS, "--run", run, "--minutes", "0.1"])
    rates = []
    rate_of = DietNeRF._rate

    def recorded(self: DietNeRF, step: int) -> float:
        rates.append((step / self.trainer.max_steps, rate_of(self, step)))
        return rates[-1][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DietNeRF, "_rate", recorded)
        cli.main(["fit", "--run", run, "--ckpt_path", "last", "--minutes", "0.15"])
    assert all(share > 0.5 for share, _ in rates[-10:]), [round(s, 2) for s, _ in rates]
    steps = history_of(tmp_path / "run")["steps"]
    capsys.readouterr()
    cli.main(["fit", "--run", run, "--ckpt_path", "last", "--minutes", "0.1"])
    assert history_of(tmp_path / "run")["steps"] == steps
    assert f"{steps} steps took the 0.1 minutes" in capsys.readouterr().out


@pytest.mark.parametrize("minutes", ["0", "-1", ".nan", "1e9"])
def test_what_is_no_time_is_refused(minutes: str, tmp_path: Path, capsys):
    words = ["fit", *SMALL_RUN, "--minutes", minutes, "--run", str(tmp_path / "run")]
    assert "--minutes is " in refused(capsys, cli.main, *words)
    assert budget.LEAST > 0
