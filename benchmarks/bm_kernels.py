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
and of operations that the formula needs, counted in the comments. What stays far from both is bound
by neither: for the hash table that is the latency of its gathers, which hit the caches and are not
counted as bytes. No sample is culled here, which spares the kernel nothing and the reference
nothing either.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from ball import hash_grid, inward_rays, occupancy
from common import median_ratio, report, seconds_in_turns
from torch import Tensor

from dietnerf.ops import adam_step, hash_encode, march_rays, render_hash_grid
from dietnerf.ops._hash_grid import unit_cube
from dietnerf.ops.adam_step import reference as adam_step_reference
from dietnerf.ops.hash_encode import reference as hash_encode_reference
from dietnerf.ops.march_rays import reference as march_rays_reference
from dietnerf.ops.render_hash_grid import reference as render_hash_grid_reference
from dietnerf.training.process import keep_freed_memory

N_RAYS = 2048
TOUCHED = 0.05  # share of the table's entries that a step sees
LINE = 64  # bytes that memory moves at a time
COPIED = 2**25  # numbers: 128 MB, far more than a cache holds
PRODUCT = 1024  # rows and columns

Run = Callable[[], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Kernel:
    """A kernel and its reference, which return the same, and what one call costs at least."""

    name: str
    run: Run
    reference: Run
    n_bytes: float
    n_flops: float


class Scene:
    """A ball, marched through once; the table as after some training."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.field, self.sampler = hash_grid(), occupancy()
        with torch.no_grad():
            self.field.table.normal_(std=0.1)
        self.rays = inward_rays(N_RAYS)
        self.jitter = torch.rand(N_RAYS)
        self.samples, _ = self.sampler.sample(self.rays, self.field, None)
        self.n_samples = len(self.samples)
        self.n_levels, self.n_features = len(self.field.levels), self.field.table.shape[1]
        self.n_encoded = self.n_levels * self.n_features
        self.table_bytes = 4 * self.field.table.numel()
        # A level scales, floors and subtracts 3 coordinates, makes the weights of 8 corners by 15
        # operations, multiplies and adds 8 entries, and is scaled itself.
        self.encoding_flops = self.n_levels * (9 + 15 + 17 * self.n_features)


def hash_encode_kernels(scene: Scene) -> list[Kernel]:
    field, n = scene.field, scene.n_samples
    positions, _ = unit_cube(scene.samples.positions, field.box, False)
    args = (field.table, positions, field.levels, field.level_weights)
    grad = torch.rand(n, scene.n_encoded)
    encoded = {encode: encode(*args) for encode in (hash_encode, hash_encode_reference)}

    def backward(encode: Callable[..., Tensor]) -> Run:
        return lambda: torch.autograd.grad(encoded[encode], field.table, grad, retain_graph=True)

    # Positions in and features out, or their gradient in; the table is read, its gradient written.
    n_bytes = n * (12 + 4 * scene.n_encoded) + scene.table_bytes
    # The gradient costs what the value does: each corner's weight times the level's gradient.
    n_flops = n * scene.encoding_flops
    return [
        Kernel(
            "hash_encode_forward",
            lambda: (hash_encode(*args),),
            lambda: (hash_encode_reference(*args),),
            n_bytes,
            n_flops,
        ),
        Kernel(
            "hash_encode_backward",
            backward(hash_encode),
            backward(hash_encode_reference),
            n_bytes,
            n_flops,
        ),
    ]


def march_rays_kernels(scene: Scene) -> list[Kernel]:
    rays, sampler = scene.rays, scene.sampler
    args = (rays.rays_o, rays.rays_d, rays.near, rays.far, sampler.bounds, sampler.occupied)
    args += (sampler.resolution, sampler.step, sampler.cone_angle, scene.jitter)
    # A ray is 9 numbers in and an offset out, a sample 2 numbers out; the bits are read once.
    n_bytes = N_RAYS * (36 + 8) + 8 * scene.n_samples + sampler.occupied.numel()
    # A ray is clipped by 6 walls of 2 operations, 12 comparisons, and scaled by 9; a sample's place
    # takes 4, its cell 9. What leaping over empty cells takes depends on the grid: left out.
    n_flops = 33 * N_RAYS + 13 * scene.n_samples
    # Samples at the edge of a cell may fall on either side: offsets are compared, not samples.
    return [
        Kernel(
            "march_rays",
            lambda: march_rays(*args)[2:],
            lambda: march_rays_reference(*args)[2:],
            n_bytes,
            n_flops,
        )
    ]


def render_hash_grid_kernels(scene: Scene) -> list[Kernel]:
    field, samples, rays, n = scene.field, scene.samples, scene.rays, scene.n_samples
    layers = (*field.density_net, *field.colour_net)
    network = torch.cat([layer.weight.detach().flatten() for layer in layers]).requires_grad_()
    directions = field.encode_direction(rays.viewdirs)
    tensors = (field.table, field.levels, field.level_weights, network, directions)
    tensors += (rays.rays_o, rays.rays_d, samples.ts, samples.deltas, samples.ray_offsets)
    shape = (field.width, field.n_geometry, len(field.colour_net) - 1, False, field.early_stop)
    args = (*tensors, field.box, *shape)
    grads = (torch.rand(N_RAYS, 3), torch.rand(N_RAYS))

    def ours() -> tuple[Tensor, ...]:
        return render_hash_grid(*args)

    def theirs() -> tuple[Tensor, ...]:
        return render_hash_grid_reference(*args, keeps_encoded=False)[:4]

    def backward(render: Run) -> Run:
        _, rgb, opacity, _ = render()
        return lambda: torch.autograd.grad(
            (rgb, opacity), (field.table, network), grads, retain_graph=True
        )

    # A sample is 2 numbers in, its weight and its encoding out (backwards: all in); a ray 6 numbers
    # and its direction's features in, 5 and an offset out; the table is read, or its gradient
    # written.
    n_bytes = n * (12 + 4 * scene.n_encoded) + N_RAYS * (24 + 4 * directions.shape[1] + 28)
    n_bytes += scene.table_bytes
    # A weight of the networks multiplies and adds; density, alpha and compositing take some 20.
    # Backwards the networks run again, as nothing of them is kept, and then twice that for the
    # gradients of inputs and of weights.
    network_flops = 2 * network.numel()
    return [
        Kernel(
            "render_hash_grid_forward",
            ours,
            theirs,
            n_bytes,
            n * (scene.encoding_flops + network_flops + 20),
        ),
        Kernel(
            "render_hash_grid_backward",
            backward(ours),
            backward(theirs),
            n_bytes,
            n * (scene.encoding_flops + 3 * network_flops + 40),
        ),
    ]


def adam_step_kernels(scene: Scene) -> list[Kernel]:
    table = scene.field.table.detach()
    is_touched = torch.rand(len(table), 1) < TOUCHED
    grad = torch.randn_like(table) * is_touched
    rates = (1, 1e-2, 0.9, 0.99, 1e-15)  # step, lr, beta1, beta2, eps

    def stepping(step: Callable[..., None]) -> Run:
        state = (table.clone(), torch.zeros_like(table), torch.zeros_like(table))

        def run() -> tuple[Tensor, ...]:
            step(state[0], grad, state[1], state[2], *rates)
            return state

        return run

    n_touched = int(is_touched.sum()) * table.shape[1]
    entries_per_line = LINE // (4 * table.shape[1])
    share_of_lines = 1 - (1 - TOUCHED) ** entries_per_line
    # The gradient is read; of parameter and moments the lines that hold a touched entry are read
    # and written.
    n_bytes = scene.table_bytes * (1 + 6 * share_of_lines)
    # Two moments of 3 and 4 operations; rate, root, scale, epsilon, quotient and difference.
    return [
        Kernel(
            "adam_step",
            stepping(adam_step),
            stepping(adam_step_reference),
            n_bytes,
            13 * n_touched,
        )
    ]


def check(kernel: Kernel) -> None:
    for got, wanted in zip(kernel.run(), kernel.reference(), strict=True):
        error = (got.double() - wanted.double()).norm() / wanted.double().norm()
        # Sums in another order; a ReLU may open in one and not in the other.
        assert error < 5e-3, f"{kernel.name}: off by {float(error):.1e} of its norm"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="kernels with this in their name")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # as train.py does
    scene = Scene()
    source, target = torch.ones(COPIED), torch.ones(COPIED)
    left, right = torch.rand(2, PRODUCT, PRODUCT)
    makers = (hash_encode_kernels, march_rays_kernels, render_hash_grid_kernels, adam_step_kernels)
    for kernel in (kernel for make in makers for kernel in make(scene)):
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
        bandwidth = 8 * COPIED / seconds["copy"]  # each number is read and written
        arithmetic = 2 * PRODUCT**3 / seconds["product"]
        report(
            kernel.name,
            1e3 * seconds["kernel"],
            "ms",
            1e3 * seconds["reference"],
            ratio=median_ratio(times, "kernel", "reference"),
            bandwidth_share=round(kernel.n_bytes / seconds["kernel"] / bandwidth, 4),
            arithmetic_share=round(kernel.n_flops / seconds["kernel"] / arithmetic, 4),
            copy_gb_per_second=round(bandwidth / 1e9, 2),
            product_gflops=round(arithmetic / 1e9, 1),
            mbytes=round(kernel.n_bytes / 1e6, 3),
            mflops=round(kernel.n_flops / 1e6, 3),
            n_rays=N_RAYS,
            n_samples=scene.n_samples,
        )


if __name__ == "__main__":
    main()
