"""Runs of several processes, and what tests of them share."""

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers import FEW_STEPS, SMALL_FIELD

ROOT = Path(__file__).parents[2]
RUN = [
    *("--config", "quickstart"),
    *("--data.reader.init_args.resolution", "24"),
    *("--data.reader.init_args.n_test", "3"),
    *SMALL_FIELD,
    *FEW_STEPS,
    *("--data.rays_per_step", "512"),
    *("--trainer.max_steps", "150"),
    *("--trainer.val_check_interval", "150"),
    *("--save_every", "50"),
    *("--trainer.accelerator", "cpu"),
]
TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]


def start(*words: str, network: str | None = None) -> subprocess.Popen[str]:
    inside = [] if network is None else ["ip", "netns", "exec", network]
    ours = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "DIETNERF_TRUSTED": "tests"}
    if network is not None:
        ours["GLOO_SOCKET_IFNAME"] = "eth7"
    return subprocess.Popen(
        [*inside, sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, **ours},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def call(*words: str) -> str:
    process = start(*words)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-2000:]
    return output
