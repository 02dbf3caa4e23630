"""Listings that lie about their size, and names that no file has."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from dietnerf.data import LLFF, Blender, Procedural, Transforms
from dietnerf.data.arrays import read_array
from dietnerf.data.error_collector import ErrorCollector
from dietnerf.data.files import find_image, list_images, read_object
from dietnerf.errors import UserError
from tests.formats import write_blender, write_llff, write_transforms


def test_a_hole_is_no_listing(tmp_path: Path):
    (tmp_path / "transforms.json").write_text("{")
    os.truncate(tmp_path / "transforms.json", 20 * 10**9)
    with pytest.raises(UserError, match=r"transforms.json has 20,000 MB, and 67 MB are the most"):
        read_object(tmp_path / "transforms.json")


@pytest.mark.parametrize("value", ["[],", '"a",', "{},"])
def test_a_listing_of_millions_of_values_is_not_taken_apart(value: str, tmp_path: Path):
    (tmp_path / "transforms.json").write_text('{"frames": [' + value * 4_000_001 + "0]}")
    with pytest.raises(UserError, match=r"holds more than 4000000 values"):
        read_object(tmp_path / "transforms.json")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_listings_are_read_in_the_encodings_of_json(encoding: str, tmp_path: Path):
    (tmp_path / "listing.json").write_text('{"ä": 1}', encoding=encoding)
    assert read_object(tmp_path / "listing.json") == {"ä": 1}


ARRAYS = {
    "a header of 4 GB": b"\x93NUMPY\2\0" + struct.pack("<I", 4 * 10**9),
    "numbers that are not there": b"",
}


@pytest.mark.parametrize("content", ARRAYS.values(), ids=ARRAYS)
def test_an_array_that_says_more_than_it_has(content: bytes, tmp_path: Path):
    path = tmp_path / "numbers.npy"
    np.save(path, np.zeros((1000, 17)))
    path.write_bytes(content or path.read_bytes()[:-1])
    if content:
        os.truncate(path, 5 * 10**9)
    with pytest.raises(UserError, match=r"numbers.npy cannot be read as a NumPy array"):
        read_array(path, 17_000)


def test_names_of_many_folders_are_not_looked_for(tmp_path: Path, monkeypatch):
    looked = []
    monkeypatch.setattr(Path, "is_dir", lambda path: looked.append(path))
    monkeypatch.setattr(Path, "is_file", lambda path: looked.append(path))
    for name in ("/" + "a/" * 2000 + "x.png", "a/" * 100 + "x.png", "x" * 10**6):
        assert find_image(tmp_path, name) is None
    assert looked == []
    assert find_image(tmp_path, "/" + "a/" * 50 + "x") is None
    assert len(looked) < 200, "of thousands of names those are left out whose folder is not there"


def test_a_folder_of_the_name_without_its_ending_is_passed_over(tmp_path: Path):
    (tmp_path / "view").mkdir()
    (tmp_path / "view.png").touch()
    assert find_image(tmp_path, "view") == tmp_path / "view.png"


@pytest.mark.parametrize("target", ["nowhere.png", "a.png"], ids=["nowhere", "itself"])
def test_a_link_to_nothing_is_named(target: str, tmp_path: Path):
    (tmp_path / "a.png").symlink_to(target)
    with pytest.raises(UserError, match=r"a.png cannot be read: (No such|Too many)"):
        list_images(tmp_path)


class Sentence(str):
    """One that counts how often it is compared."""

    n_compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Sentence.n_compared += 1
        return str.__eq__(self, other)


def test_problems_are_collected_however_many_there_are():
    problems = ErrorCollector(Path("scene"))
    for i in range(3000):
        problems.add(Sentence(f"frame {i}"))
        problems.add(Sentence("frame 0"))
    assert Sentence.n_compared < 10_000, "their number counts, not its square"
    with pytest.raises(UserError, match=r"^scene has 3000 problems:") as error:
        problems.stop()
    _, *sentences, more = error.value.args
    assert sentences == [f"frame {i}" for i in range(20)] and more == "and 2980 more"


EVIL = ["\x1b[31mred\x07.png", "two\nlines.png", "-rf.png", "a" * 251 + ".png", "\u202egnp.png"]
CALLED = (r"\x1b[31mred\x07", r"two\nlines", "-rf", "a" * 100, r"\u202egnp")


@pytest.mark.parametrize("kind", ["transforms", "blender", "llff"])
def test_views_are_called_what_a_terminal_can_show(kind: str, tmp_path: Path):
    scene = Procedural(resolution=8, n_train=5).read("train")
    if kind == "llff":
        write_llff(scene, tmp_path)
        for path, name in zip(sorted((tmp_path / "images").iterdir()), EVIL, strict=True):
            path.rename(path.with_name(name))
        found = LLFF(str(tmp_path), 1, 0).read("train")
        assert set(found.names) == set(CALLED)
        return
    listing = tmp_path / f"transforms{'_train' if kind == 'blender' else ''}.json"
    if kind == "blender":
        write_blender(scene, tmp_path, "train")
    else:
        write_transforms(scene, tmp_path)
    content = json.loads(listing.read_text())
    for frame, name in zip(content["frames"], EVIL, strict=True):
        (tmp_path / frame["file_path"]).with_suffix(".png").rename(tmp_path / name)
        frame["file_path"] = name
    listing.write_text(json.dumps(content))
    reader = (
        Blender(str(tmp_path)) if kind == "blender" else Transforms(str(tmp_path), hold_every=0)
    )
    assert set(reader.read("train").names) == set(CALLED)


def test_names_that_are_no_utf_8_are_read(tmp_path: Path):
    write_llff(Procedural(resolution=8, n_train=3).read("train"), tmp_path)
    images = tmp_path / "images"
    try:
        os.rename(images / "image000.png", os.fsencode(images) + b"/\xff.png")
        os.rename(images / "image001.png", os.fsencode(images) + b"/\xfe.png")
    except OSError:
        pytest.skip("no such names on this disk")
    found = LLFF(str(tmp_path), 1, 0).read("train")
    assert sorted(found.names) == [r"\udcfe", r"\udcff", "image002"]
