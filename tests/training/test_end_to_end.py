"""From photographs to scores, by the commands that a user gives."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dietnerf.data import Procedural
from dietnerf.export import render
from dietnerf.runs.checkpoints import find_checkpoint, load_scene
from dietnerf.training import cli
from tests.formats import write_blender, write_transforms
from tests.helpers import FEW_STEPS, SMALL_FIELD, fit, refused

SMALL_MLP = ["--model.field.init_args.depth", "3", "--model.field.init_args.width", "32"]


def test_a_capture_without_test_views_is_not_said_to_be_testable(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "argv", ["train.py"])  # however pytest was called
    write_transforms(Procedural(resolution=16, n_train=4).read("train"), tmp_path / "scene")
    reader = ["--config", "photos", "--data.reader.init_args.root", str(tmp_path / "scene")]
    small = ["--model.field.init_args.log2_table_size", "11", "--data.samples_per_step", "1024"]
    options = [*reader, *small, *FEW_STEPS, "--save_every", "12"]
    run = str(tmp_path / "run")
    cli.main(["fit", *options, "--run", run])
    said = capsys.readouterr().out
    assert f"render.py {run}" in said and "train.py test" not in said
    assert refused(capsys, cli.main, "test", "--run", run) == (
        "error: no photo of this capture was kept for test: to keep every 8th, train it with "
        "--data.reader.init_args.hold_every 8"
    )


def test_training_improves(tmp_path: Path):
    fit(tmp_path / "run", "--trainer.max_steps", "150", "--trainer.val_check_interval", "50")
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    psnrs = [event.value for event in events.Scalars("val/psnr")]
    # An all-white picture scores about 9; 150 steps of a small grid reach about 20.
    assert psnrs[-1] > psnrs[0] + 1 and psnrs[-1] > 18


def test_the_papers_network_learns_under_an_occupancy_grid(tmp_path: Path):
    toy = ["--data.reader", "dietnerf.data.Procedural", "--data.reader.init_args.resolution", "16"]
    sampler = "--model.sampler.init_args."
    options = [
        *("--config", "nerf", "--config", "occupancy", *toy, "--data.precrop_steps", "0"),
        *(*SMALL_MLP, "--model.learning_rate.init_args.initial", "5e-3", *FEW_STEPS),
        *(f"{sampler}resolution", "16", f"{sampler}n_steps", "64"),
        *(f"{sampler}update_every", "4", f"{sampler}warmup_steps", "16"),
        *("--trainer.max_steps", "80", "--trainer.val_check_interval", "40"),
    ]
    cli.main(["fit", *options, "--run", str(tmp_path / "run")])
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    psnrs = [event.value for event in events.Scalars("val/psnr")]
    assert psnrs[-1] > psnrs[0] + 1 and psnrs[-1] > 14


def end_to_end(root: Path, tmp_path: Path, *options: str) -> dict:
    """fit, test and render a Blender-format folder; the scores."""
    run = ["--run", str(tmp_path / "run")]
    cli.main(["fit", *options, "--data.reader.init_args.root", str(root), *FEW_STEPS, *run])
    cli.main(["test", *run, "--trainer.enable_progress_bar", "false"])
    out = tmp_path / "film.gif"
    render.main([str(tmp_path / "run"), "--frames", "2", "--size", "12", "10", "--out", str(out)])
    assert iio.imread(out).shape == (2, 10, 12, 3)
    return json.loads((tmp_path / "run/metrics.json").read_text())


METHODS = {
    "fast": ["--config", "fast", *SMALL_FIELD],
    "paper": [
        *("--config", "nerf", "--config", "cpu", *SMALL_MLP),
        *("--model.sampler.init_args.n_samples", "16"),
    ],
    "paper under occupancy": [
        *("--config", "nerf", "--config", "occupancy", *SMALL_MLP),
        *("--model.sampler.init_args.resolution", "16"),
        *("--model.sampler.init_args.update_every", "1"),
        *("--model.sampler.init_args.warmup_steps", "6"),
    ],
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_blender_folder_end_to_end(method: list[str], tmp_path: Path):
    """Without a validation split: one is taken from the photographs that are not trained on."""
    reader = Procedural(resolution=16, n_train=7, n_test=2)
    for split in ("train", "test"):
        write_blender(reader.read(split), tmp_path / "scene", split)
    options = ["--data.views.init_args.n", "3", "--data.reader.init_args.downscale", "1"]
    found = end_to_end(tmp_path / "scene", tmp_path, *method, *options)
    assert len(found["train_view_ids"]) == 3 and len(found["per_view"]) == 1
    assert found["views"] == {"rule": "RandomViews", "n": 3, "seed": 0}


def test_photos_of_unlike_size_through_a_lens_end_to_end(tmp_path: Path):
    """With masks, depth maps, and the film of cameras that have a lens."""
    scene = Procedural(resolution=16, n_train=9).read("train")
    masks = torch.ones(9, 16, 16, dtype=torch.bool)
    masks[1, 14:], masks[4, :, 12:], masks[8, :2] = False, False, False
    lens = {"distortion": torch.tensor([[-0.1] + 8 * [0.0]]).expand(9, 9)}
    cameras = replace(scene.cameras, **lens, is_fisheye=torch.zeros(9, dtype=torch.bool))
    write_transforms(replace(scene, masks=masks, cameras=cameras), tmp_path / "scene")
    reader = ["--data.reader", "dietnerf.data.Transforms"]
    depth = ["--model.losses+", "{class_path: dietnerf.losses.Depth, init_args: {n_rays: 8}}"]
    losses = ["--model.losses", "[{class_path: dietnerf.losses.Photometric}]", *depth]
    options = ["--config", "fast", *reader, *SMALL_FIELD, *losses]
    found = end_to_end(tmp_path / "scene", tmp_path, *options, "--data.views.init_args.n", "3")
    assert [view["view"] for view in found["per_view"]] == ["train_0", "train_8"]
    assert found["mean"]["psnr"] > 5
    saved = load_scene(find_checkpoint(tmp_path / "run")).camera_set
    assert saved.cameras["train"].distortion[0, 0] == pytest.approx(-0.1)


def test_lego_end_to_end(tmp_path: Path):
    """The real scene with the paper's views, at 25x25."""
    root = Path(os.environ.get("DIETNERF_DATA", "nowhere")) / "nerf_synthetic/lego"
    if not root.is_dir():
        pytest.skip("$DIETNERF_DATA has no nerf_synthetic/lego")
    small = ["--data.reader.init_args.downscale", "32", *SMALL_FIELD]
    found = end_to_end(root, tmp_path, "--config", "fast", *small)
    assert found["train_view_ids"] == [26, 86, 2, 55, 75, 93, 16, 73]
    assert found["protocol"] == "Blender, 25 test views at 25x25 on white"
    assert found["mean"]["psnr"] > 5
