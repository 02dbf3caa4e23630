"""What two devices lose by exchanging gradients: two DDP ranks against two runs on their own.

    python benchmarks/bm_ddp.py [--rounds 3] [--steps 600] [--strategy ddp]

All processes have one thread, the fast field of configs/quickstart.yaml and a whole batch each
(`--data.batch_per_device true`); the ranks exchange all gradients in every step over gloo. So both
sides do the same work, and only the exchange, and waiting for each other, is ours. In every round
the ranks run first and then, side by side, as many runs of their own.

The value is training samples per second of the two ranks; `ratio` is their part of what the runs on
their own reach, larger is better. `bytes_per_step` is what went over the loopback device.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import torch
from common import ROOT, report

SAMPLES = 32768  # of configs/quickstart.yaml, in a step of each process


def start(run: Path, steps: int, *more: str) -> subprocess.Popen[bytes]:
    options = [
        *("--config", "quickstart", "--run", str(run), "--data.batch_per_device", "true"),
        *("--trainer.max_steps", str(steps), "--trainer.val_check_interval", str(steps)),
        *("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"),
    ]
    return subprocess.Popen(
        [sys.executable, "train.py", "fit", *options, *more],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=sys.stderr,
    )


def seconds_of(run: Path) -> float:
    """What the steps of a finished run took."""
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    return float(checkpoint["dietnerf"]["history"]["seconds"])


def loopback_bytes() -> int:
    lines = Path("/proc/net/dev").read_text().splitlines()
    counts = next(line.split(":")[1].split() for line in lines if line.strip().startswith("lo:"))
    return int(counts[8])  # sent


def finish(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.wait() != 0:
            sys.exit("a run of the benchmark failed; see above")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--strategy", default="ddp")
    args = parser.parse_args()
    ratios, rates, sent = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(args.rounds):
            together, apart = Path(folder) / f"together{i}", Path(folder) / f"apart{i}"
            before = loopback_bytes()
            ranks = ["--trainer.devices", "2", "--trainer.strategy", args.strategy]
            finish([start(together, args.steps, *ranks)])
            sent.append((loopback_bytes() - before) / args.steps)
            finish([start(apart / name, args.steps) for name in "ab"])
            work = args.steps * SAMPLES
            rates.append(2 * work / seconds_of(together))
            ratios.append(rates[-1] / sum(work / seconds_of(apart / name) for name in "ab"))
    report(
        "ddp",
        median(rates),
        "samples/s",
        median(rates) / median(ratios),
        ratio=round(median(ratios), 3),
        strategy=args.strategy,
        bytes_per_step=round(median(sent)),
    )


if __name__ == "__main__":
    main()
