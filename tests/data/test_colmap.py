import shutil
from dataclasses import replace

import imageio.v3 as iio
import pytest
import torch

from dietnerf.data import COLMAP
from dietnerf.errors import UserError
from dietnerf.geometry.lenses import COEFFICIENTS
from tests.formats import write_colmap

AS_IT_IS = {"hold_every": 0, "orient": False, "scale": False}


@pytest.fixture
def root(small_scene, tmp_path):
    """Four views of 12x12 pixels with a text model."""
    write_colmap(small_scene, tmp_path / "scene", is_binary=False)
    return tmp_path / "scene"


@pytest.fixture
def binary_root(small_scene, tmp_path):
    write_colmap(small_scene, tmp_path / "binary", torch.rand(20, 3) - 0.5)
    return tmp_path / "binary"


def edit(root, name, old, new):
    path = root / "sparse/0" / f"{name}.txt"
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))


def read(root, split="train", **options):
    return COLMAP(str(root), **AS_IT_IS | options).read(split)


@pytest.mark.parametrize(
    ("line", "focal", "lens", "is_fisheye"),
    [
        ("SIMPLE_PINHOLE 12 12 20 6 5", [20, 20], {}, False),
        ("PINHOLE 12 12 20 21 6 5", [20, 21], {}, False),
        ("SIMPLE_RADIAL 12 12 20 6 5 0.1", [20, 20], {"k1": 0.1}, False),
        ("RADIAL 12 12 20 6 5 0.1 0.2", [20, 20], {"k1": 0.1, "k2": 0.2}, False),
        (
            "OPENCV 12 12 20 21 6 5 0.1 0.2 0.003 0.004",
            [20, 21],
            {"k1": 0.1, "k2": 0.2, "p1": 0.003, "p2": 0.004},
            False,
        ),
        (
            "OPENCV_FISHEYE 12 12 20 21 6 5 0.1 0.02 0.003 0.004",
            [20, 21],
            {"k1": 0.1, "k2": 0.02, "k3": 0.003, "k4": 0.004},
            True,
        ),
        (
            "FULL_OPENCV 12 12 20 21 6 5 0.1 0.2 0.003 0.004 0.01 0.02 0.03 0.04",
            [20, 21],
            {"k1": 0.1, "k2": 0.2, "p1": 0.003, "p2": 0.004, "k3": 0.01}
            | {"q1": 0.02, "q2": 0.03, "q3": 0.04},
            False,
        ),
        ("SIMPLE_RADIAL_FISHEYE 12 12 20 6 5 0.1", [20, 20], {"k1": 0.1}, True),
        ("RADIAL_FISHEYE 12 12 20 6 5 0.1 0.2", [20, 20], {"k1": 0.1, "k2": 0.2}, True),
    ],
)
def test_all_camera_models(root, line, focal, lens, is_fisheye):
    """One camera of each model beside the pinholes of the other views."""
    path = root / "sparse/0/cameras.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], f"2 {line}", *lines[3:]]))
    cameras = read(root).cameras
    assert cameras.focal[1].tolist() == focal
    assert cameras.center[1].tolist() == [6, 5]
    if not lens:
        assert cameras.distortion is None
        return
    expected = torch.tensor([lens.get(name, 0.0) for name in COEFFICIENTS])
    assert torch.equal(cameras.distortion[1], expected)
    assert cameras.is_fisheye.tolist() == [False, is_fisheye, False, False]
    assert not cameras.distortion[[0, 2, 3]].any()


def test_views_of_unlike_size_share_a_canvas(root, small_scene):
    edit(root, "cameras", "2 PINHOLE 12 12", "2 PINHOLE 8 10")
    path = root / "images/train_1.png"
    iio.imwrite(path, iio.imread(path)[:10, :8])
    scene = read(root)
    assert scene.masks.sum(dim=(1, 2)).tolist() == [144, 80, 144, 144]
    assert torch.equal(scene.images[1, :10, :8], small_scene.images[1, :10, :8])
    assert torch.equal(scene.cameras.focal, small_scene.cameras.focal)


def test_views_are_held_out_and_come_by_name(root):
    assert read(root, hold_every=2).names == ("train_1", "train_3")
    assert read(root, "test", hold_every=2).names == ("train_0", "train_2")


def test_the_largest_model_is_taken(root, small_scene):
    (root / "sparse/0").rename(root / "sparse/1")
    write_colmap(small_scene.subset([0, 1]), root, is_binary=False)
    assert len(read(root)) == 4


def test_smaller_copies_may_have_another_ending(root):
    (root / "images_2").mkdir()
    for path in (root / "images").iterdir():
        image = iio.imread(path)[::2, ::2, :3]
        iio.imwrite(root / "images_2" / path.with_suffix(".jpg").name, image)
    scene = read(root, downscale=2)
    assert scene.images.shape == (4, 6, 6, 3)


def test_missing_photos_are_counted(root):
    (root / "images/train_2.png").unlink()
    with pytest.warns(UserWarning, match="1 of the 4 images that .*sparse/0 lists do not exist"):
        assert len(read(root)) == 3
    shutil.rmtree(root / "images")
    (root / "images").mkdir()
    with pytest.raises(UserError, match=r"none of the 4 images that .* lists exists"):
        read(root)


def test_points_that_were_placed_badly_do_not_count(binary_root, small_scene):
    known = int((read(binary_root).depths > 0).sum())
    assert known > 40
    write_colmap(small_scene, binary_root.with_name("text"), torch.rand(20, 3) - 0.5, False)
    root = binary_root.with_name("text")
    edit(root, "points3D", "128 128 128 0.5", "128 128 128 2.5")
    assert read(root).depths is None


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
@pytest.mark.parametrize("keep", [0, 7, 30, -1])
def test_a_file_cut_short_is_named(binary_root, name, keep):
    path = binary_root / f"sparse/0/{name}.bin"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=rf"{name}.bin is cut short or not a file of COLMAP"):
        read(binary_root)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("cameras", "PINHOLE", "FOV", "cameras.txt is cut short .*camera model FOV has 4 param"),
        ("cameras", "PINHOLE", "NEW_LENS", "camera of model NEW_LENS, which is none of SIMPLE_PI"),
        ("cameras", "2 PINHOLE 12 12", "2 PINHOLE 12 0", "image size 12x0 .* must be positive"),
        ("cameras", "2 PINHOLE 12 12", "2 PINHOLE 12 nine", "cameras.txt is cut short or not a fi"),
        ("cameras", "2 PINHOLE 12 12 ", "2 PINHOLE 12 12 -", "image train_1.png: .*focal length -"),
        ("cameras", "2 PINHOLE 12 12 ", "2 PINHOLE 12 12 nan 3 ", "cameras.txt is cut short .*has"),
        ("cameras", "2 PINHOLE 12 12", "2 PINHOLE 12 24", "is 12x12, but its camera is for 12x24"),
        ("images", "2 train_1.png", "9 train_1.png", "train_1.png has camera 9, which is not list"),
        ("images", "train_1.png", "train_2.png", "lists train_2.png twice"),
        ("images", "\n2 -", "\n2 -9", "train_1.png: its quaternion has length"),
        ("images", "\n2 ", "\n2 nan ", "images.txt is cut short or not a file of COLMAP"),
    ],
)
def test_wrong_models_are_refused(root, name, old, new, message):
    edit(root, name, old, new)
    with pytest.raises(UserError, match=message):
        read(root)


def test_a_folder_without_a_model_is_refused(root, small_scene):
    (root / "sparse/0/images.txt").unlink()
    with pytest.raises(UserError, match="holds no model of COLMAP, which is cameras and images"):
        read(root)
    empty = replace(small_scene.subset([0]), names=())
    write_colmap(empty, root)
    with pytest.raises(UserError, match="has no images: COLMAP placed none"):
        read(root)
    with pytest.raises(UserError, match="no sparse or colmap or dense or cameras"):
        COLMAP(str(root / "images"))
