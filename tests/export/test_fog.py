"""What is said of a scene that is fog, and of none that is not."""

import warnings
from pathlib import Path

import pytest
import torch

from dietnerf.data import CameraSet, Procedural
from dietnerf.export import render
from dietnerf.export.command import main as export
from dietnerf.export.fog import Fog, relative_extent, warn_of_fog
from dietnerf.geometry.rays import Rays, Rendering, Samples
from dietnerf.runs.checkpoints import find_checkpoint, load_scene
from dietnerf.sampling import Stratified
from dietnerf.scene_model import SceneModel
from tests.helpers import Ball


def seen(radius: float, sigma: float) -> SceneModel:
    """A ball of some density amid the cameras of the toy scene, 4 away from it."""
    scene = SceneModel(Ball(radius, sigma), Stratified(n_samples=128))
    cameras = Procedural(resolution=32, n_train=4).cameras("train")
    scene.camera_set = CameraSet({"train": cameras}, {"train": [0, 1, 2, 3]}, torch.ones(3))
    return scene.eval()


def test_surfaces_are_none():
    fog = Fog.of(seen(1.0, 50.0))
    assert fog.faint < 0.02 and fog.thick < 0.02 and not fog.is_dense


def test_what_stops_some_of_the_light_is_faint():
    fog = Fog.of(seen(1.5, 0.4))
    assert fog.faint > 0.4 and fog.is_dense


def test_what_stops_it_over_a_long_way_is_thick():
    """Though it is opaque: in 2.2 the light of a ray falls to a ninth of itself."""
    fog = Fog.of(seen(1.9, 1.0))
    assert fog.thick > 0.5 and fog.is_dense
    with pytest.warns(UserWarning, match=r"the scene is fog, and so will be the film: \d+% of"):
        warn_of_fog(seen(1.9, 1.0), "the film")


def test_the_extent_of_light_along_a_ray():
    """A tenth of it at each of ten samples, all at one, and none at all."""
    ts = torch.arange(1.0, 11.0)
    offsets = torch.tensor([0, 10, 20, 20, 30])
    rays = Rays(torch.zeros(4, 3), torch.ones(4, 3), torch.zeros(4), torch.full((4,), 11.0))
    weights = torch.cat([torch.full((10,), 0.1), torch.eye(10)[3], torch.zeros(10)])
    samples = Samples(rays, ts.repeat(3), torch.ones(30), offsets)
    nothing = torch.zeros(4)
    found = relative_extent(Rendering(torch.zeros(4, 3), nothing, nothing, weights, samples))
    assert found[0].item() == pytest.approx((9 - 1) / 5, abs=0.4)
    assert found[1:].tolist() == [0, 0, 0]


@pytest.mark.parametrize("command", ["film", "mesh", "points"])
def test_it_is_said_before_anything_is_made_of_it(
    command: str, finished_run: Path, shown_run: Path, tmp_path: Path
):
    """After twelve steps, and not after five hundred."""

    def make(run: Path) -> None:
        if command == "film":
            render.main([str(run), "--frames", "2", "--out", str(tmp_path / "x.gif")])
        elif command == "points":
            export(["points", str(run), "--out", str(tmp_path / "x.ply"), "--frames", "2"])
        else:
            words = ["--resolution", "16", "--out", str(tmp_path / "x.ply"), "--smallest", "0"]
            export(["mesh", str(run), *words, "--level", "0.0001"])

    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the scene is fog")
        make(shown_run)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            make(finished_run)
        except SystemExit:  # nothing of it may be solid
            assert command != "film"
    assert any("the scene is fog" in str(one.message) for one in said)
    assert not Fog.of(load_scene(find_checkpoint(shown_run))).is_dense
