"""How the time of a step of the fast field grows, in one picture of five panels.

    python benchmarks/scaling.py [--out docs/images/scaling.png] [--rounds 15]

A step marches, renders, differentiates the colors' error and moves the parameters; the grid is a
ball, so nothing is trained before, and is not updated. Each panel changes one thing of a step with
2,048 rays, some 32,000 samples, 8 levels and 2^15 entries: samples (with the rays), rays (with
longer steps along them, so that the samples stay), levels, entries a level, threads. Within a panel
all values take turns; a point is the median over rounds. The dotted line is the ideal: time in
proportion to samples and to levels (through the last point: above it is what every step costs
besides), untouched by rays and by the table's size, in inverse proportion to threads (through the
first point).

The JSON line has the slope of each panel in the logarithms, and the milliseconds behind it; `value`
is the slope over samples. There is no rival. The picture needs matplotlib, which nothing else here
does.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from ball import hash_grid, inward_rays, occupancy
from common import ROOT, device_name, report, seconds_in_turns
from torch.nn import functional as F

from dietnerf.renderer import render_rays
from dietnerf.training.adam import SkippingAdam
from dietnerf.training.runtime import keep_freed_memory

N_RAYS = 2048
N_STEPS = 384


class FastStep:
    """A step of the fast field, and how many samples it has."""

    def __init__(
        self,
        n_rays: int = N_RAYS,
        n_steps: int = N_STEPS,
        n_levels: int = 8,
        log2_table_size: int = 15,
        n_threads: int | None = None,
    ) -> None:
        self.field, self.sampler = hash_grid(n_levels, log2_table_size), occupancy(n_steps)
        self.rays = inward_rays(n_rays)
        self.target = torch.rand(n_rays, 3)
        # So slow that the ball stays as thin as it is.
        self.optimizer = SkippingAdam(self.field.parameters(), lr=1e-8)
        self.n_threads = n_threads or torch.get_num_threads()
        self.n_samples = len(self.sampler.sample(self.rays, self.field, None)[0])

    def __call__(self) -> None:
        rendering, _ = render_rays(
            self.rays, self.field, self.sampler, torch.ones(3), torch.Generator().manual_seed(0)
        )
        self.optimizer.zero_grad()
        F.mse_loss(rendering.rgb, self.target).backward()
        self.optimizer.step()


@dataclass(frozen=True)
class Panel:
    """One thing that is changed, and the slope that its time should have."""

    name: str
    label: str
    values: tuple[int, ...]
    make: Callable[[int], FastStep]
    ideal: float


def panels(n_threads: int) -> list[Panel]:
    halves = tuple(n for n in (1, 2, 4, 8, 16, 32, 64) if n <= n_threads)
    return [
        Panel(
            "samples",
            "samples a step",
            (128, 512, 2048, 8192, 32768),
            lambda n: FastStep(n_rays=n),
            1,
        ),
        Panel(
            "rays",
            "rays, at as many samples",
            (128, 512, 2048, 8192, 32768),
            lambda n: FastStep(n_rays=n, n_steps=N_STEPS * N_RAYS // n),
            0,
        ),
        Panel("levels", "levels", (1, 2, 4, 8, 16), lambda n: FastStep(n_levels=n), 1),
        Panel(
            "table",
            "entries a level",
            tuple(2**n for n in range(11, 21, 2)),
            lambda n: FastStep(log2_table_size=round(math.log2(n))),
            0,
        ),
        Panel("threads", "threads", halves, lambda n: FastStep(n_threads=n), -1),
    ]


Line = tuple[list[int], list[float]]  # what was changed, and milliseconds


def measure(panel: Panel, rounds: int, n_threads: int) -> Line:
    steps = {value: panel.make(value) for value in panel.values}

    def with_its_threads(step: FastStep) -> Callable[[], None]:
        def run() -> None:
            torch.set_num_threads(step.n_threads)
            step()

        return run

    runs = {value: with_its_threads(step) for value, step in steps.items()}
    times = seconds_in_turns(runs, rounds, warmup=2)
    torch.set_num_threads(n_threads)
    at = [step.n_samples if panel.name == "samples" else value for value, step in steps.items()]
    return at, [1e3 * median(t[value] for t in times) for value in steps]


def slope(line: Line) -> float | None:
    """Of the logarithms, by least squares; of a single point there is none."""
    x, y = (torch.tensor(values, dtype=torch.float64).log2() for values in line)
    x, y = x - x.mean(), y - y.mean()
    return round(float((x * y).sum() / x.square().sum()), 3) if len(x) > 1 else None


def draw(lines: list[tuple[Panel, Line]], out: Path) -> None:
    try:
        import matplotlib
    except ImportError:
        print("matplotlib is not installed: no picture. `pip install matplotlib` adds it.")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(lines), figsize=(3.2 * len(lines), 3.1), sharey=True)
    for axis, (panel, (at, milliseconds)) in zip(axes, lines, strict=True):
        end = -1 if panel.ideal > 0 else 0
        ideal = [milliseconds[end] * (x / at[end]) ** panel.ideal for x in at]
        axis.plot(at, ideal, ":", color="0.5", label=f"ideal, slope {panel.ideal}")
        axis.plot(
            at, milliseconds, "o-", color="C0", label=f"measured, {slope((at, milliseconds))}"
        )
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xlabel(panel.label)
        axis.grid(color="0.92")
        axis.legend(fontsize="small", frameon=False)
    axes[0].set_ylabel("milliseconds a step")
    figure.suptitle(f"The fast field on {device_name()}, {torch.get_num_threads()} threads")
    figure.tight_layout()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs/images/scaling.png")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # as train.py does
    torch.manual_seed(0)
    lines = [(p, measure(p, args.rounds, args.threads)) for p in panels(args.threads)]
    draw(lines, args.out)
    slopes = {panel.name: slope(line) for panel, line in lines}
    report(
        "scaling",
        slopes["samples"] or 0.0,
        "slope",
        slopes=slopes,
        milliseconds={
            panel.name: {x: round(y, 2) for x, y in zip(*line, strict=True)}
            for panel, line in lines
        },
    )


if __name__ == "__main__":
    main()
