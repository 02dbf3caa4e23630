"""The kernels of the fast field beside their references, with the work that a call needs at least.

Bytes are those that must come from memory or go to it once: inputs read, outputs written, a hash
table read or its gradient written. What the caches serve is counted apart, as gathers and as
additions of whole entries of the table. Operations are those of the formulas; those of networks
are counted apart, as tensor cores take them. `ray_cases.py` has the ops that know no field.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from ball import hash_grid, inward_rays, occupancy
from torch import Tensor

from dietnerf.ops import (
    adam_rule,
    adam_step,
    hash_encode,
    march_rays,
    render_hash_grid,
    trace_hash_grid,
)
from dietnerf.ops._hash_grid import unit_cube
from dietnerf.ops.adam_step import reference as adam_step_reference
from dietnerf.ops.hash_encode import reference as hash_encode_reference
from dietnerf.ops.march_rays import reference as march_rays_reference
from dietnerf.ops.render_hash_grid import reference as render_hash_grid_reference
from dietnerf.ops.trace_hash_grid import reference as trace_hash_grid_reference

LINE = 64  # bytes that memory moves at a time
N_CORNERS = 8  # of a cell, each with an entry of the table

Run = Callable[[], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Kernel:
    """A kernel and its reference, which return the same, and what one call costs at least.

    Args:
        name: of the op, and which way.
        run, reference: what is timed.
        n_bytes: from and to memory.
        n_flops: operations, but for those of networks.
        n_network_flops: operations of networks.
        n_gathers: entries of a hash table read.
        n_adds: entries of a hash table added to.
    """

    name: str
    run: Run
    reference: Run
    n_bytes: float
    n_flops: float
    n_network_flops: float = 0
    n_gathers: float = 0
    n_adds: float = 0


class Workload:
    """A ball, marched through once; the table as after some training.

    Args:
        n_rays: about 15.6 samples each.
        device: where everything lies.
        half: whether the table is in half precision, and the networks of the fused op too.
        sizes: of the field, as `HashGrid` takes them, where it is not that of configs/fast.yaml.
    """

    def __init__(
        self,
        n_rays: int,
        device: torch.device | str = "cpu",
        half: bool = False,
        **sizes: int,
    ) -> None:
        torch.manual_seed(0)
        self.n_rays, self.device, self.half = n_rays, torch.device(device), half
        self.field, self.sampler = hash_grid(**sizes).to(device), occupancy().to(device)
        with torch.no_grad():
            self.field.table.normal_(std=0.1)
        stored = self.field.table.detach()
        self.table = (stored.half() if half else stored.clone()).requires_grad_()
        self.rays = inward_rays(n_rays).to(device)
        self.jitter = torch.rand(n_rays, device=device)
        draw = torch.Generator(device).manual_seed(0)
        self.samples, _ = self.sampler.sample(self.rays, self.field, draw)
        self.n_samples = len(self.samples)
        self.n_levels, self.n_features = len(self.field.levels), self.table.shape[1]
        self.n_encoded = self.n_levels * self.n_features
        self.table_bytes = self.table.element_size() * self.table.numel()
        # A level scales, floors and subtracts 3 coordinates, makes the weights of 8 corners by 15
        # operations, multiplies and adds 8 entries, and is scaled itself.
        self.encoding_flops = self.n_levels * (9 + 15 + 17 * self.n_features)
        self.n_corners = self.n_samples * self.n_levels * N_CORNERS

    def rand(self, *shape: int) -> Tensor:
        return torch.rand(*shape, device=self.device)

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        if not self.half:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.float16)


def backward(forward: Run, inputs: Sequence[Tensor]) -> Run:
    """The gradients of inputs for random ones of the outputs, again and again; what is forward of
    that is done at the first call."""
    made: list[tuple[Sequence[Tensor], list[Tensor]]] = []

    def run() -> tuple[Tensor, ...]:
        if not made:
            outputs = forward()
            draw = torch.Generator(outputs[0].device).manual_seed(1)
            like = {"generator": draw, "device": outputs[0].device}
            made.append((outputs, [torch.rand(o.shape, dtype=o.dtype, **like) for o in outputs]))
        outputs, grads = made[0]
        return torch.autograd.grad(outputs, inputs, grads, retain_graph=True)

    return run


def hash_encode_kernels(workload: Workload) -> list[Kernel]:
    field, n = workload.field, workload.n_samples
    positions, _ = unit_cube(workload.samples.positions, field.box, False)
    args = (workload.table, positions, field.levels, field.level_weights)
    # Positions in and features out, or their gradient in; the table is read, its gradient written.
    n_bytes = n * (12 + 4 * workload.n_encoded) + workload.table_bytes
    # The gradient costs what the value does: each corner's weight times the level's gradient.
    n_flops = n * workload.encoding_flops

    def ours() -> tuple[Tensor, ...]:
        return (hash_encode(*args),)

    def theirs() -> tuple[Tensor, ...]:
        return (hash_encode_reference(*args),)

    return [
        Kernel(
            "hash_encode_forward",
            ours,
            theirs,
            n_bytes,
            n_flops,
            n_gathers=workload.n_corners,
        ),
        Kernel(
            "hash_encode_backward",
            backward(ours, [workload.table]),
            backward(theirs, [workload.table]),
            n_bytes,
            n_flops,
            n_adds=workload.n_corners,
        ),
    ]


def march_rays_kernels(workload: Workload) -> list[Kernel]:
    rays, sampler, n_rays = workload.rays, workload.sampler, workload.n_rays
    grid = sampler.grid._replace(step=sampler.step_size)
    args = (rays.rays_o, rays.rays_d, rays.near, rays.far, grid, workload.jitter)
    # A ray is 9 numbers in and an offset out, a sample 2 numbers out; the bits are read once.
    n_bytes = n_rays * (36 + 8) + 8 * workload.n_samples + sampler.occupied.numel()
    # A ray is clipped by 6 walls of 2 operations, 12 comparisons, and scaled by 9; a sample's place
    # takes 4, its cell 9. What leaping over empty cells takes depends on the grid: left out.
    n_flops = 33 * n_rays + 13 * workload.n_samples
    # Samples at the edge of a cell may fall on either side: offsets are compared, not samples.
    return [
        Kernel(
            "march_rays",
            lambda: march_rays(*args)[2:3],
            lambda: march_rays_reference(*args, capacity=None)[2:3],
            n_bytes,
            n_flops,
        )
    ]


def render_hash_grid_kernels(workload: Workload) -> list[Kernel]:
    samples, n = workload.samples, workload.n_samples
    field = workload.field._along(workload.rays)
    network = field.network.detach().requires_grad_()
    field = field._replace(table=workload.table, network=network, is_unbounded=False)
    args = (field, samples.ts, samples.deltas, samples.ray_offsets)

    def ours() -> tuple[Tensor, ...]:
        with workload.autocast():
            return render_hash_grid(*args)

    def theirs() -> tuple[Tensor, ...]:
        with workload.autocast():
            return render_hash_grid_reference(*args, saves_samples=False)[:4]

    # A sample is 2 numbers in, its weight and its encoding out (backwards: all in); a ray 6 numbers
    # and its direction's features in, 5 and an offset out; the table is read, or its gradient
    # written.
    n_directions = field.directions.shape[1]
    n_bytes = n * (12 + 4 * workload.n_encoded) + workload.n_rays * (24 + 4 * n_directions + 28)
    n_bytes += workload.table_bytes
    # A weight of the networks multiplies and adds; density, alpha and compositing take some 20.
    # The backward recomputes the networks, as nothing of them is saved, and takes twice that for
    # the gradients of inputs and of weights.
    network_flops = 2 * network.numel()
    return [
        Kernel(
            "render_hash_grid_forward",
            ours,
            theirs,
            n_bytes,
            n * (workload.encoding_flops + 20),
            n_network_flops=n * network_flops,
            n_gathers=workload.n_corners,
        ),
        Kernel(
            "render_hash_grid_backward",
            backward(lambda: ours()[1:3], [workload.table, network]),
            backward(lambda: theirs()[1:3], [workload.table, network]),
            n_bytes,
            n * (workload.encoding_flops + 40),
            n_network_flops=n * 3 * network_flops,
            n_adds=workload.n_corners,
        ),
    ]


def trace_hash_grid_kernels(workload: Workload) -> list[Kernel]:
    grid = workload.sampler.grid
    field = workload.field._along(workload.rays)
    field = field._replace(table=workload.table.detach(), network=field.network.detach())
    args = (field, workload.rays.near, workload.rays.far, grid)
    still, _ = workload.sampler.sample(workload.rays, workload.field, None)
    with torch.no_grad():
        weights = workload.field.render(still).weights
    n = int((weights > 0).sum())  # the samples behind are not evaluated
    # A ray is 8 numbers and its direction's features in, 5 out; table and bits are read once.
    n_bytes = workload.n_rays * (32 + 4 * field.directions.shape[1] + 20)
    n_bytes += workload.table_bytes + grid.occupied.numel()
    return [
        Kernel(
            "trace_hash_grid",
            lambda: trace_hash_grid(*args),
            lambda: trace_hash_grid_reference(*args),
            n_bytes,
            33 * workload.n_rays + n * (13 + workload.encoding_flops + 20),
            n_network_flops=n * 2 * field.network.numel(),
            n_gathers=n * workload.n_levels * N_CORNERS,
        )
    ]


def adam_step_kernels(workload: Workload) -> list[Kernel]:
    table = workload.field.table.detach()
    is_touched = touched(workload)
    grad = torch.randn_like(table) * is_touched[:, None]
    rates = (0.9, 0.99, 1e-15)  # beta1, beta2, eps
    rule = adam_rule(1, 1e-2, 0.9, 0.99).to(workload.device)

    def stepping(step: Callable[..., None]) -> Run:
        state = (table.clone(), torch.zeros_like(table), torch.zeros_like(table))

        def run() -> tuple[Tensor, ...]:
            step(state[0], grad, state[1], state[2], rule, *rates)
            return state

        return run

    n_touched = int(is_touched.sum()) * table.shape[1]
    entries_per_line = LINE // (4 * table.shape[1])
    share_of_lines = float(is_touched.view(-1, entries_per_line).any(dim=1).float().mean())
    # The gradient is read; of parameter and moments the lines that hold a touched entry are read
    # and written.
    n_bytes = 4 * table.numel() * (1 + 6 * share_of_lines)
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


def touched(workload: Workload) -> Tensor:
    """Which entries of the table the samples see, those with a gradient: bool, (n_entries,)."""
    field, table = workload.field, workload.field.table.detach().requires_grad_()
    positions, _ = unit_cube(workload.samples.positions, field.box, False)
    total = hash_encode(table, positions, field.levels, field.level_weights).sum()
    return (torch.autograd.grad(total, table)[0] != 0).any(dim=1)


def error(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """By how much outputs differ: the largest difference of one of them, over its norm."""
    pairs = ((f.detach().double(), w.detach().double()) for f, w in zip(found, wanted, strict=True))
    return max(float((f - w).norm() / w.norm()) for f, w in pairs)
