"""What the files of an untrusted scene cannot do."""

import json
import struct
import zlib
from pathlib import Path

import pytest

from dietnerf.data import LLFF, Blender, Procedural, Transforms
from dietnerf.errors import UserError
from tests.formats import write_blender, write_transforms


def png_header(width: int, height: int) -> bytes:
    """A PNG that says to be so large, and holds nothing."""

    def chunk(name: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    write_transforms(Procedural(resolution=8, n_train=3).read("train"), tmp_path / "scene")
    return tmp_path / "scene"


@pytest.mark.parametrize("downscale", [1, "auto"])
def test_a_photograph_of_a_hundred_gigapixels_is_refused(scene: Path, downscale):
    listing = scene / "transforms.json"
    content = json.loads(listing.read_text())
    photo = scene / content["frames"][0]["file_path"]
    photo.write_bytes(png_header(400_000, 250_000))
    content |= {"w": 400_000, "h": 250_000, "cx": 200_000, "cy": 125_000}
    content |= {"fl_x": 300_000, "fl_y": 300_000}
    listing.write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"{photo.name} has more than 178 million pixels"):
        Transforms(str(scene), downscale=downscale, hold_every=0).read("train")


@pytest.mark.parametrize("key", ["file_path", "mask_path", "depth_file_path"])
@pytest.mark.parametrize("is_absolute", [False, True])
def test_a_listing_cannot_leave_its_folder(scene: Path, key: str, is_absolute: bool):
    outside = scene.parent / "secret.png"
    listing = scene / "transforms.json"
    content = json.loads(listing.read_text())
    (scene / content["frames"][0]["file_path"]).rename(outside)
    content["frames"][0][key] = str(outside) if is_absolute else "images/../../secret.png"
    if key != "file_path":
        (scene / content["frames"][0]["file_path"]).write_bytes(outside.read_bytes())
    listing.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"secret.png is listed, but lies outside of the scene's"):
        Transforms(str(scene)).read("train")


def npy(shape: str, kind: str = "'<f8'") -> bytes:
    """A NumPy array that says to be so large, and holds nothing."""
    header = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode()


ARRAYS = {
    "terabytes": npy("(1000000000000, 17)"),
    "more than an int": npy("(99999999999999999999999, 17)"),
    "negative": npy("(-5, 17)"),
    "two long words": npy("(2, 17)", "'<S2000000000'"),
    "brackets": npy("(" * 5000),
    "objects": npy("(2, 17)", "'|O'"),
    "none": npy("(0, 17)"),
    "complex": npy("(2, 17)", "'<c16'"),
    "empty file": b"",
}


@pytest.mark.parametrize("content", ARRAYS.values(), ids=ARRAYS)
def test_an_array_that_is_none_is_refused(content: bytes, scene: Path):
    listing = scene / "transforms.json"
    frames = json.loads(listing.read_text())
    frames["frames"][0]["depth_file_path"] = "depth.npy"
    listing.write_text(json.dumps(frames))
    for name in ("depth.npy", "poses_bounds.npy"):
        (scene / name).write_bytes(content)
    for reader in (Transforms(str(scene), hold_every=0), LLFF(str(scene), 1, 0)):
        with pytest.raises(UserError, match=r"\.npy"):
            reader.read("train")


def test_an_array_too_large_is_not_read(scene: Path):
    """It is on the disk, as a hole of 14 GB in a file."""
    with (scene / "poses_bounds.npy").open("wb") as file:
        file.write(npy("(100000000, 17)"))
        file.truncate(file.tell() + 8 * 17 * 100_000_000)
    with pytest.raises(UserError, match="more than 17000000 numbers"):
        LLFF(str(scene), 1, 0).read("train")


def test_a_name_of_many_folders_is_none(scene: Path):
    listing = scene / "transforms.json"
    content = json.loads(listing.read_text())
    content["frames"][0]["file_path"] = "/" + "a/" * 200_000
    listing.write_text(json.dumps(content))
    with pytest.warns(UserWarning, match="1 of the 3 images"):
        assert len(Transforms(str(scene), hold_every=0).read("train")) == 2


def test_an_angle_of_view_that_no_lens_has(tmp_path: Path):
    write_blender(Procedural(resolution=8, n_train=3).read("train"), tmp_path, "train")
    listing = tmp_path / "transforms_train.json"
    listing.write_text(json.dumps(json.loads(listing.read_text()) | {"camera_angle_x": 1e-300}))
    with pytest.raises(UserError, match="camera_angle_x must be an angle"):
        Blender(str(tmp_path)).read("train")
