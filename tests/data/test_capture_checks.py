"""Broken captures are refused or warned of before training; good ones pass without a word."""

from dataclasses import replace

import pytest
import torch

from dietnerf.data import Blender, ImageDataset, Procedural
from dietnerf.data.capture_checks import doubts
from dietnerf.errors import UserError
from tests.formats import write_blender
from tests.helpers import fit, refused


@pytest.fixture(scope="module")
def scene() -> ImageDataset:
    return Procedural(resolution=12, n_train=6).read("train")


def seen_from(scene: ImageDataset, near: float, far: float) -> ImageDataset:
    n = len(scene)
    cameras = replace(scene.cameras, near=torch.full((n,), near), far=torch.full((n,), far))
    return replace(scene, cameras=cameras)


def posed(scene: ImageDataset, c2w: torch.Tensor) -> ImageDataset:
    return replace(scene, cameras=replace(scene.cameras, c2w=c2w))


@pytest.mark.parametrize("keep", [[0], [0, 1], [0, 2, 4], list(range(6))])
def test_good_captures_pass_without_a_word(scene, keep):
    assert doubts(scene.subset(keep)) == []


@pytest.mark.parametrize(("near", "far"), [(0.01, 0.02), (200.0, 200.1)])
def test_near_and_far_that_hold_nothing_are_refused_with_the_distance(scene, near, far):
    with pytest.raises(UserError, match=r"0% of the pixels of the 6 .*some 4\.?\d* away: set the "):
        doubts(seen_from(scene, near, far))


def test_near_and_far_that_hold_little_are_warned_of(scene):
    (sentence,) = doubts(replace(seen_from(scene, 1.5, 2.5), depths=None).subset([0, 1, 2]))
    assert "near 1.5 and far 2.5" in sentence and "check the poses" in sentence


def test_cameras_that_do_not_move_are_refused(scene):
    with pytest.raises(UserError, match="all 6 training views have one and the same pose"):
        doubts(posed(scene, scene.cameras.c2w[:1].expand(6, 3, 4)))


def test_cameras_that_turn_on_the_spot_are_warned_of(scene):
    c2w = scene.cameras.c2w.clone()
    angles = torch.arange(6) * 0.1
    turns = torch.zeros(6, 3, 3)
    turns[:, 0, 0], turns[:, 1, 1], turns[:, 2, 2] = angles.cos(), 1.0, angles.cos()
    turns[:, 0, 2], turns[:, 2, 0] = angles.sin(), -angles.sin()
    c2w[:, :, :3], c2w[:, :, 3] = turns, 0.0
    (sentence,) = doubts(replace(posed(scene, c2w), depths=None))
    assert "all 6 training views were taken from one place" in sentence


def test_depth_maps_in_another_unit_are_warned_of(scene):
    (sentence,) = doubts(replace(scene, depths=scene.depths * 1e-3))
    assert "median of 0.00" in sentence and "outside of which 100% of them lie" in sentence
    assert "depth_unit" in sentence


def test_fit_refuses_before_it_writes_anything(tmp_path, capsys):
    write_blender(Procedural(resolution=12, n_train=4).read("train"), tmp_path / "toy", "train")
    reader = ["--data.views", "dietnerf.data.AllViews", "--data.reader", "dietnerf.data.Blender"]
    for name, value in (("root", tmp_path / "toy"), ("near", 100.0), ("far", 100.1)):
        reader += [f"--data.reader.init_args.{name}", str(value)]
    message = refused(capsys, lambda args: fit(tmp_path / "run", *args), *reader)
    assert "near 100 and far 100" in message and "set the reader's near and far" in message
    assert not (tmp_path / "run").exists()


def test_fit_says_at_what_size_it_trains(tmp_path, capsys):
    write_blender(Procedural(resolution=12, n_train=4).read("train"), tmp_path / "toy", "train")
    reader = ["--data.views", "dietnerf.data.AllViews", "--data.reader", "dietnerf.data.Blender"]
    reader += ["--data.reader.init_args.downscale", "2"]
    fit(tmp_path / "run", *reader, "--data.reader.init_args.root", str(tmp_path / "toy"))
    said = capsys.readouterr().out
    assert "training views of 6x6 (the reader's downscale is 2), near 2, far 6" in said


def test_a_principal_point_far_off_is_warned_of(scene, tmp_path):
    write_blender(scene, tmp_path, "train")
    path = tmp_path / "transforms_train.json"
    path.write_text(path.read_text().replace("{", '{"cx": 10, "cy": 6,', 1))
    with pytest.warns(UserWarning, match="far off the middle, such as 10, 6 in 12x12"):
        Blender(str(tmp_path)).cameras("train")
