"""Every kernel once, forward and backward: the input of ncu and the sanitizers.

    python benchmarks/gpu/every_kernel.py N_SAMPLES [--tiles] [--device cpu]

Says of each output whether it is finite; fails where one is not.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import op_cases
import torch
from gpu import NGP, OPS, SAMPLES_PER_RAY, TINY

LARGE = 2**16  # samples from which on the field is as large as instant-ngp's
TILES = (op_cases.render_hash_grid_kernels, op_cases.trace_hash_grid_kernels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n_samples", type=int)
    parser.add_argument("--tiles", action="store_true", help="only those with shared memory")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--small", action="store_true", help="a tiny field, whatever the samples")
    args = parser.parse_args()
    is_cuda = torch.device(args.device).type == "cuda"
    n_rays = max(8, round(args.n_samples / SAMPLES_PER_RAY))
    sizes = NGP if args.n_samples >= LARGE and not args.small else TINY
    workload = op_cases.Workload(n_rays, args.device, half=is_cuda, **sizes)
    is_sound = True
    for kernel in (kernel for make in (TILES if args.tiles else OPS) for kernel in make(workload)):
        found = kernel.run()
        if is_cuda:
            torch.cuda.synchronize()
        are_finite = [bool(tensor.isfinite().all()) for tensor in found]
        print(kernel.name, are_finite, flush=True)
        is_sound &= all(are_finite)
    sys.exit(not is_sound)


if __name__ == "__main__":
    main()
