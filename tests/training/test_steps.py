"""Ranges of steps: of any length they train the same, and whoever counts steps sees each."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EMAWeightAveraging, LearningRateMonitor, ModelCheckpoint

from dietnerf.training import system
from dietnerf.training.steps import StepRanges, expects_each_step
from dietnerf.training.system import DietNeRF
from tests.helpers import fit, weights

AVERAGE = ["--config", "ema"]


def ranges(**state) -> list[range]:
    """Those of a run in which each is trained whole."""
    trainer = SimpleNamespace(
        **{"global_step": 0, "max_steps": 40, "world_size": 1, "accelerator": None}
        | {"callbacks": [], "log_every_n_steps": 10, "val_check_batch": 25}
        | {"limit_train_batches": 1.0, "overfit_batches": 0}
        | state
    )
    found = []
    for steps in StepRanges(trainer):
        found.append(steps)
        trainer.global_step = steps.stop
    return found


def test_a_range_ends_where_something_happens_and_at_the_end():
    saving = Callback()
    saving.interval = 12  # type: ignore[attr-defined]
    ends = [steps.stop for steps in ranges(callbacks=[saving])]
    assert ends == [1, 10, 12, 20, 24, 25, 30, 36, 40]
    assert [steps.stop for steps in ranges(log_every_n_steps=100, val_check_batch=None)] == [
        *(1, 17, 33, 40)
    ]


def test_a_run_that_goes_on_has_the_ranges_of_an_unbroken_one():
    assert ranges(global_step=20) == [steps for steps in ranges() if steps.start >= 20]


class Counting(Callback):
    """Does something at every batch."""

    def on_train_batch_end(self, *_: object) -> None:
        pass


class Knowing(Counting):
    takes_ranges = True


@pytest.mark.parametrize(
    ("callback", "expected"),
    [
        (Counting(), True),
        (Knowing(), False),
        (LearningRateMonitor(), True),
        (ModelCheckpoint(), True),
        (EMAWeightAveraging(), False),
        (Callback(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_who_expects_each_step(callback: Callback, expected: bool):
    assert expects_each_step(callback) == expected


def test_several_processes_take_steps_one_by_one():
    assert {len(steps) for steps in ranges(world_size=2)} == {1}
    assert {len(steps) for steps in ranges(callbacks=[Counting()])} == {1}
    assert {len(steps) for steps in ranges(limit_train_batches=30)} == {1}


def test_ranges_that_end_early_train_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lengths: dict[str, list[int]] = {}
    training_step = DietNeRF.training_step

    def noting(self: DietNeRF, steps: range, batch_idx: int) -> None:
        first = self.global_step
        training_step(self, steps, batch_idx)
        lengths[name].append(self.global_step - first)

    monkeypatch.setattr(DietNeRF, "training_step", noting)
    for name, seconds in (("whole", 1e3), ("early", 0.0)):
        lengths[name] = []
        monkeypatch.setattr(system, "RANGE_SECONDS", seconds)
        fit(tmp_path / name, *AVERAGE)
    assert set(lengths["early"]) == {1} and max(lengths["whole"]) > 1
    assert sum(lengths["early"]) == sum(lengths["whole"])
    files = [sorted(p.name for p in (tmp_path / n / "checkpoints").iterdir()) for n in lengths]
    assert files[0] == files[1]
    whole, early = (weights(tmp_path / n / "checkpoints/last.ckpt") for n in lengths)
    assert all(torch.equal(early[key], value) for key, value in whole.items())


def test_a_table_has_a_row_for_each_logged_step(tmp_path: Path):
    """Also with a callback of Lightning's that logs on its own."""
    logger = {"class_path": "pytorch_lightning.loggers.CSVLogger"}
    logger |= {"init_args": {"save_dir": str(tmp_path), "name": "", "version": ""}}
    fit(tmp_path / "run", "--trainer.logger", json.dumps(logger))
    (table,) = tmp_path.rglob("metrics.csv")
    rows = [row for row in csv.DictReader(table.open()) if row["train/loss"]]
    assert [int(row["step"]) for row in rows] == [4, 8, 12]
    for name in ("train/psnr", "train/skipped_steps", "train/learning_rate"):
        assert all(row[name] for row in rows), name


def test_a_time_between_validations_is_no_number_of_steps(tmp_path: Path):
    fit(tmp_path / "run", "--trainer.val_check_interval", "00:10:00:00")
    assert (tmp_path / "run/checkpoints/last.ckpt").is_file()
