"""Which kernels a graphed training step is made of: some fifty steps under torch's profiler.

python benchmarks/gpu/step_profile.py [--device cpu --small]
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import pytorch_lightning as pl
import torch
from common import synchronize
from gpu import NGP, SAMPLES, SMALL_SAMPLES, TINY
from gpu_steps import Steps
from torch.profiler import ProfilerActivity, profile

from dietnerf.training.cli import main as dietnerf

N_ROWS = 60  # of the table


class Profile(pl.Callback):
    """Profiles the steps from `first` to `last`, prints them and ends the run.

    Args:
        first, last: steps; whole batches of Lightning's are profiled.
    """

    takes_ranges = True

    def __init__(self, first: int = 600, last: int = 650) -> None:
        self.first, self.last = first, last
        self._profile: profile | None = None
        self._began = 0

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        step = trainer.global_step
        if self._profile is None and step >= self.first:
            self._began, kinds = step, [ProfilerActivity.CPU]
            if torch.cuda.is_available():
                kinds.append(ProfilerActivity.CUDA)
            synchronize()
            self._profile = profile(activities=kinds)
            self._profile.start()
        elif self._profile is not None and step >= self.last and not trainer.should_stop:
            synchronize()
            self._profile.stop()
            self._print(step - self._began)
            trainer.should_stop = True

    def _print(self, n_steps: int) -> None:
        assert self._profile is not None
        by = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        print(f"{n_steps} steps from {self._began} on, by {by}")
        averages = self._profile.key_averages()
        print(averages.table(sort_by=by, row_limit=N_ROWS, max_name_column_width=70))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the script out")
    args = parser.parse_args()
    sizes, n_samples = (TINY, SMALL_SAMPLES) if args.small else (NGP, SAMPLES)
    steps = Steps(torch.device(args.device), args.small, sizes, n_samples, [])
    when = {"first": 8, "last": 16} if args.small else {}
    callback = json.dumps([{"class_path": "step_profile.Profile", "init_args": when}])
    with tempfile.TemporaryDirectory() as run:
        dietnerf(
            ["fit", *steps.fast, "--run", run, "--trainer.callbacks", callback]
            + ["--trainer.max_steps", "24" if args.small else "800"]
            + ["--trainer.limit_val_batches", "0", "--trainer.enable_progress_bar", "false"]
            + ["--trainer.accelerator", steps.accelerator, "--trainer.devices", "1"]
        )


if __name__ == "__main__":
    main()
