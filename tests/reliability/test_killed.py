"""Runs that are killed at random moments end where unbroken ones do, to the bit."""

import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers import SMALL_RUN
from tests.reliability.conftest import FaultCounter
from tests.reliability.pipeline import (
    CONTEXT,
    differing,
    finish,
    start,
    steps_lost,
    what_was_trained,
)

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
        *OFTEN,
    ],
}
SIGNALS = [*11 * [signal.SIGKILL], *2 * [signal.SIGTERM], *2 * [signal.SIGINT]]
N_KILLS = 25  # of each method


@pytest.mark.parametrize("method", METHODS)
def test_killed_runs_end_where_an_unbroken_one_does(
    method: str, tmp_path: Path, faults: FaultCounter
):
    options = METHODS[method]
    finish(tmp_path / "first", options)  # the process that others are forked from starts as well
    began = time.perf_counter()
    finish(tmp_path / "unbroken", options)
    seconds = time.perf_counter() - began
    expected = what_was_trained(tmp_path / "unbroken/checkpoints/last.ckpt")
    draw, n_kills, run = random.Random(0), 0, tmp_path / "run"
    survived: Counter[str] = Counter()  # once the run that they struck has ended as it should
    while n_kills < N_KILLS:
        number, taken = draw.choice(SIGNALS), CONTEXT.RawValue("i", 0)
        process = start(run, options, taken=taken)
        process.join(draw.uniform(0, 1.2 * seconds))
        if process.is_alive():
            os.kill(process.pid, number)
            process.join(60)
            assert process.exitcode != 0 or ends_whole(run)
            n_kills += 1
            fault = f"{number.name} at a random moment, {method}"
            faults.tried[fault] += 1
            faults.lose(fault, steps_lost(run, taken))
            survived[fault] += 1
            continue
        said = run.with_suffix(".txt").read_text()
        assert process.exitcode == 0, said[-2000:]
        found = what_was_trained(run / "checkpoints/last.ckpt")
        assert differing(found, expected) == [], said[-2000:]
        faults.survived += survived
        survived.clear()
        shutil.rmtree(run)
        run.with_suffix(".txt").unlink()
    finish(run, options)
    assert differing(what_was_trained(run / "checkpoints/last.ckpt"), expected) == []
    faults.survived += survived


def ends_whole(run: Path) -> bool:
    """Whether a signal came too late to stop it."""
    return what_was_trained(run / "checkpoints/last.ckpt")["global_step"] == 60
