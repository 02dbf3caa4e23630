"""Runs with CUDA graphs, and what tests of them share."""

import json
from pathlib import Path

import torch

from dietnerf.renderer import render_image
from dietnerf.runs.checkpoints import load_scene
from tests.helpers import fit, weights

GRAPHED = ("--model.use_cuda_graphs", "true")
EVEN = [
    *("--model.sampler", "dietnerf.sampling.Stratified", "--model.sampler.n_samples", "16"),
    *("--data.samples_per_step", "null"),
]
LAST = "checkpoints/last.ckpt"


def eager_and_graphed(folder: Path, *options: str) -> list[dict[str, torch.Tensor]]:
    for name, how in (("eager", ()), ("graphed", GRAPHED)):
        fit(folder / name, *options, *how)
    return [weights(folder / name / LAST) for name in ("eager", "graphed")]


def are_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


PAPER = [
    *("--model.field", "dietnerf.fields.MLP", "--model.field.depth", "2"),
    *("--model.field.width", "16", "--data.one_image_per_step", "true"),
    *("--model.sampler", "dietnerf.sampling.Importance", "--data.samples_per_step", "null"),
    *("--model.sampler.n_coarse", "8", "--model.sampler.n_fine", "8"),
]
LOSSES = json.dumps(
    [
        {"class_path": f"dietnerf.{name}"}
        for name in (
            *("losses.Photometric", "losses.Distortion", "losses.Occlusion"),
            *("research.OpacityEntropy", "research.RayEntropy"),
        )
    ]
)
KINDS = {"grid": [], "even": EVEN, "paper": PAPER, "losses": ["--model.losses", LOSSES]}


def on_cuda(precision: str) -> tuple[str, ...]:
    return ("--trainer.accelerator", "gpu", "--trainer.precision", precision)


def pictures(run: Path) -> torch.Tensor:
    """The test views as a run ended, (n_views, n_rays, 3), rendered on the CPU."""
    system = load_scene(run / LAST)
    assert system.camera_set is not None
    cameras, background = system.camera_set.cameras["test"], system.camera_set.background
    views = range(len(cameras))
    return torch.stack(
        [render_image(cameras, i, system.field, system.sampler, background).rgb for i in views]
    )


def are_alike(found: Path, expected: Path, most: float = 0.03) -> None:
    """Runs whose sums come in another order. Weights are not compared one by one: of a gradient
    that is all but zero SkippingAdam takes only the sign, and half precision loses some of them."""
    assert (pictures(found) - pictures(expected)).abs().max() < most
    ended = weights(found / LAST)
    for name, value in weights(expected / LAST).items():
        if name.startswith("field.") and value.is_floating_point():
            error = (ended[name] - value).norm() / value.norm().clamp(min=1e-12)
            assert error < 0.1, (name, float(error))
