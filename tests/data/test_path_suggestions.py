"""A message that something does not exist names what does."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from dietnerf.data import COLMAP, LLFF, Blender, Transforms
from dietnerf.errors import UserError
from tests.formats import write_blender, write_colmap, write_transforms


@pytest.fixture
def root(small_scene, tmp_path) -> Path:
    write_transforms(small_scene, tmp_path / "scene")
    return tmp_path / "scene"


def another_ending(root: Path) -> None:
    for path in (root / "images").iterdir():
        Image.open(path).convert("RGB").save(path.with_suffix(".JPG"))
        path.unlink()


def another_case(root: Path) -> None:
    for path in (root / "images").iterdir():
        path.rename(path.with_name(path.name.upper()))


def another_folder(root: Path) -> None:
    (root / "images").rename(root / "input")


def the_folder_above(root: Path) -> None:
    shutil.move(root / "images", root.parent / "images")


@pytest.mark.parametrize(
    ("change", "there"),
    [
        (another_ending, "scene/images/train_0.JPG"),
        (another_case, "scene/images/TRAIN_0.PNG"),
        (another_folder, "scene/input/train_0.png"),
        (the_folder_above, "images/train_0.png"),
    ],
)
def test_photos_that_are_elsewhere_are_named(root, change, there):
    change(root)
    with pytest.raises(UserError, match=r"none of the 4 .*, but .* does: correct the") as caught:
        Transforms(str(root)).cameras("train")
    assert str(root.parent / there) in str(caught.value)


def test_nothing_is_named_where_nothing_is_like_it(root):
    shutil.rmtree(root / "images")
    with pytest.raises(UserError, match=r"such as images/train_0.png: put them beside it"):
        Transforms(str(root)).cameras("train")


def test_a_mask_that_is_elsewhere_is_named(root):
    path = root / "transforms.json"
    content = json.loads(path.read_text())
    for frame in content["frames"]:
        frame["mask_path"] = frame["file_path"].replace("images", "masks").replace("png", "bmp")
    path.write_text(json.dumps(content))
    (root / "masks").mkdir()
    Image.new("L", (12, 12), 255).save(root / "masks/TRAIN_0.PNG")
    with pytest.raises(UserError, match=r"train_0.bmp, which does .*, but .*/TRAIN_0.PNG does"):
        Transforms(str(root)).cameras("train")


def test_images_of_blender_and_colmap_that_are_elsewhere_are_named(small_scene, tmp_path):
    write_blender(small_scene, tmp_path / "b", "train")
    (tmp_path / "b/train").rename(tmp_path / "b/Train")
    with pytest.raises(UserError, match=r"exist .as 4 of 4., but .*/b/Train/r_0.png does: correct"):
        Blender(str(tmp_path / "b")).cameras("train")
    write_colmap(small_scene, tmp_path / "c")
    (tmp_path / "c/images").rename(tmp_path / "c/photos")
    (tmp_path / "c/images").mkdir()
    with pytest.raises(UserError, match=r"none of the 4 .*, but .*/c/photos/train_0.png does"):
        COLMAP(str(tmp_path / "c")).cameras("train")


@pytest.mark.parametrize("given", ["", "scene/images", "SCENE", "scene/transforms.json"])
def test_a_folder_that_holds_the_scene_is_named(root, given):
    with pytest.raises(UserError, match="/scene holds one, so give that") as caught:
        Transforms(str(root.parent / given))
    assert str(root.parent / given) in str(caught.value)


def test_no_folder_is_named_where_none_is_like_it(tmp_path):
    with pytest.raises(UserError, match="give the folder that holds it, or set DIETNERF_DATA"):
        LLFF(str(tmp_path / "a/b"))
