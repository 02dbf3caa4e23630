"""Memory over a long time: one long run with many validations, then many short ones.

    python benchmarks/soak.py [--minutes 60] [--accelerator cpu]

Half of the time goes to a single `fit` with configs/quickstart.yaml at 64x64, which validates,
draws pictures and saves a checkpoint every 25 steps; the rest to rounds of fit, test and render, at
least twelve, all in this process. Host memory (and what a GPU has allocated) is noted at each
validation and after each round. The value is by how much the last third of each holds more than the
third before it, in MB, at the median; above 16 MB it counts as growing, and the exit status says
so.
"""

import argparse
import contextlib
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytorch_lightning as pl
import torch
from common import ROOT, report

from dietnerf.export.render import main as render
from dietnerf.training.cli import main as dietnerf

ALLOWED_MB = 16.0
LEAST_ROUNDS = 12  # in the first few, libraries still fill their caches
SMALL = [
    *("--config", "quickstart"),
    *("--data.reader.init_args.resolution", "64"),
    *("--data.reader.init_args.n_test", "2"),
    *("--data.samples_per_step", "4096"),
    *("--trainer.val_check_interval", "25"),
    *("--trainer.log_every_n_steps", "5"),
    *("--trainer.enable_progress_bar", "false"),
    *("--save_every", "25"),
]


def held_mb(device: str) -> tuple[float, float]:
    """What the process holds of the host's memory, and tensors of a GPU's."""
    gc.collect()
    on_gpu = torch.cuda.memory_allocated() if device == "cuda" else 0
    return psutil.Process().memory_info().rss / 2**20, on_gpu / 2**20


class Validations(pl.Callback):
    """Notes the memory at each validation, and ends the run when its time is over.

    Args:
        seconds: how long it may take.
        device: cpu or cuda.
    """

    found: ClassVar[list[tuple[float, float]]] = []

    def __init__(self, seconds: float, device: str) -> None:
        self.end = time.monotonic() + seconds
        self.device = device

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.found.append(held_mb(self.device))
        remove_all_but_two(Path(trainer.default_root_dir) / "checkpoints")
        trainer.should_stop = time.monotonic() > self.end


def remove_all_but_two(folder: Path) -> None:
    """Checkpoints that are kept would fill the disk."""
    for path in sorted(folder.glob("[0-9]*.ckpt"))[:-2]:
        path.unlink()


def rounds(folder: Path, words: list[str], seconds: float) -> Iterator[None]:
    """Trainings with validations, tests and films, one after the other."""
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end or number < LEAST_ROUNDS:
        run = ["--run", str(folder / f"round{number % 2}")]
        for path in sorted(Path(run[1]).rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        dietnerf(["fit", *SMALL, *words, *run, "--trainer.max_steps", "50"])
        dietnerf(["test", *words, *run, "--trainer.enable_progress_bar", "false"])
        render([run[1], "--frames", "4", "--size", "48", "48"])
        number += 1
        yield


def growth(held: list[float]) -> float:
    """From the second third to the last, MB at the median."""
    third = len(held) // 3
    before, after = held[-2 * third : -third], held[-third:]
    return round(statistics.median(after) - statistics.median(before), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--accelerator", default="cpu", choices=("cpu", "cuda"))
    args = parser.parse_args()
    os.chdir(ROOT)
    seconds, device = 30 * args.minutes, args.accelerator
    words = ["--trainer.accelerator", device, "--trainer.devices", "1"]
    watch = {"class_path": "soak.Validations", "init_args": {"seconds": seconds, "device": device}}
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        run = ["--run", str(Path(folder) / "long"), "--trainer.max_steps", "1000000"]
        dietnerf(["fit", *SMALL, *words, *run, "--trainer.callbacks", f"[{watch}]"])
        import soak  # the module that the callback's class came from, not this script

        held = {"validation": soak.Validations.found}
        held["round"] = [held_mb(device) for _ in rounds(Path(folder), words, seconds)]
    for name, pairs in held.items():
        host, gpu = ([pair[i] for pair in pairs] for i in range(2))
        found |= {f"{name}s": len(host), f"{name}_growth_mb": growth(host)}
        found |= {f"{name}_gpu_growth_mb": growth(gpu), f"{name}_mb": [host[0], host[-1]]}
    largest = max(value for key, value in found.items() if key.endswith("growth_mb"))
    report("soak", largest, "MB", **found)
    if largest > ALLOWED_MB:
        sys.exit(f"memory grows by {largest} MB; see the figures above")


if __name__ == "__main__":
    main()
