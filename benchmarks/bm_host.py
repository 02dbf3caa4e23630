"""What a graphed training step costs the host: time in which it launches no work on the GPU.

    python benchmarks/bm_host.py [--steps 2000] [--rounds 3]

`fit --model.use_cuda_graphs true` on the CPU, with graphs that are computed once and return the
same ever after, as launching a CUDA graph takes microseconds: what is left is Lightning, hooks,
seeds, logging every 50 steps, and the learning rates. Ranges of steps by turns with steps taken
one by one. The value is milliseconds of a step of a range.
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

from dietnerf.training import cuda_graphs, steps
from dietnerf.training.cli import main as dietnerf

SMALL = [
    *("--config", "quickstart", "--data.reader.init_args.resolution", "16"),
    *("--data.reader.init_args.n_test", "1", "--data.rays_per_step", "16"),
    *("--data.samples_per_step", "512", "--model.field.init_args.log2_table_size", "8"),
    *("--model.field.init_args.n_levels", "2", "--model.sampler.init_args.resolution", "16"),
    *("--model.sampler.init_args.n_steps", "32", "--trainer.enable_progress_bar", "false"),
]
RANGES = {"ranges": steps.MOST_STEPS, "one by one": 1}


def replay(graph: cuda_graphs.GraphedCallable) -> Sequence[Tensor]:
    if not graph._results:
        graph._results = graph._function()
    return graph._results


def seconds_per_step(n_steps: int, most: int) -> float:
    steps.MOST_STEPS = most
    options = ("trainer.max_steps", "trainer.val_check_interval", "save_every")
    limits = [word for name in options for word in (f"--{name}", str(n_steps))]
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(sys.stderr):
            dietnerf(["fit", *SMALL, *limits, "--model.use_cuda_graphs", "true", "--run", folder])
        saved = torch.load(Path(folder) / "checkpoints/last.ckpt", weights_only=True)
    seconds: float = saved["dietnerf"]["history"]["seconds"]
    return seconds / n_steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    cuda_graphs.GraphedCallable.__call__ = replay  # type: ignore[method-assign]
    times = [
        {name: seconds_per_step(args.steps, most) for name, most in RANGES.items()}
        for _ in range(args.rounds)
    ]
    value, rival = (1e3 * median(t[name] for t in times) for name in RANGES)
    ratio = median_ratio(times, "ranges", "one by one")
    report("host", value, "ms", rival, ratio=ratio, steps=args.steps, rounds=args.rounds)


if __name__ == "__main__":
    main()
