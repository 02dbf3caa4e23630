"""A trained scene in Python: loaded without a framework, and rendered to images."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import dietnerf
from dietnerf.errors import UserError
from dietnerf.renderer import render_image
from dietnerf.runs.checkpoints import find_checkpoint

PROGRAM = """
import sys
import dietnerf
image = (scene := dietnerf.load(sys.argv[1])).render(scene.cameras["test"][[1]]).numpy()
print(image["rgb"].shape, image["depth"].shape, image["opacity"].dtype, float(image["rgb"].mean()))
heavy = {"pytorch_lightning", "torchmetrics", "open_clip", "huggingface_hub", "jsonargparse"}
print(sorted(heavy & sys.modules.keys()))
"""


def test_a_run_is_loaded_and_rendered_without_a_framework(finished_run: Path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(finished_run)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    scene = dietnerf.load(finished_run)
    assert scene.camera_set is not None
    camera = scene.cameras["test"][[1]]
    n = camera.height, camera.width
    *shapes, mean = first.rsplit(" ", 1)
    assert shapes == [f"{(*n, 3)} {n} float32"]
    assert float(mean) == pytest.approx(float(scene.render(camera).rgb.mean()), abs=1e-6)
    assert second == "[]"


def test_an_image_is_what_the_field_shows(finished_run: Path):
    scene = dietnerf.load(find_checkpoint(finished_run))
    cameras, black = scene.cameras["test"], torch.zeros(3)
    image = scene.render(cameras[[0]], black)
    expected = render_image(cameras, 0, scene.field, scene.sampler, black)
    assert torch.equal(image.rgb.view(-1, 3), expected.rgb)
    assert torch.equal(image.depth.flatten(), expected.depth)
    assert torch.equal(image.opacity.flatten(), expected.opacity)
    white = scene.render(cameras[[0]], torch.ones(3))
    torch.testing.assert_close(
        white.rgb - image.rgb, (1 - image.opacity)[..., None].expand_as(white.rgb)
    )


def test_a_path_gives_an_image_for_each_camera(finished_run: Path):
    scene = dietnerf.load(str(finished_run))
    cameras = scene.cameras["test"]
    images = list(scene.render_path(cameras))
    assert len(images) == len(cameras)
    assert torch.equal(images[1].rgb, scene.render(cameras[[1]]).rgb)


def test_several_cameras_are_refused_in_a_sentence(finished_run: Path):
    scene = dietnerf.load(finished_run)
    with pytest.raises(ValueError, match=r"expected one camera, got .*; use render_path"):
        scene.render(scene.cameras["test"])


def test_what_is_no_run_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=f"there is no checkpoint at {tmp_path}"):
        dietnerf.load(tmp_path)


def test_a_damaged_file_that_is_named_is_refused(finished_run: Path, tmp_path: Path):
    content = bytearray(find_checkpoint(finished_run).read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged.ckpt is damaged: its checksums do not hold"):
        dietnerf.load(damaged)
