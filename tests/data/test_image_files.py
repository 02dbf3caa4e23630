"""Image files that are made to cost much, or that are none."""

import io
import itertools
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dietnerf.data import Procedural, Transforms
from dietnerf.data.images import image_size, read_header, read_image, read_numbers
from dietnerf.errors import UserError
from dietnerf.prepare.photos import open_upright
from tests.formats import write_transforms

READ = (read_header, read_image, read_numbers, open_upright)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def pictures(n: int, side: int = 4) -> list[Image.Image]:
    return [Image.new("RGB", (side, side), (40 * i, 255 - 40 * i, 90)) for i in range(n)]


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("read", READ)
def test_an_animation_is_no_photograph(read, form: str, tmp_path: Path):
    first, *others = pictures(3)
    path = tmp_path / "moving.png"
    path.write_bytes(saved(first, form, save_all=True, append_images=others))
    with pytest.raises(UserError, match=r"moving.png is an animation: export the frame that is"):
        read(path)


@pytest.mark.parametrize("form", ["MPO", "TIFF"])
def test_of_several_pictures_of_a_camera_the_first_is_read(form: str, tmp_path: Path):
    first, *others = pictures(3, 16)
    path = tmp_path / "photo.tif"
    small = [other.resize((8, 8)) for other in others]
    path.write_bytes(saved(first, form, save_all=True, append_images=small))
    assert image_size(path) == (16, 16)
    pixels = read_image(path).int()
    assert pixels.shape == (16, 16, 3)
    assert (pixels - torch.tensor(first.getpixel((0, 0)))).abs().max() < 8, "of 255, for JPEG"


@pytest.mark.parametrize("form", ["EPS", "TGA", "ICO", "PCX", "SGI", "JPEG2000", "DDS", "IM"])
@pytest.mark.parametrize("read", READ)
def test_other_formats_are_not_tried(read, form: str, tmp_path: Path):
    """EPS is a program, and decoders that few use are where the faults are."""
    path = tmp_path / "photo.png"
    path.write_bytes(saved(Image.new("RGB", (16, 16)), form))
    with pytest.raises(UserError, match=r"photo.png cannot be read as an image"):
        read(path)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "PPM"])
def test_formats_of_cameras_are_known_by_their_content(form: str, tmp_path: Path):
    path = tmp_path / "photo"
    path.write_bytes(saved(Image.new("RGB", (16, 12), (200, 100, 50)), form))
    assert image_size(path) == (16, 12)
    assert (read_image(path)[0, 0] - torch.tensor([200, 100, 50])).abs().max() < 12


def chunk(name: bytes, content: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + crc


def png(width: int, height: int, *, content: bytes = b"", before: bytes = b"") -> bytes:
    """A gray PNG; without content nothing is there but what its header says."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    content = content or zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def blank_png(width: int, height: int) -> bytes:
    return png(width, height, content=zlib.compress(bytes((width + 1) * height)))


def tiff(tags: list[tuple[int, int]], content: bytes = b"") -> bytes:
    """One with numbers for tags, and the content behind them; -1 stands for where that begins."""
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(
        struct.pack("<HHII", tag, 4, 1, start if value < 0 else value) for tag, value in tags
    )
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8) + directory + content


def gray_tiff(width: int, height: int, content: bytes, *more: tuple[int, int]) -> bytes:
    tags = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1, **dict(more)}
    return tiff(sorted(tags.items()), content)


def tiled_tiff(side: int, tile: int) -> bytes:
    content = zlib.compress(bytes(tile * tile))
    places = ((322, tile), (323, tile), (324, -1), (325, len(content)))
    return gray_tiff(side, side, content, *places)


def striped_tiff(side: int) -> bytes:
    content = zlib.compress(b"\0" * 100)
    return gray_tiff(side, side, content, (273, -1), (278, side), (279, len(content)))


def jpeg_of_scans(n: int) -> bytes:
    """A progressive JPEG whose second scan comes n times."""
    whole = saved(Image.new("L", (512, 512), 128), "JPEG", progressive=True)
    tables = [i for i in range(len(whole)) if whole[i : i + 2] == b"\xff\xc4"]
    scans = [i for i in range(len(whole)) if whole[i : i + 2] == b"\xff\xda"]
    start, stop = (max(table for table in tables if table < scan) for scan in scans[1:3])
    return whole[:stop] + whole[start:stop] * n + whole[stop:]


def jpeg_behind(header: bytes) -> bytes:
    whole = saved(Image.new("L", (8, 8)), "JPEG")
    return whole[:2] + header + whole[2:]


def app1(content: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content


def gif_behind(block: bytes, n: int) -> bytes:
    whole = saved(Image.new("L", (8, 8)), "GIF")
    start = whole.index(b",", 13)
    return whole[:start] + block * n + whole[start:]


COSTLY = {
    "pixels that are not there": lambda: png(13_000, 13_000),
    "one strip that is not there": lambda: striped_tiff(13_000),
    "a tile much larger than the image": lambda: tiled_tiff(16, 8192),
    "more pixels than any camera has": lambda: png(60_000, 60_000),
    "a text of a gigabyte": lambda: png(
        *(8, 8), before=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(100_000_000)))
    ),
    "a color profile of a gigabyte": lambda: png(
        *(8, 8), before=chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(100_000_000)))
    ),
    "a hundred thousand chunks": lambda: png(
        *(8, 8), content=zlib.compress(b"\0" * 72), before=chunk(b"abCd", b"") * 100_000
    ),
    "thousands of scans": lambda: jpeg_of_scans(2000),
    "EXIF data in many parts": lambda: jpeg_behind(app1(b"Exif\0\0" + bytes(65_000)) * 270),
    "junk before a JPEG's pixels": lambda: jpeg_behind(bytes(100_000)),
    "many comments in a GIF": lambda: gif_behind(b"!\xfe\1x\0", 50_000),
    "a comment without an end": lambda: b"P6\n#" + b"x" * 100_000 + b"\n8 8 255\n" + bytes(192),
    "whitespace without an end": lambda: b"P6\n" + b" " * 100_000 + b"8 8 255\n" + bytes(192),
}


@pytest.mark.parametrize("name", COSTLY)
def test_what_costs_more_than_it_is_worth_is_refused(name: str, tmp_path: Path):
    path = tmp_path / "photo.png"
    path.write_bytes(COSTLY[name]())
    for read in (read_image, read_numbers):
        with pytest.raises(UserError, match=r"photo.png (cannot be read as an image|has more)"):
            read(path)


def test_blank_images_and_large_headers_are_none_of_these(tmp_path: Path):
    path = tmp_path / "photo.png"
    for content in (
        blank_png(6000, 4000),
        saved(Image.new("1", (6000, 4000)), "PNG"),
        saved(Image.new("1", (4000, 4000)), "TIFF", compression="group4"),
        saved(Image.new("L", (4000, 4000)), "WEBP", lossless=True),
        tiled_tiff(100, 1024),
        jpeg_of_scans(20),
        jpeg_behind(app1(b"http://ns.adobe.com/xmp/extension/\0" + bytes(65_000)) * 160),
    ):
        path.write_bytes(content)
        assert read_image(path).shape[:2] == image_size(path)[::-1]


GROWTH = """
import resource, sys, warnings
from pathlib import Path
from dietnerf.data.images import read_image
from dietnerf.errors import UserError
warnings.simplefilter("ignore")
size = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = size()
for name in sys.argv[1:]:
    try:
        read_image(Path(name))
        raise SystemExit(f"{name} was read")
    except UserError:
        print(size() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in other units")
def test_nothing_is_decoded_of_what_is_refused(tmp_path: Path):
    """Each of these took more than 100 MB."""
    frames = itertools.cycle(Image.new("1", (4000, 4000), i) for i in range(2))
    first, *others = itertools.islice(frames, 12)
    files = {
        "strip": striped_tiff(13_000),
        "tile": tiled_tiff(16, 12_000),
        "gif": saved(first, "GIF", save_all=True, append_images=others),
        "png": saved(first, "PNG", save_all=True, append_images=others),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    paths = [str(tmp_path / name) for name in files]
    command = [sys.executable, "-c", GROWTH, *paths]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    grown = {name: int(kilobytes) >> 10 for name, kilobytes in zip(files, told, strict=True)}
    assert max(grown.values()) < 60, grown


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    write_transforms(Procedural(resolution=12, n_train=3).read("train"), tmp_path / "scene")
    return tmp_path / "scene"


def with_map(scene: Path, key: str, name: str) -> Transforms:
    listing = scene / "transforms.json"
    content = json.loads(listing.read_text())
    content["frames"][0][key] = name
    listing.write_text(json.dumps(content))
    return Transforms(str(scene), hold_every=0)


@pytest.mark.parametrize("key", ["mask_path", "depth_file_path"])
@pytest.mark.parametrize("size", [(12_000, 12_000), (4000, 12)])
def test_a_map_larger_than_its_photo_is_refused_by_its_header(
    key: str, size: tuple[int, int], scene: Path
):
    (scene / "map.png").write_bytes(png(*size))
    with pytest.raises(UserError, match=r"map.png is \d+x\d+, which does not fit its photo of 12x"):
        with_map(scene, key, "map.png").listing("train")


def test_a_hole_in_a_depth_map_is_refused_by_its_header(scene: Path):
    np.save(scene / "map.npy", np.zeros((1, 1)))
    header = (scene / "map.npy").read_bytes()[:128].replace(b"(1, 1), }    ", b"(9999, 9999),}")
    (scene / "map.npy").write_bytes(header)
    reader = with_map(scene, "depth_file_path", "map.npy")
    with pytest.raises(UserError, match=r"map.npy cannot be read as a NumPy array"):
        reader.listing("train")
    os.truncate(scene / "map.npy", 128 + 8 * 9999 * 9999)
    with pytest.raises(UserError, match=r"map.npy is 9999x9999, which does not fit its photo"):
        reader.listing("train")


def test_maps_may_be_of_a_larger_copy_of_the_photo(scene: Path):
    Image.new("L", (96, 96), 255).save(scene / "mask.png")
    np.save(scene / "depth.npy", np.full((24, 24), 5.0))
    with_map(scene, "mask_path", "mask.png")
    found = with_map(scene, "depth_file_path", "depth.npy").read("train")
    assert found.masks is None and bool((found.depths[0] > 0).all())


def test_a_palette_without_colors_is_named(tmp_path: Path):
    path = tmp_path / "a.png"
    Image.new("P", (4, 4)).save(path)
    content = path.read_bytes()
    start = content.index(b"PLTE") - 4
    length = int.from_bytes(content[start : start + 4], "big")
    path.write_bytes(content[:start] + content[start + 12 + length :])
    with pytest.raises(UserError, match=r"a\.png"):
        read_header(path)
