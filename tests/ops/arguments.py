"""Right arguments of every op, for raw calls."""

import functools
import math
from typing import Any

import torch
from hypothesis import settings
from torch import Tensor

from tests.ops import (
    test_eval_sh,
    test_march_rays,
    test_project_gaussians,
    test_rasterize_gaussians,
    test_render_hash_grid,
    test_structural_similarity,
)
from tests.ops.contract import offsets

quick = settings(max_examples=150, deadline=None, derandomize=True)
COUNTS = [3, 0, 70, 5]
FORWARD = (
    *("composite", "distortion", "eval_sh", "hash_encode", "march_rays", "project_gaussians"),
    *("rasterize_gaussians", "render_hash_grid", "sample_pdf", "sample_stratified"),
    "structural_similarity",
)
BACKWARD = tuple(f"{name}_backward" for name in FORWARD if name != "march_rays")
OPS = ("adam_step", *FORWARD, *BACKWARD)
IGNORED = {
    "project_gaussians_backward": ("grad_radii",),
    "rasterize_gaussians_backward": ("grad_median_depth", "grad_max_weights", "grad_n_passed"),
    "render_hash_grid_backward": ("grad_encoded", "grad_rgbs"),
    "structural_similarity_backward": ("grad_derivatives",),
}
SPECIAL = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1e-45, 3e38, -3e38, 5e9, 1e10)
SIZES = (0, -1, 1, 7, 8, 24, 2**31, 2**32, 2**40, 2**60, 2**62, 2**63 - 1, -(2**63))


def names_of(op: str) -> list[str]:
    return [a.name for a in getattr(torch.ops.dietnerf, op).default._schema.arguments]


def call(op: str, arguments: dict[str, Any]) -> Any:
    return getattr(torch.ops.dietnerf, op)(*(arguments[name] for name in names_of(op)))


def numbers(op: str) -> dict[str, Any]:
    """Right arguments of an op, not of a backward one."""
    n, n_rays = sum(COUNTS), len(COUNTS)
    if op == "adam_step":
        tensors = {name: torch.rand(40, 30) for name in names_of(op)[:4]}
        rule = torch.tensor([0.1, 1.0, 0.99]).double()
        return {**tensors, "rule": rule, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8}
    if op == "eval_sh":
        values = test_eval_sh.make_with(2, 8)(COUNTS, torch.float32)
        return dict(zip(names_of(op), values, strict=True))
    if op == "march_rays":
        values = test_march_rays.make_with(3, 0.02, 400)(COUNTS, torch.float32)
        return dict(zip(names_of(op), values, strict=True))
    if op == "project_gaussians":
        values = test_project_gaussians.make_with(True)(COUNTS, torch.float32)
        return dict(zip(names_of(op), values, strict=True))
    if op == "rasterize_gaussians":
        values = test_rasterize_gaussians.make(COUNTS, torch.float32)
        return dict(zip(names_of(op), (*values, None), strict=True))
    if op == "render_hash_grid":
        made = test_render_hash_grid.make(COUNTS)
        made = {k: v.detach() if isinstance(v, Tensor) else v for k, v in made.items()}
        return {**made, "saves_samples": True}
    if op == "structural_similarity":
        values = test_structural_similarity.make(COUNTS, torch.float32)
        return dict(zip(names_of(op), values, strict=True))
    if op == "hash_encode":
        levels = torch.tensor([[2, 0, 32], [3, 32, 72], [40, 104, 128]])
        return {
            "table": torch.rand(232, 4),
            "positions": torch.rand(n, 3),
            "levels": levels,
            "level_weights": torch.rand(3),
        }
    per_sample = {name: torch.rand(n) for name in names_of(op)}
    return {
        **per_sample,
        "rgbs": torch.rand(n, 3),
        "near": torch.rand(n_rays),
        "far": torch.rand(n_rays) + 1,
        "u": torch.rand(n_rays, 5),
        "ray_offsets": offsets(COUNTS),
        "n_samples": n,
        "lindisp": False,
        "early_stop": 1e-4,
    }


@functools.cache
def right(op: str) -> dict[str, Any]:
    torch.manual_seed(1)
    forward = op.removesuffix("_backward")
    arguments = {k: v for k, v in numbers(forward).items() if k in names_of(forward)}
    if op == forward:
        return arguments
    outputs = call(forward, arguments)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    grads = [name for name in names_of(op) if name.startswith("grad_")]
    for name, output in zip(grads, outputs, strict=True):
        arguments |= {name: torch.rand_like(output), name.removeprefix("grad_"): output}
    return {name: arguments[name] for name in names_of(op) if name != "output_mask"} | {
        "output_mask": 15
    }


def fresh(op: str) -> dict[str, Any]:
    return {k: v.clone() if isinstance(v, Tensor) else v for k, v in right(op).items()}


def tensors_of(op: str) -> list[str]:
    return [name for name, value in right(op).items() if isinstance(value, Tensor)]


def is_ignored(op: str, name: str) -> bool:
    """Whether the op does not read a gradient: that of what has none, or is saved only."""
    return name in IGNORED.get(op, ())


def is_answered(op: str, arguments: dict[str, Any]) -> bool:
    """Or refused as it ought to be."""
    try:
        call(op, arguments)
    except (RuntimeError, ValueError) as error:
        sentence = str(error).splitlines()[0]
        assert f"{op.removesuffix('_backward')}" in sentence, sentence
        named = [*names_of(op), "floating arguments", "samples are more than", "n_features"]
        assert any(name in sentence for name in named), sentence
        return False
    return True
