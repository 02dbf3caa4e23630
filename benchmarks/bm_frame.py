"""Rendering a frame of a trained scene, and whether the time goes with the number of pixels.

    python benchmarks/bm_frame.py [--run runs/lego100]

The test cameras of a run at 200x200, and in turns with it at 100, 400, 800 and 1600 pixels a side,
one camera after the other, as `render.py` renders them. Without a run one is trained first with
configs/fast.yaml and configs/dense.yaml (without lego, configs/quickstart.yaml).

The value is seconds a frame at 200x200, the median over cameras. `linearity` is the largest time a
pixel of the larger sizes over that at 200: 1 is a renderer whose time goes with the pixels, and
less says that larger frames are cheaper per pixel. There is no rival.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from common import ROOT, has_lego, median_ratio, report, seconds_in_turns

from dietnerf.runs.checkpoints import find_checkpoint, load_scene
from dietnerf.training.runtime import prepare_process

SIZE = 200
SIZES = (SIZE, 100, 400, 800, 1600)


def train(run: Path, steps: int | None) -> None:
    configs = ("fast", "dense") if has_lego() else ("quickstart",)
    command = [sys.executable, "train.py", "fit", "--run", str(run)]
    command += [word for config in configs for word in ("--config", config)]
    command += ["--trainer.limit_val_batches", "0", "--trainer.accelerator", "cpu"]
    if steps is not None:
        command += ["--trainer.max_steps", str(steps)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)


def frames(
    run: Path, sizes: tuple[int, ...], rounds: int, device: str = "cpu"
) -> list[dict[int, float]]:
    """Seconds of a frame at each size, round by round; every round has its camera."""
    prepare_process()  # as render.py does
    system = load_scene(find_checkpoint(run)).to(device)
    assert system.camera_set is not None
    test, background = system.camera_set.cameras["test"], system.camera_set.background

    def of_camera(index: int) -> dict[int, float]:
        renders = {
            size: lambda size=size: system.render_rays_of(
                test.framed(size, size), index, background
            )
            for size in sizes
        }
        return seconds_in_turns(renders, rounds=1, warmup=0)[0]

    spread = [round(i * len(test) / rounds) % len(test) for i in range(rounds)]
    of_camera(0)
    return [of_camera(index) for index in spread]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="folder of a trained run")
    parser.add_argument("--steps", type=int, help="of training, instead of the config's")
    parser.add_argument("--rounds", type=int, default=6, help="cameras, spread over the test views")
    parser.add_argument("--largest", type=int, default=max(SIZES), help="leave out larger frames")
    args = parser.parse_args()
    sizes = tuple(size for size in SIZES if size <= max(args.largest, SIZE))
    with tempfile.TemporaryDirectory() as folder:
        run = args.run or Path(folder) / "run"
        if args.run is None:
            train(run, args.steps)
        times = frames(run, sizes, args.rounds)
    seconds = {size: median(t[size] for t in times) for size in sizes}
    per_pixel = {s: median_ratio(times, s, SIZE) * (SIZE / s) ** 2 for s in sizes if s > SIZE}
    report(
        "frame",
        seconds[SIZE],
        "s",
        linearity=round(max(per_pixel.values()), 4) if per_pixel else None,
        **{f"frame_{size}_seconds": round(seconds[size], 4) for size in sorted(sizes)},
        **{
            f"pixel_{size}_microseconds": round(1e6 * seconds[size] / size**2, 4)
            for size in sorted(sizes)
        },
        rounds=args.rounds,
        is_own_run=args.run is None,
    )


if __name__ == "__main__":
    main()
