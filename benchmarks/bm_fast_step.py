"""The fast field in training: samples per second in `fit`, and what `fit` costs beside the step.

    python benchmarks/bm_fast_step.py [--warmup 600] [--rounds 6] [--window 200]

`fit` with configs/fast.yaml (eight views of lego; without the scene, configs/quickstart.yaml) on
the CPU. After a warm-up, in which the occupancy grid settles, windows take turns within the run: so
many steps of `fit`, from the end of one batch to the end of the next with everything that Lightning
does between (drawing rays, hooks, logging, progress bar); then as many bare steps of the same
system: grid, rendering, loss, backward, optimizer, and nothing else. Their rays are drawn before,
as many as `fit` came to, so that both sides march as many samples. Validation and checkpoints,
which are not part of a step, are switched off.

The value is samples with a weight above zero per second of `fit`, so neither marching through
emptiness nor culled samples count. `overhead` is the rival's part: fit / bare - 1 of a step's time,
the median over rounds. Counting the samples costs both sides alike, some microseconds a step. The
process's peak memory before and after the windows should be the same.
"""

import argparse
import contextlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch
from common import ROOT, has_lego, report, synchronize
from torch import Tensor

from dietnerf.data.ray_sampling import RayBatch
from dietnerf.losses import RayLossInput
from dietnerf.randomness import step_generator
from dietnerf.renderer import render_rays
from dietnerf.training.cli import main as dietnerf
from dietnerf.training.cuda_graphs import capacity_for
from dietnerf.training.system import DietNeRF

RESULTS = "windows.json"
FIRST_BARE = 8_000_000  # number of the first batch of bare steps: rays that `fit` does not draw


class Windows(pl.Callback):
    """Lets `fit` take a window of steps, takes as many bare ones, and so on until the run ends.

    Args:
        warmup: steps before the first window.
        window: steps in each, or as many as end with the range of the last of them.
    """

    takes_ranges = True

    def __init__(self, warmup: int, window: int) -> None:
        self.warmup = warmup
        self.window = window
        self.n_rays: list[int] = []
        self.sizes: list[int] = []  # of the steps of a range
        # To be read at the end: that would wait for a GPU.
        self.n_marched: list[int | Tensor] = []
        self.n_counted: list[Tensor] = []
        self.rounds: list[dict[str, float]] = []
        self.memory, self.started = 0.0, 0.0  # MB; seconds
        self.bare_index = FIRST_BARE

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DietNeRF)
        pl_module.losses[0].register_forward_hook(self._count)
        take_step = pl_module.take_step

        def noting(step: int, is_last: bool) -> None:
            self.sizes.append(trainer.datamodule.rays_of(step, 1)[0])  # type: ignore[attr-defined]
            take_step(step, is_last)

        pl_module.take_step = noting  # type: ignore[method-assign]
        self.memory, self.started = peak_memory(), time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: range,
        batch_idx: int,
    ) -> None:
        if batch.start >= self.warmup:
            self.n_rays += self.sizes
            self.sizes.clear()
            if len(self.n_rays) < self.window:
                return
            synchronize()
            self._end_round(trainer, pl_module, time.perf_counter() - self.started)
        else:
            self.memory = peak_memory()
        self.n_rays, self.n_marched, self.n_counted = [], [], []
        self.sizes.clear()
        synchronize()
        self.started = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        found = {"rounds": self.rounds, "memory": [self.memory, peak_memory()]}
        (Path(trainer.default_root_dir) / RESULTS).write_text(json.dumps(found))

    def _count(self, loss: Any, args: tuple[RayLossInput], value: Tensor) -> None:
        rendering = args[0].rendering
        self.n_marched.append(rendering.samples.n_sampled)
        self.n_counted.append(rendering.weights.detach().count_nonzero())

    def _end_round(self, trainer: Any, system: Any, fit_seconds: float) -> None:
        data = trainer.datamodule
        source = data.ray_source(system.device)
        if system.use_cuda_graphs:  # which calls no hooks once it is captured
            self.n_marched = [n_rays * system.sampler.n_samples for n_rays in self.n_rays]
            self.n_counted = []
        n, n_steps = len(self.n_marched), len(self.n_rays)  # those of `fit` come first
        indices = range(self.bare_index, self.bare_index + n_steps)
        self.bare_index += n_steps
        n_rays, fraction = data.rays_of(self.bare_index, 1)
        of_rays = [step_generator("rays", index, 0, source.storage) for index in indices]
        batches = [source.draw(n_rays, generator, fraction) for generator in of_rays]
        # Without room of a fixed size a GPU would be waited for in each step.
        graphs, sampler = system.use_cuda_graphs, system.sampler
        capacity = capacity_for(data.samples_per_step, sampler, 1) if graphs else None
        synchronize()
        started = time.perf_counter()
        for index, batch in zip(indices, batches, strict=True):
            bare_step(system, trainer, index, batch, capacity)
        synchronize()
        bare_seconds = time.perf_counter() - started
        self.n_marched = [int(number) for number in self.n_marched]
        data.adapt(len(batches[-1]), self.n_marched[-1])
        n_counted = [int(count) for count in self.n_counted]
        self.rounds.append(
            {
                "steps": n_steps,
                "fit_seconds": fit_seconds,
                "bare_seconds": bare_seconds,
                "rays": sum(self.n_rays),
                "marched": sum(self.n_marched[:n]),
                "counted": sum(n_counted[:n]),
                "bare_marched": sum(self.n_marched[n:]),
                "bare_counted": sum(n_counted[n:]),
            }
        )


def bare_step(
    system: DietNeRF, trainer: Any, step: int, batch: RayBatch, capacity: int | None
) -> None:
    """What a loop of one's own would do, in the trainer's precision."""
    draws = (step_generator(purpose, step, 0, system.device) for purpose in ("sampler", "samples"))
    precision, optimizer = trainer.precision_plugin, trainer.optimizers[0]
    scaler = getattr(precision, "scaler", None)
    with precision.forward_context():
        system.sampler.update(step, system.field, next(draws))
        rendering, coarse = render_rays(
            batch.rays, system.field, system.sampler, batch.background, next(draws), capacity
        )
        made = RayLossInput(step, batch.rays, batch.rgb, batch.background, rendering, coarse)
        loss = torch.stack([loss.weight * loss(made) for loss in system.losses]).sum()
    optimizer.zero_grad()
    if scaler is None:
        loss.backward()
        optimizer.step()
    else:
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()


def peak_memory() -> float:
    """The most that this process ever held, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(
    words: Sequence[str],
    run: Path,
    warmup: int,
    window: int,
    rounds: int,
    accelerator: str = "cpu",
) -> dict[str, Any]:
    """What `Windows` finds in a run that `train.py fit` takes with these words."""
    callback = {
        "class_path": "bm_fast_step.Windows",
        "init_args": {"warmup": warmup, "window": window},
    }
    with contextlib.redirect_stdout(sys.stderr):
        dietnerf(
            ["fit", *words, "--run", str(run)]
            + ["--trainer.callbacks", json.dumps([callback])]
            + ["--trainer.max_steps", str(warmup + rounds * window)]
            + ["--trainer.limit_val_batches", "0"]
            + ["--trainer.accelerator", accelerator, "--trainer.devices", "1"]
        )
    return json.loads((run / RESULTS).read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--warmup", type=int, default=600, help="steps before the first window")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--window", type=int, default=200, help="steps; a multiple of 8 and 50")
    args = parser.parse_args()
    os.chdir(ROOT)  # where data/ is
    config = "fast" if has_lego() else "quickstart"
    words = ["--config", config, "--trainer.enable_checkpointing", "false"]
    with tempfile.TemporaryDirectory() as run:
        found = measure(words, Path(run), args.warmup, args.window, args.rounds)
    rounds = found["rounds"]

    def rate(what: str, seconds: str = "fit_seconds") -> float:
        return median(r[what] / r[seconds] for r in rounds)

    def milliseconds(seconds: str) -> float:
        return round(1e3 * median(r[seconds] / r["steps"] for r in rounds), 3)

    before, after = found["memory"]
    report(
        "fast_step",
        rate("counted"),
        "samples/s",
        config=config,
        overhead=round(median(r["fit_seconds"] / r["bare_seconds"] for r in rounds) - 1, 4),
        bare_samples_per_second=round(rate("bare_counted", "bare_seconds")),
        marched_per_second=round(rate("marched")),
        rays_per_second=round(rate("rays")),
        step_ms=milliseconds("fit_seconds"),
        bare_step_ms=milliseconds("bare_seconds"),
        samples_per_step=round(median(r["marched"] / r["steps"] for r in rounds)),
        bare_samples_per_step=round(median(r["bare_marched"] / r["steps"] for r in rounds)),
        peak_memory_mb=round(before, 1),
        peak_memory_after_mb=round(after, 1),
    )


if __name__ == "__main__":
    main()
