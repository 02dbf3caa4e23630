"""Each kernel of the fast field against its PyTorch reference, and against what the machine can do.

    python benchmarks/bm_kernels.py [--only march_rays] [--rounds 20] [--threads 2]

The shapes are those of a training step with configs/fast.yaml: 2,048 rays, some 32,000 samples, 8
levels of 4 features in 2^15 entries, float32. Every kernel takes turns in one process with the
function `reference` of its module (backwards through autograd), a copy of a large tensor and a
matrix product, so that each of them finds the caches as the others left them, which is how a step
finds them. `composite` has its own file.

One JSON line for each kernel: `ratio` is kernel / reference (the bar is 0.25), the median over
rounds. `bandwidth_share` and `arithmetic_share` say how near a kernel comes to the copy's bytes per
second and the product's operations per second, of bytes that must come from or go to memory once
and of operations that the formula needs, counted in op_cases.py. What stays far from both is bound
by neither: for the hash table that is the latency of its gathers, which hit the caches and are not
counted as bytes. No sample is culled here, which spares the kernel nothing and the reference
nothing either.
"""

import argparse
from statistics import median

import torch
from common import median_ratio, report, seconds_in_turns
from op_cases import (
    Kernel,
    Workload,
    adam_step_kernels,
    error,
    hash_encode_kernels,
    march_rays_kernels,
    render_hash_grid_kernels,
)

from dietnerf.training.runtime import keep_freed_memory

N_RAYS = 2048
COPIED = 2**25  # numbers: 128 MB, far more than a cache holds
PRODUCT = 1024  # rows and columns


def check(kernel: Kernel) -> None:
    # Sums in another order; a ReLU may open in one and not in the other.
    off = error(kernel.run(), kernel.reference())
    assert off < 5e-3, f"{kernel.name}: off by {off:.1e} of its norm"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="kernels with this in their name")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # as train.py does
    workload = Workload(N_RAYS)
    source, target = torch.ones(COPIED), torch.ones(COPIED)
    left, right = torch.rand(2, PRODUCT, PRODUCT)
    makers = (hash_encode_kernels, march_rays_kernels, render_hash_grid_kernels, adam_step_kernels)
    for kernel in (kernel for make in makers for kernel in make(workload)):
        if args.only not in kernel.name:
            continue
        check(kernel)
        times = seconds_in_turns(
            {
                "kernel": kernel.run,
                "reference": kernel.reference,
                "copy": lambda: target.copy_(source),
                "product": lambda: left @ right,
            },
            rounds=args.rounds,
            warmup=2,
        )
        seconds = {name: median(t[name] for t in times) for name in times[0]}
        n_flops = kernel.n_flops + kernel.n_network_flops
        bandwidth = 8 * COPIED / seconds["copy"]  # each number is read and written
        arithmetic = 2 * PRODUCT**3 / seconds["product"]
        report(
            kernel.name,
            1e3 * seconds["kernel"],
            "ms",
            1e3 * seconds["reference"],
            ratio=median_ratio(times, "kernel", "reference"),
            bandwidth_share=round(kernel.n_bytes / seconds["kernel"] / bandwidth, 4),
            arithmetic_share=round(n_flops / seconds["kernel"] / arithmetic, 4),
            copy_gb_per_second=round(bandwidth / 1e9, 2),
            product_gflops=round(arithmetic / 1e9, 1),
            mbytes=round(kernel.n_bytes / 1e6, 3),
            mflops=round(n_flops / 1e6, 3),
            n_rays=N_RAYS,
            n_samples=workload.n_samples,
        )


if __name__ == "__main__":
    main()
