"""Losses in graphed steps: their weights are those of the step, and in half precision gradients of
the scene are scaled as those of rays are."""

import json
from pathlib import Path

import pytest
import torch

from dietnerf.fields import HashGrid
from dietnerf.losses import DensitySmoothness, SceneContext
from dietnerf.training import cuda_graphs
from dietnerf.training.cuda_graphs import with_scaled_gradients
from tests.helpers import fit, weights
from tests.training.graphed_runs import EVEN, GRAPHED, LAST, are_close, eager_and_graphed


def test_gradients_of_the_scene_survive_half_precision():
    """There is no scaler in graphed steps; a loss of weight 1e-3 over many points has such."""
    table = HashGrid(n_levels=1, log2_table_size=5, base_resolution=2).table
    with torch.autocast("cpu", torch.float16):
        loss = 1e-9 * table.half().float().sum()
        (lost,) = torch.autograd.grad(loss, table, retain_graph=True)
        (found,) = torch.autograd.grad(with_scaled_gradients(loss, [table]), table)
    assert (lost == 0).all()
    torch.testing.assert_close(found, torch.full_like(table, 1e-9), rtol=0.02, atol=0)


def test_losses_of_the_scene_are_scaled_and_nothing_else_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    losses = [
        {"class_path": "dietnerf.losses.Photometric"},
        {"class_path": "dietnerf.losses.DensitySmoothness", "init_args": {"weight": 0.5}},
    ]
    options = [*EVEN, *GRAPHED, "--model.losses", json.dumps(losses)]
    forward, scales = DensitySmoothness.forward, []

    def noting(loss: DensitySmoothness, moment: SceneContext) -> torch.Tensor:
        value = forward(loss, moment)
        value.register_hook(lambda grad: scales.append(float(grad)))
        return value

    monkeypatch.setattr(DensitySmoothness, "forward", noting)
    for name, is_half in (("full", False), ("half", True)):
        monkeypatch.setattr(cuda_graphs, "is_half", lambda device, answer=is_half: answer)
        fit(tmp_path / name, *options)
    assert scales == [0.5] * 12 + [0.5 * cuda_graphs.LOSS_SCALE] * 12
    are_close(weights(tmp_path / "half" / LAST), weights(tmp_path / "full" / LAST))


def test_weights_of_losses_are_those_of_the_step(tmp_path: Path):
    distortion = {"weight": 10.0, "start": 3, "ramp": 6}
    losses = [
        {"class_path": "dietnerf.losses.Photometric"},
        {"class_path": "dietnerf.losses.Distortion", "init_args": distortion},
    ]
    expected, found = eager_and_graphed(tmp_path, *EVEN, "--model.losses", json.dumps(losses))
    are_close(found, expected)
