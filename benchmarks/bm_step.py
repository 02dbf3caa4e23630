"""One optimisation step at the paper's setting, as a user gets it, against the authors' arithmetic.

    python benchmarks/bm_step.py

1,024 rays, 64 + 128 samples, two 8x256 MLPs, fp32, two threads. Both sides take turns, step by
step, each in a process of its own: once as they come, once with glibc's allocator tuned for both.
"""

import os
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import Any

import authors
import pytorch_lightning as pl
import torch
from common import report
from torch.nn import functional as F

ROUNDS = 3
TUNED = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=17179869184"
    ":glibc.malloc.trim_threshold=34359738368"
)


class TakeTurns(pl.Callback):
    """Waits for a line before each step, and answers with the seconds that the step took."""

    def on_train_batch_start(self, *args: Any) -> None:
        wait_for_turn()
        self.started = time.perf_counter()

    def on_train_batch_end(self, *args: Any) -> None:
        answer(time.perf_counter() - self.started)


def wait_for_turn() -> None:
    if not sys.stdin.readline():
        sys.exit()


def answer(seconds: float) -> None:
    print(f"seconds {seconds}", file=sys.stderr, flush=True)


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
    while True:
        wait_for_turn()
        started = time.perf_counter()
        u, u_fine = torch.rand(1024, 64), torch.rand(1024, 128)
        coarse, fine = authors.render(*networks, rays_o, rays_d, u, u_fine)
        loss = F.mse_loss(fine, target) + F.mse_loss(coarse, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        answer(time.perf_counter() - started)


def start(side: str, tunables: str) -> subprocess.Popen[str]:
    env = os.environ | {"GLIBC_TUNABLES": tunables, "OMP_WAIT_POLICY": "passive"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, __file__, side], stdin=pipe, stderr=pipe, text=True, env=env
    )


def step(worker: subprocess.Popen[str]) -> float:
    assert worker.stdin is not None and worker.stderr is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()
    for line in worker.stderr:
        if line.startswith("seconds "):
            return float(line.split()[1])
    raise RuntimeError("a side of the benchmark ended early")


def main() -> None:
    workers = {
        (side, how): start(side, tunables)
        for how, tunables in (("default", ""), ("tuned", TUNED))
        for side in ("ours", "authors")
    }
    rounds = [{key: step(worker) for key, worker in workers.items()} for _ in range(ROUNDS + 1)]
    for worker in workers.values():
        worker.kill()
    seconds = {key: median(found[key] for found in rounds[1:]) for key in workers}
    for (side, how), value in seconds.items():
        print(f"{side:8s} {how:8s} {value:8.2f} s")
    report(
        "step",
        seconds["ours", "default"],
        "s",
        seconds["authors", "default"],
        ratio_tuned=round(seconds["ours", "tuned"] / seconds["authors", "tuned"], 4),
        value_tuned=round(seconds["ours", "tuned"], 4),
        baseline_tuned=round(seconds["authors", "tuned"], 4),
    )


if __name__ == "__main__":
    torch.set_num_threads(2)
    sides = {"ours": our_steps, "authors": authors_steps}
    sides[sys.argv[1]]() if len(sys.argv) > 1 else main()
