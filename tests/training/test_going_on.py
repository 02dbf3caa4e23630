"""Runs of everything that keeps a state between steps, all at once: stopped in the midst, they end
as unbroken ones, to the bit."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dietnerf.losses import Photometric
from dietnerf.training import cli
from dietnerf.training.system import DietNeRF
from tests.helpers import FEW_STEPS, SMALL_FIELD, tiny_tower
from tests.reliability.pipeline import differing, read, what_was_trained

N_STEPS, BAD, STOPPED = 26, (5, 9), 12  # in the 13th, where nothing else happens
OPTIONS = [
    *("--config", "quickstart"),
    *("--data.reader.init_args.resolution", "16"),
    *("--data.reader.init_args.n_test", "3"),
    *("--data.samples_per_step", "2048"),
    *("--data.pixel_jitter", "true"),
    *SMALL_FIELD[SMALL_FIELD.index("--model.sampler.init_args.resolution") :],
    *FEW_STEPS,
    *("--trainer.max_steps", str(N_STEPS)),
    *("--trainer.val_check_interval", "8"),
]
AVERAGE = {
    "class_path": "pytorch_lightning.callbacks.EMAWeightAveraging",
    "init_args": {"decay": 0.9, "update_every_n_steps": 3, "use_buffers": False},
}
GRID = {
    "class_path": "dietnerf.fields.HashGrid",
    "init_args": {"n_levels": 3, "log2_table_size": 9, "finest_resolution": 32, "width": 16},
}
SCHEDULES = (
    "schedules.LevelAnnealing",
    *("research.DirectionAnnealing", "research.NearFarAnnealing", "research.RadiusAnnealing"),
)


def losses(*names: str) -> list[dict[str, Any]]:
    return [{"class_path": f"dietnerf.{name}"} for name in names]


def refined() -> dict[str, Any]:
    ensemble = {"class_path": "dietnerf.fields.Ensemble", "init_args": {"n": 2, "field": GRID}}
    schedules = [
        {"class_path": f"dietnerf.{name}", "init_args": {"until": 0.8}} for name in SCHEDULES
    ]
    return {
        "field": ensemble,
        "losses": losses(
            "losses.Photometric", "losses.DensitySmoothness", "research.NeighborDivergence"
        ),
        "schedules": schedules,
        "refinement": {"class_path": "CameraRefinement", "init_args": {"refines_focal": True}},
    }


def graphed() -> dict[str, Any]:
    """CUDA graphs, which go with no ensemble, schedule or refinement."""
    return {
        "field": GRID,
        "losses": losses("losses.Photometric", "losses.Distortion", "losses.DensitySmoothness"),
        "use_cuda_graphs": True,
    }


@pytest.mark.parametrize("model", [refined, graphed])
def test_with_everything_a_stopped_run_ends_as_an_unbroken_one(
    model: Callable[[], dict[str, Any]], tmp_path: Path, monkeypatch
):
    options = model()
    encoder = {"class_path": "dietnerf.semantics.OpenCLIP", "init_args": tiny_tower(tmp_path)}
    options["losses"] += losses("losses.SemanticConsistency")
    options["losses"][-1]["init_args"] = {"encoder": encoder, "every": 3, "resolution": 16}
    overlay, run, unbroken = (tmp_path / name for name in ("all.yaml", "run", "unbroken"))
    overlay.write_text(yaml.safe_dump({"model": options, "trainer": {"callbacks": [AVERAGE]}}))
    forward, take_step = Photometric.forward, DietNeRF.take_step

    def spoiled(self, made):
        return forward(self, made) * (float("nan") if made.index in BAD else 1.0)

    def stopped(self, step, is_last):
        if step == STOPPED:
            os.kill(os.getpid(), signal.SIGTERM)
        take_step(self, step, is_last)

    monkeypatch.setattr(Photometric, "forward", spoiled)
    fit = ["fit", *OPTIONS, "--config", str(overlay), "--run"]
    cli.main([*fit, str(unbroken)])
    with monkeypatch.context() as patched:
        patched.setattr(DietNeRF, "take_step", stopped)
        with pytest.raises(SystemExit):
            cli.main([*fit, str(run)])
    assert STOPPED < read(run / "checkpoints/last.ckpt")["global_step"] < N_STEPS
    cli.main(["fit", "--run", str(run), "--ckpt_path", "last"])
    assert read(run / "checkpoints/last.ckpt")["global_step"] == N_STEPS
    found, expected = (what_was_trained(path / "checkpoints/last.ckpt") for path in (run, unbroken))
    assert {"current_model_state", "averaging_state", "SceneDataModule"} <= expected.keys()
    assert differing(found, expected) == []
