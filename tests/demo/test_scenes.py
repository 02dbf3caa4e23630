import errno
import json
import os
import shutil
import urllib.request
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from dietnerf.demo.scenes import LoadedScene, View, film, film_frames, find_scenes
from dietnerf.errors import UserError
from dietnerf.export import render

VIEW = View(30.0, 20.0, 4.0, 24)


def pixels(url: str) -> np.ndarray:
    with urllib.request.urlopen(url) as content:
        return iio.imread(content.read()).astype(int)


def test_checkpoints_are_found_and_named(finished_run: Path, tmp_path: Path):
    shutil.copytree(finished_run, tmp_path / "sub" / "nerf")
    found = find_scenes([str(tmp_path), "hf://someone/lego"])
    assert found["sub/nerf"] == str(tmp_path / "sub/nerf/checkpoints/last.ckpt")
    assert {"sub/nerf (best)", "sub/nerf (000004)", "hf://someone/lego"} <= set(found)
    assert next(iter(find_scenes([str(finished_run)]))) == finished_run.name
    alone = finished_run / "checkpoints" / "best.ckpt"
    assert list(find_scenes([str(alone)]).values()) == [str(alone)]


@pytest.mark.parametrize("folder", [".", "nowhere"])
def test_nothing_found_says_what_to_do(tmp_path: Path, folder: str):
    with pytest.raises(UserError, match=r"there is no checkpoint in .*; train a scene"):
        find_scenes([str(tmp_path / folder)])


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch):
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(UserError, match=f"{tmp_path}: Permission denied; name another"):
        find_scenes([str(tmp_path)])


def test_weights_of_another_model_are_one_sentence(finished_run: Path, tmp_path: Path):
    content = torch.load(finished_run / "checkpoints" / "last.ckpt", weights_only=True)
    name = next(name for name in content["state_dict"] if name.startswith("field."))
    del content["state_dict"][name]
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=rf"no scene that can be rendered .*{name}"):
        LoadedScene(str(tmp_path / "other.ckpt"))


def test_a_frame_is_what_render_py_writes(finished_run: Path, tmp_path: Path):
    scene = LoadedScene(str(finished_run))
    cameras = scene.camera(VIEW)
    frames = [{"transform_matrix": [*cameras.c2w[0].tolist(), [0, 0, 0, 1]]}]
    (tmp_path / "path.json").write_text(json.dumps({"frames": frames}))
    options = ["--path", "interpolate", "--poses", str(tmp_path / "path.json"), "--frames", "1"]
    options += ["--modes", "rgb", "depth"]
    out = tmp_path / "out"
    render.main([str(finished_run), *options, "--size", "24", "24", "--out", str(out)])
    frame = scene.frame(cameras)
    for mode in ("rgb", "depth"):
        written = iio.imread(out / f"{mode}_000.png").astype(int)
        shown = pixels(frame.urls[mode])
        if mode == "rgb":  # depth has a scale for all frames there
            assert abs(shown - written).max() <= 1
        assert shown.shape == written.shape == (24, 24, 3)


def test_a_second_scene_is_drawn_with_the_depths_of_the_first(finished_run: Path):
    scene = LoadedScene(str(finished_run))
    cameras = scene.camera(VIEW)
    own, given = scene.frame(cameras), scene.frame(cameras, depths=(1.0, 9.0))
    assert given.depths == (1.0, 9.0) != own.depths
    assert given.urls["depth"] != own.urls["depth"]
    assert given.urls["rgb"] == own.urls["rgb"]


def test_coarse_pictures_are_small_and_the_same_view(shown_run: Path):
    scene = LoadedScene(str(shown_run))
    cameras = scene.camera(View(0.0, 20.0, 4.0, 64))
    fine, coarse = (pixels(scene.frame(cameras, shrink).urls["rgb"]) for shrink in (1, 4))
    assert fine.shape == (64, 64, 3) and coarse.shape == (16, 16, 3)
    means = fine.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    assert abs(means - coarse).mean() < 15 < abs(means[:, ::-1] - coarse).mean()


@pytest.mark.parametrize("ending", [".gif", ".mp4"])
def test_a_film_of_two_scenes_side_by_side(finished_run: Path, tmp_path: Path, ending: str):
    scene = LoadedScene(str(finished_run))
    cameras = scene.turntable.full_turn(3, 0.3, 4.0)
    content = film(film_frames([scene, scene], cameras, ["rgb"]), ending, 10)
    (tmp_path / f"film{ending}").write_bytes(content)
    assert iio.imread(tmp_path / f"film{ending}").shape == (3, 16, 32, 3)


def test_scores_are_those_of_this_checkpoint(finished_run: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    assert LoadedScene(str(run)).results() is None
    results = {"checkpoint": "runs/x/checkpoints/last.ckpt", "mean": {"psnr": 30, "lpips": None}}
    (run / "metrics.json").write_text(json.dumps(results))
    found = LoadedScene(str(run)).results()
    assert found is not None and found.mean == {"psnr": 30.0}
    assert LoadedScene(str(run / "checkpoints" / "best.ckpt")).results() is None
    (run / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"metrics.json cannot be read"):
        LoadedScene(str(run)).results()


def test_what_is_no_checkpoint_of_the_folder_is_passed_over(finished_run: Path, tmp_path: Path):
    """A link must not show what lies elsewhere; a pipe would be waited for."""
    runs, last = tmp_path / "runs", finished_run / "checkpoints" / "last.ckpt"
    folder = runs / "a" / "checkpoints"
    folder.mkdir(parents=True)
    shutil.copyfile(last, folder / "last.ckpt")
    (folder / "best.ckpt").symlink_to("last.ckpt")
    (folder / "1.ckpt").symlink_to(last)
    (folder / "2.ckpt").symlink_to("2.ckpt")
    (folder / "3.ckpt").symlink_to("../../nowhere")
    (folder / "4.ckpt").mkdir()
    os.mkfifo(folder / "5.ckpt")
    (runs / "b").symlink_to(finished_run)
    assert set(find_scenes([str(runs)])) == {"a", "a (best)"}


def test_a_run_cannot_take_the_name_of_another(finished_run: Path, tmp_path: Path):
    shutil.copytree(finished_run, tmp_path / "a")
    shutil.copytree(finished_run, tmp_path / "a (best)")
    shutil.copytree(finished_run, tmp_path / "a (best)\x07")
    found = find_scenes([str(tmp_path)])
    assert len(set(found.values())) == len(list(tmp_path.rglob("*.ckpt")))
    assert all(name.isprintable() for name in found)
