"""Compositing, forward and backward, against nerfacc and the paper authors' arithmetic.

    python benchmarks/bm_composite.py [--device cuda]

16,384 rays of 64 samples, float32, two CPU threads; rgb, opacity and depth come out, gradients of
density and color come back. The candidates take turns, each in a process of its own: once as its
user gets it, once with glibc's allocator tuned for all.
"""

import argparse
from collections.abc import Callable
from statistics import median

import torch
from common import TUNED, alternate, median_ratio, report, serve
from torch import Tensor

from dietnerf.ops import composite
from dietnerf.training.runtime import keep_freed_memory

N_RAYS = 16_384
N_PER_RAY = 64
STEP = 4.0 / N_PER_RAY


class Workload:
    """Random densities and colors on even samples, random gradients of what is rendered."""

    def __init__(self, device: str) -> None:
        draw = torch.Generator().manual_seed(0)
        shape = (N_RAYS, N_PER_RAY)
        self.sigmas = (torch.rand(shape, generator=draw) * 3).to(device).requires_grad_()
        self.rgbs = torch.rand((*shape, 3), generator=draw).to(device).requires_grad_()
        self.ts = (2 + STEP * torch.arange(N_PER_RAY)).expand(shape).contiguous().to(device)
        self.deltas = torch.full(shape, STEP, device=device)
        self.deltas[:, -1] = 1e10
        self.t_ends = self.ts + self.deltas
        self.ray_offsets = torch.arange(0, N_RAYS * N_PER_RAY + 1, N_PER_RAY, device=device)
        self.grads = (
            torch.rand((N_RAYS, 3), generator=draw).to(device),
            torch.rand(N_RAYS, generator=draw).to(device),
            torch.rand(N_RAYS, generator=draw).to(device),
        )

    def step(self, render: Callable[["Workload"], tuple[Tensor, Tensor, Tensor]]) -> None:
        torch.autograd.grad(render(self), (self.sigmas, self.rgbs), self.grads)


def ours(workload: Workload) -> tuple[Tensor, Tensor, Tensor]:
    _, rgb, opacity, depth = composite(
        workload.sigmas.flatten(),
        workload.rgbs.flatten(0, 1),
        workload.deltas.flatten(),
        workload.ts.flatten(),
        workload.ray_offsets,
    )
    return rgb, opacity, depth


def raw2outputs(workload: Workload) -> tuple[Tensor, Tensor, Tensor]:
    """The arithmetic of the paper authors' function; its density is that before the relu."""
    dists = torch.cat([workload.ts.diff(dim=-1), torch.full_like(workload.ts[:, :1], 1e10)], -1)
    alpha = 1.0 - torch.exp(-torch.relu(workload.sigmas) * dists)
    ones = torch.ones((alpha.shape[0], 1), device=alpha.device)
    trans = torch.cumprod(torch.cat([ones, 1.0 - alpha + 1e-10], -1), -1)[:, :-1]
    weights = alpha * trans
    rgb = torch.sum(weights[..., None] * workload.rgbs, -2)
    return rgb, torch.sum(weights, -1), torch.sum(weights * workload.ts, -1)


def nerfacc_dense() -> Callable[[Workload], tuple[Tensor, Tensor, Tensor]] | None:
    try:
        import nerfacc
    except ImportError:
        print("nerfacc is not installed: no baseline. `pip install nerfacc==0.5.3` adds it.")
        return None

    def render(workload: Workload) -> tuple[Tensor, Tensor, Tensor]:
        weights, _, _ = nerfacc.render_weight_from_density(
            workload.ts, workload.t_ends, workload.sigmas
        )
        rgb = nerfacc.accumulate_along_rays(weights, workload.rgbs)
        opacity = nerfacc.accumulate_along_rays(weights, None).squeeze(-1)
        depth = nerfacc.accumulate_along_rays(weights, workload.ts[..., None]).squeeze(-1)
        return rgb, opacity, depth

    return render


def side(name: str, device: str) -> None:
    """One of the candidates, step by step, as its user would run it."""
    workload = Workload(device)
    if name == "ours":
        keep_freed_memory()  # as train.py does
    render = RENDERS[name]()
    assert render is not None
    serve(lambda: workload.step(render))


RENDERS = {"ours": lambda: ours, "raw2outputs": lambda: raw2outputs, "nerfacc": nerfacc_dense}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--side", choices=tuple(RENDERS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(2)
    if args.side:
        side(args.side, args.device)

    workload = Workload(args.device)
    renders = {name: make() for name, make in RENDERS.items()}
    known = {name: render for name, render in renders.items() if render is not None}
    for name, render in known.items():
        for got, expected in zip(render(workload), ours(workload), strict=True):
            # raw2outputs adds 1e-10 to every factor; sums of 64 differ in their last digits.
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5, msg=name)
    times = alternate(
        {
            (name, how): ([__file__, "--side", name, "--device", args.device], env)
            for how, env in (("default", {}), ("tuned", TUNED))
            for name in known
        },
        rounds=args.rounds,
        warmup=3,
    )
    seconds = {key: median(t[key] for t in times) for key in times[0]}
    for (name, how), value in seconds.items():
        print(f"{name:12s} {how:8s} {1e3 * value:8.2f} ms")

    def ratio(rival: str, how: str) -> float | None:
        return median_ratio(times, ("ours", how), (rival, how)) if rival in known else None

    report(
        "composite_forward_backward",
        1e3 * seconds["ours", "default"],
        "ms",
        1e3 * seconds["nerfacc", "default"] if "nerfacc" in known else None,
        ratio=ratio("nerfacc", "default"),
        device=args.device,
        n_rays=N_RAYS,
        n_samples=N_RAYS * N_PER_RAY,
        ratio_raw2outputs=ratio("raw2outputs", "default"),
        ratio_tuned=ratio("nerfacc", "tuned"),
        ratio_raw2outputs_tuned=ratio("raw2outputs", "tuned"),
    )


if __name__ == "__main__":
    main()
