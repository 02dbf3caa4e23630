"""One optimization step at the paper's setting, as a user gets it, against the authors' arithmetic.

    python benchmarks/bm_step.py

1,024 rays, 64 + 128 samples, two 8x256 MLPs, fp32, two threads. Both sides take turns, step by
step, each in a process of its own: once as they come, once with glibc's allocator tuned for both.
"""

import sys
import tempfile
import time
from statistics import median
from typing import Any

import authors
import pytorch_lightning as pl
import torch
from common import TUNED, alternate, answer, median_ratio, report, serve, wait_for_turn
from torch.nn import functional as F


class TakeTurns(pl.Callback):
    """Waits for a line before each step, and answers with the seconds that the step took."""

    def on_train_batch_start(self, *args: Any) -> None:
        wait_for_turn()
        self.started = time.perf_counter()

    def on_train_batch_end(self, *args: Any) -> None:
        answer(time.perf_counter() - self.started)


def our_steps() -> None:
    """`train.py fit` with the config of the paper, on the project's own scene."""
    from dietnerf.training.cli import main

    with tempfile.TemporaryDirectory() as run:
        main(
            ["fit", "--config", "nerf", "--run", run]
            + ["--data.reader", "dietnerf.data.Procedural"]
            + ["--trainer.callbacks", "[{class_path: bm_step.TakeTurns}]"]
            + ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
        )


def authors_steps() -> None:
    """The same model and losses as the authors wrote them."""
    networks = torch.nn.ModuleList([authors.Network(), authors.Network()])
    optimizer = torch.optim.Adam(networks.parameters(), lr=5e-4)
    rays_o = F.normalize(torch.randn(1024, 3), dim=-1) * 4
    rays_d = -rays_o / 4 + 0.1 * torch.randn(1024, 3)
    target = torch.rand(1024, 3)

    def step() -> None:
        u, u_fine = torch.rand(1024, 64), torch.rand(1024, 128)
        coarse, fine = authors.render(*networks, rays_o, rays_d, u, u_fine)
        loss = F.mse_loss(fine, target) + F.mse_loss(coarse, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    serve(step)


def main() -> None:
    times = alternate(
        {
            (side, how): ([__file__, side], env)
            for how, env in (("default", {}), ("tuned", TUNED))
            for side in ("ours", "authors")
        },
        rounds=3,
    )
    seconds = {key: median(t[key] for t in times) for key in times[0]}
    for (side, how), value in seconds.items():
        print(f"{side:8s} {how:8s} {value:8.2f} s")
    report(
        "step",
        seconds["ours", "default"],
        "s",
        seconds["authors", "default"],
        ratio=median_ratio(times, ("ours", "default"), ("authors", "default")),
        ratio_tuned=median_ratio(times, ("ours", "tuned"), ("authors", "tuned")),
        value_tuned=round(seconds["ours", "tuned"], 4),
        baseline_tuned=round(seconds["authors", "tuned"], 4),
    )


if __name__ == "__main__":
    torch.set_num_threads(2)
    sides = {"ours": our_steps, "authors": authors_steps}
    sides[sys.argv[1]]() if len(sys.argv) > 1 else main()
