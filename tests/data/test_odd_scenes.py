"""Scenes with something odd in them, as no program writes it: they are read, or one sentence says
what is wrong."""

import io
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dietnerf.data import (
    COLMAP,
    LLFF,
    AbstractReader,
    Blender,
    ImageDataset,
    Procedural,
    Transforms,
)
from dietnerf.errors import UserError
from tests.formats import write_blender, write_colmap, write_llff, write_transforms

N_VIEWS, SIDE = 4, 8
PHOTO = "images/train_0.png"


@pytest.fixture(scope="module")
def views() -> ImageDataset:
    return Procedural(resolution=SIDE, n_train=N_VIEWS).read("train")


FORMATS: dict[
    str, tuple[Callable[[ImageDataset, Path], None], Callable[[Path], AbstractReader]]
] = {
    "transforms": (write_transforms, lambda root: Transforms(str(root), hold_every=0)),
    "blender": (lambda scene, root: write_blender(scene, root, "train"), lambda r: Blender(str(r))),
    "llff": (write_llff, lambda root: LLFF(str(root), 1, 0)),
    "binary": (
        lambda scene, root: write_colmap(scene, root, torch.rand(30, 3) - 0.5),
        lambda root: COLMAP(str(root), hold_every=0),
    ),
    "text": (
        lambda scene, root: write_colmap(scene, root, torch.rand(30, 3) - 0.5, is_binary=False),
        lambda root: COLMAP(str(root), hold_every=0),
    ),
}


def listing(**values: object) -> Callable[[Path], None]:
    """Set keys of the first frame."""

    def change(root: Path) -> None:
        content = json.loads((root / "transforms.json").read_text())
        content["frames"][0] |= values
        (root / "transforms.json").write_text(json.dumps(content))

    return change


def text(old: str, new: str, name: str = "transforms.json") -> Callable[[Path], None]:
    def change(root: Path) -> None:
        content = (root / name).read_text()
        assert old in content
        (root / name).write_text(content.replace(old, new))

    return change


def photo(content: bytes) -> Callable[[Path], None]:
    return lambda root: (root / PHOTO).write_bytes(content) and None


def rows(change: Callable[[np.ndarray], Any]) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        with (root / "poses_bounds.npy").open("r+b") as file:
            values = change(np.load(file))
            file.seek(0)
            file.truncate()
            (np.savez if isinstance(values, dict) else np.save)(file, values)

    return write


def depth(value: float) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        np.save(root / "depth.npy", np.full((SIDE, SIDE), value))
        listing(depth_file_path="depth.npy", integer_depth_scale=1e10)(root)

    return write


def picture(form: str, **options: object) -> bytearray:
    content = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), "gray").save(content, form, **options)
    return bytearray(content.getvalue())


def patched(content: bytearray, place: int, value: bytes) -> bytes:
    content[place : place + len(value)] = value
    return bytes(content)


def looping_tiff() -> bytes:
    content = picture("TIFF")
    (start,) = struct.unpack_from("<I", content, 4)
    (n_tags,) = struct.unpack_from("<H", content, start)
    return patched(content, start + 2 + 12 * n_tags, struct.pack("<I", start))


def overlapping_tiff() -> bytes:
    """Tags, each of which has most of the file for its value."""
    tags = b"".join(struct.pack("<HHII", 1000 + i, 7, 500_000, 8) for i in range(20))
    return (b"II*\0" + struct.pack("<IH", 8, 20) + tags + bytes(4)).ljust(600_000, b"\0")


def large_frame() -> bytes:
    content = picture("GIF")
    return patched(content, content.index(b",", 13) + 5, struct.pack("<HH", 65535, 65535))


def twins(root: Path) -> None:
    """Two files whose names differ in how an accent is written alone."""
    content = json.loads((root / "transforms.json").read_text())
    for frame, name in zip(content["frames"], ("e\u0301.png", "\u00e9.png"), strict=False):
        (root / frame["file_path"]).rename(root / "images" / name)
        frame["file_path"] = f"images/{name}"
    (root / "transforms.json").write_text(json.dumps(content))


def link(target: str, name: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        path.symlink_to(target)

    return change


def folders(root: Path) -> None:
    for name in ("images_0", "images_1e3", "images_-2", "images_٤٤"):
        (root / name).mkdir()
    (root / "images_8").write_text("no folder")


def second_model(root: Path) -> None:
    shutil.copytree(root / "sparse/0", root / "sparse/1")
    (root / "sparse/1/images.bin").write_bytes(b"broken")


def binary(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        path = root / "sparse/0" / f"{name}.bin"
        path.write_bytes(change(path.read_bytes()))

    return write


READ = ""
UNREADABLE = "cannot be read as an image"
CASES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "a lens that folds": ("transforms", listing(k1=-0.999, k2=3.7, k3=-20, k4=11, p1=0.5), READ),
    "a lens without a picture": ("transforms", listing(k1=1e30, k2=-1e30), "no pixel of .* counts"),
    "no depth anywhere": ("transforms", depth(np.nan), READ),
    "depth beyond numbers": ("transforms", depth(1e300), READ),
    "depth below zero": ("transforms", depth(-1.0), READ),
    "depth in a listing": (
        *("transforms", listing(depth_file_path="transforms.json")),
        UNREADABLE,
    ),
    "a photo for a mask": ("transforms", listing(mask_path="images/train_1.png"), READ),
    "a million rows in a pose": (
        *("transforms", listing(transform_matrix=[[0.0] * 4] * 10**5)),
        r"must be 4 rows of 4 numbers, got shape \(100000, 4\)",
    ),
    "frames twice": ("transforms", text('"frames": [', '"frames": [], "frames": ['), READ),
    "frames and then none": ("transforms", text("]\n}", '],\n"frames": []}'), "frames is empty"),
    "a number of 5000 digits": ("transforms", listing(w=0), r"positive"),
    "twins by their accents": ("transforms", twins, READ),
    "a page for a photo": ("transforms", photo(b"<html>" * 50), UNREADABLE),
    "a drawing for a photo": ("transforms", photo(b"<svg><image href='/x'/></svg>"), UNREADABLE),
    "an archive for a photo": ("transforms", photo(b"PK\3\4" + bytes(100)), UNREADABLE),
    "a photo after itself": ("transforms", photo(looping_tiff()), READ),
    "tags that overlap": ("transforms", photo(overlapping_tiff()), UNREADABLE),
    "a frame beyond its screen": ("transforms", photo(large_frame()), "has more than 178 million"),
    "a photo of no pixels": (
        *("transforms", photo(patched(picture("PNG"), 16, bytes(8)))),
        UNREADABLE,
    ),
    "a photo behind a photo": ("transforms", photo(bytes(picture("PNG") + picture("JPEG"))), READ),
    "an angle beyond numbers": (
        *(
            "blender",
            text(
                '"camera_angle_x": 0.',
                '"camera_angle_x": ' + "9" * 400 + '.0, "_": 0.',
                "transforms_train.json",
            ),
        ),
        r"camera_angle_x must be an angle in \(0, pi\), got inf",
    ),
    "columns first": ("llff", rows(np.asfortranarray), READ),
    "bytes in the other order": ("llff", rows(lambda values: values.astype(">f8")), READ),
    "an archive of numbers": ("llff", rows(lambda values: {"a": values}), "as a NumPy array"),
    "a single number": ("llff", rows(lambda values: values[0, 0]), r"got an array of shape \(\)"),
    "a link to itself": ("llff", link("image000.png", "images/image000.png"), "Too many levels"),
    "a folder that is itself": ("llff", link("images", "images"), "has no folder images"),
    "a file for a folder": ("llff", link("poses_bounds.npy", "images"), "has no folder images"),
    "folders of odd names": ("llff", folders, READ),
    "digits of another script": ("text", text(" 8 8 ", " ८ ८ ", "sparse/0/cameras.txt"), READ),
    "points at infinity": (
        *(
            "text",
            lambda root: (root / "sparse/0/points3D.txt").write_text(
                "\n".join(f"{i} 1e999 nan 0 0 0 0 0" for i in range(1, 40))
            ),
        ),
        READ,
    ),
    "a camera of exabytes": (
        *("binary", binary("cameras", lambda b: patched(bytearray(b), 16, b"\0" * 7 + b"\x80"))),
        "no camera of",
    ),
    "one broken model of two": ("binary", second_model, r"sparse/1/images.bin is cut short"),
}


def changed(name: str, views: ImageDataset, root: Path) -> AbstractReader:
    kind, change, _ = CASES[name]
    write, reader = FORMATS[kind]
    write(views, root)
    change(root)
    return reader(root)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[-1] == READ])
def test_what_is_odd_is_read(name: str, views: ImageDataset, tmp_path: Path):
    scene = changed(name, views, tmp_path).read("train")
    assert scene.images.shape[:3] == (N_VIEWS, SIDE, SIDE)
    assert scene.depths is None or bool(scene.depths.isfinite().all())


@pytest.mark.filterwarnings("ignore:Tag data larger than file")
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[-1] != READ])
def test_what_is_wrong_is_said(name: str, views: ImageDataset, tmp_path: Path):
    with pytest.raises(UserError, match=CASES[name][-1]):
        changed(name, views, tmp_path).read("train")
