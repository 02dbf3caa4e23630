"""The reader of a folder by what lies in it."""

import json
from pathlib import Path

import pytest

from dietnerf.data import COLMAP, LLFF, Blender, Procedural, Transforms
from dietnerf.data.detect import find_reader
from dietnerf.errors import UserError
from tests.formats import write_blender, write_llff, write_transforms

SCENE = Procedural(resolution=8, n_train=3).read("train")


@pytest.mark.parametrize(
    ("write", "reader"),
    [
        (lambda scene, root: write_blender(scene, root, "train"), Blender),
        (write_transforms, Transforms),
        (write_llff, LLFF),
    ],
)
def test_formats_are_told_apart(write, reader: type, tmp_path: Path, monkeypatch):
    write(SCENE, tmp_path / "data/scene")
    assert find_reader(str(tmp_path / "data/scene")) == (reader, tmp_path / "data/scene")
    monkeypatch.chdir(tmp_path)
    assert find_reader("scene") == (reader, Path("data/scene"))
    monkeypatch.setenv("DIETNERF_DATA", str(tmp_path / "data"))
    monkeypatch.chdir("/")
    assert find_reader("scene") == (reader, tmp_path / "data/scene")


def test_a_listing_stands_for_its_folder(tmp_path: Path):
    write_transforms(SCENE, tmp_path / "scene")
    listing = str(tmp_path / "scene/transforms.json")
    assert find_reader(listing) == (Transforms, tmp_path / "scene")


def test_lists_by_split_with_a_lens_are_not_blenders(tmp_path: Path):
    content = {"camera_angle_x": 0.8, "fl_x": 9, "frames": [{"file_path": "a"}]}
    (tmp_path / "transforms_train.json").write_text(json.dumps(content))
    assert find_reader(str(tmp_path))[0] is Transforms


@pytest.mark.parametrize("name", ["sparse", "colmap"])
def test_a_model_of_colmap(name: str, tmp_path: Path):
    (tmp_path / name).mkdir()
    assert find_reader(str(tmp_path))[0] is COLMAP


def test_what_is_no_capture_is_said(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    for i in range(3):
        (tmp_path / f"photos/{i}.JPG").touch()
    (tmp_path / "film.mp4").touch()
    (tmp_path / "a.txt").touch()
    write_transforms(SCENE, tmp_path / "all/inside")
    (tmp_path / "empty").mkdir()
    sentences = {
        "nowhere": "there is no --scene",
        "photoss": f"did you mean {tmp_path}/photos?",
        "photos": r"photos holds 3 photos without poses: `dietnerf prepare .*photos SCENE`",
        "film.mp4": "film.mp4 is a video: `dietnerf prepare ",
        "a.txt": "is a file: name the folder",
        "all": "inside is: --scene .*inside",
        "empty": "holds no capture: none of transforms.json, ",
        ".": "is no capture|photos holds photos without poses",
    }
    for name, sentence in sentences.items():
        with pytest.raises(UserError, match=sentence):
            find_reader(str(tmp_path / name))


def test_almost_the_same_name_is_suggested_wherever_scenes_are(tmp_path: Path, monkeypatch):
    (tmp_path / "sets/real/carton").mkdir(parents=True)
    monkeypatch.setenv("DIETNERF_DATA", str(tmp_path / "sets"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"did you mean {tmp_path}/sets/real/carton"):
        find_reader("real/cartn")
