"""The examples do what their first lines say."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import imageio.v3 as imageio
import numpy as np
import pytest
import torch

from dietnerf.data import Procedural
from dietnerf.errors import UserError
from dietnerf.fields import AbstractField
from dietnerf.geometry.rays import Samples
from tests.helpers import fit

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def examples_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)


def imported(name: str) -> ModuleType:
    return import_module(name)


def psnr_after(n_steps: int, make_field: Callable[[], AbstractField | None], size: int) -> float:
    """Of the first test view, once the plain loop took some steps."""
    minimal, reader = imported("minimal"), Procedural(resolution=size, n_train=8)
    run = minimal.fit(reader.read("train"), n_steps, samples_per_step=16384, field=make_field())
    return minimal.psnr_of(run, reader.read("test"), 0)


def test_the_plain_loop_fits_the_scene():
    before, after = (psnr_after(n, lambda: None, 64) for n in (1, 150))
    assert after > before + 4 and after > 17


def test_the_plain_loop_needs_no_lightning():
    code = "import sys, minimal; sys.exit('pytorch_lightning' in sys.modules)"
    path = f"{EXAMPLES}{os.pathsep}{EXAMPLES.parent}"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": path})


def test_the_plain_loop_prints_the_psnr_of_a_test_view(capsys):
    imported("minimal").main(["--steps", "1", "--size", "16"])
    assert capsys.readouterr().out.splitlines()[-1].startswith("test view 0: ")


def test_a_run_trains_with_the_custom_loss(tmp_path: Path):
    option = "{class_path: custom_loss.ColorDistance, init_args: {weight: 0.5}}"
    fit(tmp_path / "run", "--model.losses+", option)
    config = (tmp_path / "run/config.yaml").read_text()
    assert "custom_loss.ColorDistance" in config and "weight: 0.5" in config


def test_the_custom_loss_is_the_mean_distance_of_colors():
    loss = imported("custom_loss").ColorDistance()
    step = type("RayLossInput", (), {})()
    step.rendering = type("Rendering", (), {"rgb": torch.tensor([[0.2, 0.4, 0.6]])})()
    step.target = torch.tensor([[0.5, 0.4, 0.3]])
    torch.testing.assert_close(loss(step), torch.tensor(0.18).sqrt(), atol=1e-5, rtol=0)


def samples_at(points: list[list[float]]) -> Samples:
    positions = torch.tensor(points)
    return Samples.at(positions, torch.ones(len(positions)))


def test_the_custom_field_is_empty_outside_and_interpolates_inside():
    field = imported("custom_field").VoxelGrid(resolution=3, half_side=1.0)
    with torch.no_grad():
        field.values[0, 0, 1, 1, 2] = 1.0  # at x = 1, y = z = 0
    sigmas, _ = field.density(samples_at([[1, 0, 0], [0.5, 0, 0], [1.5, 0, 0]]))
    expected = torch.nn.functional.softplus(torch.tensor([10.0, 5.0]))
    torch.testing.assert_close(sigmas, torch.cat([expected, torch.zeros(1)]))


def test_the_custom_field_learns_a_scene():
    voxels = imported("custom_field").VoxelGrid
    before, after = (psnr_after(n, lambda: voxels(resolution=32), 32) for n in (1, 150))
    assert after > before + 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photographs with their cameras."""
    scene = Procedural(resolution=16, n_train=3).read("train")
    for i, image in enumerate(scene.images):
        imageio.imwrite(tmp_path / f"{i}.png", image.numpy())
    names = ("c2w", "focal", "center", "near", "far")
    cameras = {name: getattr(scene.cameras, name).numpy() for name in names}
    np.savez(tmp_path / "cameras.npz", **cameras)
    return tmp_path


def test_the_custom_reader_reads_what_was_written(folder: Path):
    reader = imported("custom_reader").NPZ(str(folder))
    train, test = reader.read("train"), reader.read("test")
    written = Procedural(resolution=16, n_train=3).read("train")
    assert torch.equal(torch.cat([train.images, test.images]), written.images)
    read, expected = test.cameras.image_rays(0), written.cameras.image_rays(2)
    torch.testing.assert_close(read.rays_d, expected.rays_d)
    assert train.names == ("0", "1") and test.names == ("2",) and reader.read("val") is None


def test_the_custom_reader_says_what_a_folder_lacks(tmp_path: Path):
    with pytest.raises(UserError, match=r"needs cameras\.npz and two PNGs"):
        imported("custom_reader").NPZ(str(tmp_path)).read("train")


def test_a_run_trains_on_what_the_custom_reader_reads(folder: Path, tmp_path: Path):
    reader = {"class_path": "custom_reader.NPZ", "init_args": {"root": str(folder)}}
    options = ("--data.reader", json.dumps(reader), "--data.views.init_args.n", "2")
    fit(tmp_path / "run", *options)
    assert (tmp_path / "run/checkpoints/last.ckpt").is_file()
