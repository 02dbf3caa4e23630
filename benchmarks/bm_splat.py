"""Gaussians beside the hash grid on one capture: PSNR of the held-out views by CPU seconds.

    python benchmarks/bm_splat.py real/tumbler --downscale 2 --steps 1500 --grid-steps 1200 6000

Each row is a training of its own, and then `test`: of Gaussians by `photos.yaml` and
`gaussians.yaml`, of a hash grid by the configs of --grid. CPU seconds are those of all processes
and threads of `fit`, start-up included.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from common import ROOT, report

GAUSSIANS = ("photos", "gaussians")


def cpu_seconds() -> float:
    """Of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def trained(capture: list[str], options: list[str], run: Path) -> dict[str, float]:
    """CPU seconds of a training, and the scores of its test views."""
    command = [sys.executable, "-m", "dietnerf"]
    start = cpu_seconds()
    fit = [*command, "fit", *capture, *options, "--run", str(run)]
    subprocess.run(fit, cwd=ROOT, check=True, stdout=sys.stderr)
    seconds = cpu_seconds() - start
    test = [*command, "test", "--run", str(run)]
    subprocess.run(test, cwd=ROOT, check=True, stdout=sys.stderr)
    scores = json.loads((run / "metrics.json").read_text())["mean"]
    return {"seconds": round(seconds), **{n: round(scores[n], 4) for n in ("psnr", "ssim_gauss11")}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("scene", help="a capture, as for `fit --scene`")
    add("--downscale", default="auto", help="as for `fit`")
    add("--steps", type=int, nargs="*", default=[1500, 3000], help="of Gaussians")
    add("--grid-steps", type=int, nargs="*", default=[1200, 3000], help="of the hash grid")
    add("--grid", nargs="*", default=["photos", "points"], help="configs of the hash grid")
    add("--seed", type=int, default=0)
    args = parser.parse_args()
    capture = ["--scene", args.scene, "--downscale", args.downscale, "--seed", str(args.seed)]
    plans = [("gaussians", GAUSSIANS, n) for n in args.steps]
    plans += [("hash grid", args.grid, n) for n in args.grid_steps]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for i, (method, configs, n_steps) in enumerate(plans):
            options = [word for name in configs for word in ("--config", name)]
            options += ["--steps", str(n_steps)]
            found = trained(capture, options, Path(folder) / str(i))
            rows.append({"method": method, "steps": n_steps, **found})
            print(
                f"{method:9}  {n_steps:6} steps  {found['seconds']:5} CPU s  "
                f"{found['psnr']:.2f} dB  SSIM {found['ssim_gauss11']:.3f}",
                file=sys.stderr,
                flush=True,
            )
    report("splat", max(row["psnr"] for row in rows), "dB", rows=rows)


if __name__ == "__main__":
    main()
