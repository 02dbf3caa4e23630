"""Runs that are killed at random moments end where unbroken ones do, to the bit."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.helpers import SMALL_RUN
from tests.reliability.legs import differing, finish, start, what_was_trained

pytestmark = pytest.mark.reliability

OFTEN = [
    *("--trainer.max_steps", "60"),
    *("--trainer.val_check_interval", "14"),
    *("--save_every", "3"),
]
TOY = [
    *("--data.reader", "dietnerf.data.Procedural"),
    *("--data.reader.init_args.resolution", "16"),
    *("--data.reader.init_args.n_test", "3"),
    *("--data.precrop_steps", "20"),
    *("--data.rays_per_step", "32"),
    *("--trainer.enable_progress_bar", "false"),
]
LOSSES = (
    "[{class_path: dietnerf.losses.Photometric}, {class_path: dietnerf.losses.DensitySmoothness}]"
)
METHODS = {
    # Occupancy grid, moving average, a number of rays that adapts, losses of the scene.
    "fast": [
        *SMALL_RUN,
        *("--config", "ema"),
        *("--model.losses", LOSSES),
        *OFTEN,
    ],
    # Two networks, AdamW, masks by the step, accumulated batches.
    "paper": [
        *("--config", "nerf", "--config", "cpu", "--config", "freenerf", *TOY),
        *("--model.field.init_args.depth", "3", "--model.field.init_args.width", "16"),
        *("--model.sampler.init_args.n_samples", "8"),
        *("--trainer.accumulate_grad_batches", "2"),
        *OFTEN,
    ],
}
SIGNALS = [*11 * [signal.SIGKILL], *2 * [signal.SIGTERM], *2 * [signal.SIGINT]]
N_KILLS = 25  # of each method


@pytest.mark.parametrize("method", METHODS)
def test_killed_runs_end_where_an_unbroken_one_does(method: str, tmp_path: Path):
    options = METHODS[method]
    finish(tmp_path / "first", options)  # the process that others are forked from starts as well
    began = time.perf_counter()
    finish(tmp_path / "unbroken", options)
    seconds = time.perf_counter() - began
    expected = what_was_trained(tmp_path / "unbroken/checkpoints/last.ckpt")
    draw, kills, run = random.Random(0), 0, tmp_path / "run"
    finished = 0
    while kills < N_KILLS:
        number = draw.choice(SIGNALS)
        process = start(run, options)
        process.join(draw.uniform(0, 1.2 * seconds))
        if process.is_alive():
            kills += 1
            os.kill(process.pid, number)
            process.join(60)
            assert process.exitcode != 0 or ends_whole(run)
            continue
        said = run.with_suffix(".txt").read_text()
        assert process.exitcode == 0, said[-2000:]
        found = what_was_trained(run / "checkpoints/last.ckpt")
        assert differing(found, expected) == [], said[-2000:]
        finished += 1
        shutil.rmtree(run)
        run.with_suffix(".txt").unlink()
    print(f"{kills} kills, {finished} finished, {seconds:.1f} s a run")
    finish(run, options)
    assert differing(what_was_trained(run / "checkpoints/last.ckpt"), expected) == []


def ends_whole(run: Path) -> bool:
    """Whether a signal came too late to stop it."""
    return what_was_trained(run / "checkpoints/last.ckpt")["global_step"] == 60
