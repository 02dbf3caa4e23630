"""nerfacc 0.5.3 on the same rays: what it marches and composites, to be timed beside our ops.

It gets what helps it: directions of unit length, as it wants them, and the packed numbers of
samples that its `rendering` would count at every call.
"""

from collections.abc import Callable
from types import ModuleType

import torch
from op_cases import Run, Workload, backward
from ray_cases import answers
from torch import Tensor


def find_nerfacc(device: torch.device) -> ModuleType | None:
    """nerfacc, where it can be used: its kernels are for CUDA only."""
    if device.type != "cuda":
        return None
    try:
        import nerfacc
    except Exception as error:  # its kernels may not build with this compiler
        print(f"No nerfacc ({error}), so its column is empty; `pip install nerfacc==0.5.3`")
        return None
    return nerfacc


def nerfacc_runs(nerfacc: ModuleType, workload: Workload) -> dict[str, Callable[[], Run]]:
    """What nerfacc does instead of a kernel, by the kernel's name; made when it is called."""
    return {
        "march_rays": lambda: sampling(nerfacc, workload),
        "composite_forward": lambda: rendering(nerfacc, workload, *answers(workload)),
        "composite_backward": lambda: rendering_backward(nerfacc, workload),
    }


def sampling(nerfacc: ModuleType, workload: Workload) -> Run:
    """Ray index, start and end of each sample."""
    rays, sampler = workload.rays, workload.sampler
    grid = nerfacc.OccGridEstimator(
        sampler.bounds.flatten().tolist(), resolution=sampler.resolution, levels=1
    ).to(workload.device)
    grid.binaries = occupied_cells(sampler.occupied, sampler.resolution)
    return lambda: grid.sampling(
        rays.rays_o,
        rays.rays_d,
        t_min=rays.near,
        t_max=rays.far,
        render_step_size=sampler.step_size,
    )


def occupied_cells(bits: Tensor, resolution: int) -> Tensor:
    """Bits (1, resolution^3 / 8), along which x runs fastest -> bool (1, x, y, z)."""
    shifts = torch.arange(8, device=bits.device)
    cells = (bits[..., None] >> shifts & 1).bool().view(1, resolution, resolution, resolution)
    return cells.permute(0, 3, 2, 1).contiguous()


def rendering(nerfacc: ModuleType, workload: Workload, sigmas: Tensor, rgbs: Tensor) -> Run:
    """Color, opacity and depth, as those of `composite`."""
    samples, n_rays, ray_indices = workload.samples, workload.n_rays, workload.samples.ray_indices
    starts, ends = samples.ts - samples.deltas / 2, samples.ts + samples.deltas / 2
    offsets, mids = samples.ray_offsets, samples.ts[:, None]
    packed = torch.stack([offsets[:-1], offsets.diff()], dim=-1)

    def run() -> tuple[Tensor, ...]:
        weights, _, _ = nerfacc.render_weight_from_density(starts, ends, sigmas, packed_info=packed)
        rgb, opacity, depth = (
            nerfacc.accumulate_along_rays(weights, values, ray_indices, n_rays)
            for values in (rgbs, None, mids)
        )
        return rgb, opacity[:, 0], depth[:, 0]

    return run


def rendering_backward(nerfacc: ModuleType, workload: Workload) -> Run:
    sigmas, rgbs = answers(workload)
    return backward(rendering(nerfacc, workload, sigmas, rgbs), [sigmas, rgbs])
