"""What a recorded training step costs the host: the time in which a GPU cannot be told what to do
next.

    python benchmarks/bm_host.py [--steps 2000] [--rounds 3]

`fit --model.records_steps true` on the CPU, with recordings that are carried out once and answer
the same ever after, as starting a CUDA graph takes microseconds: what is left is Lightning, hooks,
seeds, logging every 50 steps, and the learning rates. Steps taken together by turns with steps
taken one by one. The value is milliseconds of a step taken together.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch
from common import median_ratio, report
from torch import Tensor

from dietnerf.training import recording, together
from dietnerf.training.cli import main as dietnerf

SMALL = [
    *("--config", "quickstart", "--data.reader.init_args.resolution", "16"),
    *("--data.reader.init_args.n_test", "1", "--data.rays_per_step", "16"),
    *("--data.samples_per_step", "512", "--model.field.init_args.log2_table_size", "8"),
    *("--model.field.init_args.n_levels", "2", "--model.sampler.init_args.resolution", "16"),
    *("--model.sampler.init_args.n_steps", "32", "--trainer.enable_progress_bar", "false"),
]
TOGETHER = {"together": recording.MAX_TOGETHER, "one by one": 1}


def replay(done: recording.Recording) -> Sequence[Tensor]:
    if not done._found:
        done._found = done._work()
    return done._found


def seconds_per_step(n_steps: int, most_together: int) -> float:
    together.MAX_TOGETHER = most_together
    options = ("trainer.max_steps", "trainer.val_check_interval", "save_every")
    steps = [word for name in options for word in (f"--{name}", str(n_steps))]
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(sys.stderr):
            dietnerf(["fit", *SMALL, *steps, "--model.records_steps", "true", "--run", folder])
        saved = torch.load(Path(folder) / "checkpoints/last.ckpt", weights_only=True)
    seconds: float = saved["dietnerf"]["history"]["seconds"]
    return seconds / n_steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    recording.Recording.__call__ = replay  # type: ignore[method-assign]
    times = [
        {name: seconds_per_step(args.steps, most) for name, most in TOGETHER.items()}
        for _ in range(args.rounds)
    ]
    value, rival = (1e3 * median(t[name] for t in times) for name in TOGETHER)
    ratio = median_ratio(times, "together", "one by one")
    report("host", value, "ms", rival, ratio=ratio, steps=args.steps, rounds=args.rounds)


if __name__ == "__main__":
    main()
