import os
import shutil
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from dietnerf.data import LLFF, EvenViews, Procedural
from dietnerf.errors import UserError
from dietnerf.geometry.poses import face_one_way
from tests.formats import write_llff


@pytest.fixture(scope="module")
def scene():
    return Procedural(resolution=16, n_train=6).read("train")


@pytest.fixture
def root(scene, tmp_path):
    write_llff(scene, tmp_path / "scene")
    return tmp_path / "scene"


def edit(root, change):
    rows = np.load(root / "poses_bounds.npy")
    np.save(root / "poses_bounds.npy", change(rows))


def put(row, column, value):
    def change(rows):
        rows[row, column] = value
        return rows

    return change


def test_the_nearest_bound_comes_to_lie_at_one_by_bd_factor(root):
    cameras = LLFF(str(root), 1, bd_factor=0.75).cameras("train")
    torch.testing.assert_close(cameras.near, torch.full((5,), 0.9 / 0.75))
    torch.testing.assert_close(cameras.far, torch.full((5,), 3 / 0.75))


def test_the_mean_camera_is_recentered(root):
    cameras = LLFF(str(root), 1, hold_every=0).cameras("train")
    torch.testing.assert_close(cameras.positions.mean(dim=0), torch.zeros(3), atol=1e-6, rtol=0)
    mean = cameras.c2w[:, :, 2].mean(dim=0)
    torch.testing.assert_close(mean / mean.norm(), torch.tensor([0.0, 0, 1]), atol=1e-6, rtol=0)


def test_spherified_cameras_stand_around_the_origin_at_distance_one(root):
    cameras = LLFF(str(root), 1, hold_every=0, spherify=True).cameras("train")
    torch.testing.assert_close(cameras.positions.norm(dim=-1), torch.ones(6), atol=1e-3, rtol=0)
    assert cameras.positions[:, 2].mean() > 0.3
    torch.testing.assert_close(cameras.c2w[:, :, 2], cameras.positions, atol=5e-3, rtol=0)
    torch.testing.assert_close(cameras.near, torch.full((6,), 0.9 * 2 / 4), atol=1e-3, rtol=0)


def test_every_eighth_is_held_out(root):
    reader = LLFF(str(root), 1, hold_every=4)
    assert reader.read("train").names == ("image001", "image002", "image003", "image005")
    assert reader.read("test").names == ("image000", "image004")
    assert reader.read("val") is None


def test_the_smaller_copy_is_taken_that_is_large_enough(root, scene):
    (root / "images_4").mkdir()
    for path in (root / "images").iterdir():
        iio.imwrite(root / "images_4" / path.name, iio.imread(path)[::4, ::4])
    full = LLFF(str(root), 1).read("train")
    for downscale, size in {2: 8, 4: 4, 8: 2}.items():
        small = LLFF(str(root), downscale).read("train")
        assert small.images.shape[1:3] == (size, size)
        torch.testing.assert_close(small.cameras.focal, full.cameras.focal / downscale)
    assert torch.equal(LLFF(str(root), 4).read("train").images[0], scene.images[1, ::4, ::4])
    shutil.rmtree(root / "images")
    with pytest.raises(UserError, match=r"is 4x4, smaller than the 8x8 .*: use downscale=4$"):
        LLFF(str(root), 2).read("train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:, :15], r"17 numbers for each photo, got an array of shape \(6, 15\)"),
        (lambda rows: rows.ravel(), r"got an array of shape \(102,\)"),
        (lambda rows: rows[:0], r"got an array of shape \(0, 17\)"),
        (lambda rows: rows.astype(str), "must hold numbers, got <U"),
        (lambda rows: rows[:5], "has 5 rows, but .*images holds 6 photos"),
        (put(2, 3, np.nan), r"row 2 \(image002.png\) holds NaN or infinity"),
        (put(2, 16, np.inf), r"row 2 \(image002.png\) holds NaN or infinity"),
        (put(1, 15, 0.0), r"row 1 \(image001.png\): the bounds 0 and 6 must satisfy"),
        (put(1, 15, 1e-300), "the bounds 1e-300 and 6 must satisfy 0 < near < far"),
        (put(1, 15, 7.0), "the bounds 7 and 6 must satisfy 0 < near < far"),
        (put(4, 0, 9.0), r"row 4 \(image004.png\): the pose is not a rotation"),
        (lambda rows: rows * np.array([-1, 1, 1, 1, 1] * 3 + [1, 1]), "the pose mirrors the scene"),
        (put(0, 4, 0.0), "row 0 .*: the image size 16x0 is none"),
        (put(0, 14, -3.0), "row 0 .*focal length -3, -3 must be positive"),
        (put(0, 9, 20.0), r"image000.png is 16x16, but its camera is for 20x16"),
    ],
)
def test_wrong_rows_are_refused(root, change, message):
    edit(root, change)
    with pytest.raises(UserError, match=message):
        LLFF(str(root), 1, hold_every=0).read("train")


def test_all_wrong_rows_are_listed_together(root):
    edit(root, put(1, 15, -1.0))
    edit(root, put(2, 3, np.nan))
    with pytest.raises(UserError, match=r"(?s)scene has 2 problems.*row 1 .*row 2 "):
        LLFF(str(root), 1).read("train")


def test_broken_files_are_refused(root):
    content = (root / "poses_bounds.npy").read_bytes()
    for broken in (b"", content[:40], content[:-9], b"not an array"):
        (root / "poses_bounds.npy").write_bytes(broken)
        with pytest.raises(UserError, match=r"poses_bounds.npy cannot be read as a NumPy array"):
            LLFF(str(root), 1).read("train")
    shutil.rmtree(root / "images")
    np.save(root / "poses_bounds.npy", np.ones((6, 17)))
    with pytest.raises(UserError, match=r"has no folder images, nor a smaller copy"):
        LLFF(str(root), 1).read("train")


def test_wrong_options_are_refused(root):
    with pytest.raises(UserError, match="bd_factor must be positive, got 0"):
        LLFF(str(root), bd_factor=0)
    with pytest.raises(UserError, match=r"no poses_bounds.npy for root="):
        LLFF(str(root / "images"))


FERN = Path(os.environ.get("DIETNERF_DATA", "")) / "nerf_llff_data" / "fern"


@pytest.mark.skipif(
    not (os.environ.get("DIETNERF_DATA") and FERN.is_dir()),
    reason="DIETNERF_DATA names no folder that holds nerf_llff_data/fern",
)
def test_fern_follows_the_protocol_of_few_view_tables():
    reader = LLFF("nerf_llff_data/fern")
    test, cameras = reader.read("test"), reader.cameras("train")
    assert test.names == ("image000", "image008", "image016")
    assert test.images.shape == (3, 378, 504, 3)
    assert cameras.focal[0, 0] == pytest.approx(3260.526 / 8, abs=1e-2)
    assert len(cameras) == 17
    assert face_one_way(cameras)
    assert EvenViews(3).choose(cameras, torch.arange(17)) == [0, 8, 16]
    assert EvenViews(6).choose(cameras, torch.arange(17)) == [0, 3, 6, 10, 13, 16]
    upward = cameras.c2w[:, :, 1].mean(dim=0)
    assert upward[1] > 0.95
