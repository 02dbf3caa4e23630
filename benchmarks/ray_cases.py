"""The ops on samples along rays beside their references, counted as in op_cases.py."""

import torch
from op_cases import Kernel, Workload, backward
from torch import Tensor

from dietnerf.ops import composite, distortion, sample_pdf, sample_stratified
from dietnerf.ops.composite import reference as composite_reference
from dietnerf.ops.distortion import reference as distortion_reference
from dietnerf.ops.sample_pdf import reference as sample_pdf_reference
from dietnerf.ops.sample_stratified import reference as sample_stratified_reference

N_COARSE, N_FINE = 64, 128  # samples of a ray of the paper's


def answers(workload: Workload) -> tuple[Tensor, Tensor]:
    """Densities and colors of the samples, always the same ones."""
    draw = torch.Generator(workload.device).manual_seed(2)
    found = torch.rand(4, workload.n_samples, generator=draw, device=workload.device)
    return found[0].requires_grad_(), found[1:].T.contiguous().requires_grad_()


def composite_kernels(workload: Workload) -> list[Kernel]:
    samples, n, n_rays = workload.samples, workload.n_samples, workload.n_rays
    sigmas, rgbs = answers(workload)
    args = (sigmas, rgbs, samples.deltas, samples.ts, samples.ray_offsets)

    def ours() -> tuple[Tensor, ...]:
        return composite(*args)

    def theirs() -> tuple[Tensor, ...]:
        return composite_reference(*args)[:4]

    # A sample is 6 numbers in and its weight out; a ray an offset in and 6 numbers out. Backwards
    # weight and 6 numbers in, gradients of density and color out; a ray's 6 numbers in.
    # Optical thickness, two exponentials, transmittance, weight, three sums; backwards as much
    # twice.
    return [
        Kernel("composite_forward", ours, theirs, 28 * n + 32 * n_rays, 15 * n),
        Kernel(
            "composite_backward",
            backward(lambda: ours()[1:], [sigmas, rgbs]),
            backward(lambda: theirs()[1:], [sigmas, rgbs]),
            44 * n + 32 * n_rays,
            30 * n,
        ),
    ]


def distortion_kernels(workload: Workload) -> list[Kernel]:
    samples, n, n_rays = workload.samples, workload.n_samples, workload.n_rays
    weights = (workload.rand(n) / 16).requires_grad_()
    args = (weights, samples.ts, samples.deltas, samples.ray_offsets)
    # A sample is 3 numbers in, backwards also its weight's gradient out; a ray an offset and a
    # number. Two sums, and what lies between and within.
    return [
        Kernel(
            "distortion_forward",
            lambda: (distortion(*args),),
            lambda: (distortion_reference(*args),),
            12 * n + 12 * n_rays,
            10 * n,
        ),
        Kernel(
            "distortion_backward",
            backward(lambda: (distortion(*args),), [weights]),
            backward(lambda: (distortion_reference(*args),), [weights]),
            16 * n + 12 * n_rays,
            15 * n,
        ),
    ]


def sample_pdf_kernels(workload: Workload) -> list[Kernel]:
    """As the paper: 128 more samples where 64 found something, on as many rays as there are."""
    n_rays, device = workload.n_rays, workload.device
    n = n_rays * N_COARSE
    offsets = torch.arange(0, n + 1, N_COARSE, device=device)
    edges = torch.linspace(2, 6, N_COARSE + 1, device=device)
    starts, ends = (e.repeat(n_rays) for e in (edges[:-1], edges[1:]))
    weights, u = workload.rand(n).requires_grad_(), workload.rand(n_rays, N_FINE)
    args = (starts, ends, weights, offsets, u)
    n_new = n_rays * N_FINE
    # An interval is 3 numbers in, a sample 1 in and 1 out, a ray its offset; backwards an
    # interval's gradient out. An interval is summed and divided, a sample searched for.
    return [
        Kernel(
            "sample_pdf_forward",
            lambda: (sample_pdf(*args),),
            lambda: (sample_pdf_reference(*args),),
            12 * n + 8 * n_new + 8 * n_rays,
            3 * n + 12 * n_new,
        ),
        Kernel(
            "sample_pdf_backward",
            backward(lambda: (sample_pdf(*args),), [weights]),
            backward(lambda: (sample_pdf_reference(*args),), [weights]),
            16 * n + 8 * n_new + 8 * n_rays,
            6 * n + 20 * n_new,
        ),
    ]


def sample_stratified_kernels(workload: Workload) -> list[Kernel]:
    n_rays, device = workload.n_rays, workload.device
    n = n_rays * N_COARSE
    offsets = torch.arange(0, n + 1, N_COARSE, device=device)
    near, far = (
        bound.clone().requires_grad_() for bound in (workload.rays.near, workload.rays.far)
    )
    jitter = workload.rand(n)

    def ours() -> tuple[Tensor, ...]:
        return (sample_stratified(near, far, offsets, jitter),)

    def theirs() -> tuple[Tensor, ...]:
        return (sample_stratified_reference(near, far, offsets, jitter, n, False),)

    # A sample is 2 numbers, in and out, or both in; a ray 2 and its offset in, backwards 2 out too.
    return [
        Kernel("sample_stratified_forward", ours, theirs, 8 * n + 16 * n_rays, 12 * n),
        Kernel(
            "sample_stratified_backward",
            backward(ours, [near, far]),
            backward(theirs, [near, far]),
            8 * n + 24 * n_rays,
            16 * n,
        ),
    ]
