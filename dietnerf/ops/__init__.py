"""Ops on ragged samples along rays, and on Gaussians: PyTorch references, and compiled kernels
where they were built.

Flat tensors hold the samples ray after ray; ray r owns the samples from `ray_offsets[r]` to
`ray_offsets[r + 1]`, `ray_offsets (n_rays + 1,)`. Dense is `arange * n_samples`. `ts` are distances
along the rays in units of `rays_d`, `deltas` the lengths of the samples' intervals.
"""

from dietnerf.ops._arguments import HashGridArgs, OccupancyGrid
from dietnerf.ops._load import is_compiled, load_kernels, use_one_thread_after_fork
from dietnerf.ops.adam_step import adam_rule, adam_step
from dietnerf.ops.composite import composite
from dietnerf.ops.distortion import distortion
from dietnerf.ops.eval_sh import eval_sh
from dietnerf.ops.hash_encode import hash_encode
from dietnerf.ops.march_rays import march_rays
from dietnerf.ops.project_gaussians import project_gaussians
from dietnerf.ops.rasterize_gaussians import rasterize_gaussians
from dietnerf.ops.render_hash_grid import render_hash_grid
from dietnerf.ops.sample_pdf import sample_pdf
from dietnerf.ops.sample_stratified import sample_stratified
from dietnerf.ops.structural_similarity import structural_similarity
from dietnerf.ops.trace_hash_grid import trace_hash_grid

__all__ = [
    "HashGridArgs",
    "OccupancyGrid",
    "adam_rule",
    "adam_step",
    "composite",
    "distortion",
    "eval_sh",
    "hash_encode",
    "is_compiled",
    "march_rays",
    "project_gaussians",
    "rasterize_gaussians",
    "render_hash_grid",
    "sample_pdf",
    "sample_stratified",
    "structural_similarity",
    "trace_hash_grid",
]

load_kernels()
use_one_thread_after_fork()
