"""Copies of photographs as users have them."""

import builtins
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from dietnerf.errors import UserError
from dietnerf.prepare.photos import copy_photos, find_photos, focal_of

Base, IFD = ExifTags.Base, ExifTags.IFD


def picture(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    """Smooth enough for JPEG, other corners in other colors."""
    corners = np.random.default_rng(seed).integers(0, 255, (2, 2, 3), dtype=np.uint8)
    return Image.fromarray(corners).resize((width, height), Image.Resampling.BILINEAR)


def exif_of(orientation: int = 1, **details: object) -> Image.Exif:
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    exif.get_ifd(IFD.Exif).update({Base[name].value: value for name, value in details.items()})
    return exif


def test_photos_are_in_order_of_their_numbers(tmp_path: Path):
    for name in ("r_10.png", "r_9.JPG", "r_1.png", "Übung 2.webp", ".r_3.png", "notes.txt"):
        (tmp_path / name).write_text("")
    names = [path.name for path in find_photos(tmp_path)]
    assert names == ["r_1.png", "r_9.JPG", "r_10.png", "Übung 2.webp"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_copies_are_upright(orientation: int, tmp_path: Path):
    turns = [None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180,
             Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.TRANSPOSE,
             Image.Transpose.ROTATE_90, Image.Transpose.TRANSVERSE,
             Image.Transpose.ROTATE_270]  # fmt: skip
    upright, turn = picture(), turns[orientation - 1]
    stored = upright if turn is None else upright.transpose(turn)
    exif = exif_of(orientation, FocalLengthIn35mmFilm=26)
    stored.save(tmp_path / "photo.jpg", quality=100, subsampling=0, exif=exif)
    (photo,), notes = copy_photos([tmp_path / "photo.jpg"], tmp_path / "images")
    copy = Image.open(tmp_path / "images" / "photo.jpg")
    assert copy.size == upright.size == (photo.width, photo.height)
    assert copy.getexif().get(Base.Orientation, 1) == 1
    assert abs(np.asarray(copy).astype(int) - np.asarray(upright)).max() < 12, "of 255, for JPEG"
    assert photo.focal == pytest.approx(26 / math.hypot(36, 24) * 50)
    assert notes == []


@pytest.mark.parametrize(
    ("details", "focal"),
    [
        ({}, None),
        ({"FocalLengthIn35mmFilm": 36}, 36 / math.hypot(36, 24) * math.hypot(3000, 2000)),
        ({"FocalLength": 50.0}, None),
        # 100 pixels a millimeter, which are 2540 an inch and 1000 a centimeter; half size.
        ({"FocalLength": 50.0, "FocalPlaneXResolution": 2540.0, "ExifImageWidth": 6000}, 2500.0),
        ({"FocalLength": 50.0, "FocalPlaneXResolution": 1000.0,
          "FocalPlaneResolutionUnit": 3}, 5000.0),
        ({"FocalLengthIn35mmFilm": 0}, None),
        ({"FocalLengthIn35mmFilm": 60_000}, None),
        ({"FocalLength": 50.0, "FocalPlaneXResolution": 0.0}, None),
    ],
)  # fmt: skip
def test_focal_length_in_pixels(details: dict[str, object], focal: float | None):
    found = focal_of(exif_of(**details), 3000, 2000)
    assert found == (None if focal is None else pytest.approx(focal))


def test_unusual_pictures_become_usual_ones(tmp_path: Path):
    plain = picture()
    plain.convert("P").save(tmp_path / "palette.png")
    plain.convert("L").save(tmp_path / "gray.jpg")
    plain.convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.fromarray(np.full((30, 40), 40_000, np.uint16)).save(tmp_path / "deep.png")
    plain.save(tmp_path / "wrong.jpg", format="PNG")
    plain.convert("RGBA").save(tmp_path / "alpha.png")
    photos, _ = copy_photos(find_photos(tmp_path), tmp_path / "images")
    assert len(photos) == 6
    for photo in photos:
        with Image.open(tmp_path / "images" / photo.name) as copy:
            assert copy.mode == ("RGBA" if photo.name == "alpha.png" else "RGB")
            assert copy.format == ("JPEG" if photo.name.endswith(".jpg") else "PNG")


def test_duplicates_and_sizes_are_told(tmp_path: Path):
    picture(seed=1).save(tmp_path / "a.png")
    picture(seed=1).save(tmp_path / "b.bmp")
    picture(seed=2).save(tmp_path / "c.png")
    picture(30, 40, seed=3).save(tmp_path / "d.png")
    photos, notes = copy_photos(find_photos(tmp_path), tmp_path / "images")
    assert [photo.name for photo in photos] == ["a.png", "c.png", "d.png"]
    assert notes == [
        "b.bmp is the same picture as a.png: left out",
        "the photos have several sizes (2 of 40x30, 1 of 30x40): each gets a camera of its own",
    ]


def test_photos_of_one_name_are_kept_apart(tmp_path: Path):
    picture(seed=1).save(tmp_path / "a.png")
    picture(seed=2).save(tmp_path / "a.jpg")
    photos, _ = copy_photos(find_photos(tmp_path), tmp_path / "images")
    assert {photo.name for photo in photos} == {"a_png.png", "a_jpg.jpg"}


def test_a_photo_called_as_a_view_of_a_panorama_is_kept(tmp_path: Path):
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (2, 32, 64, 3), np.uint8)
    for name, one in zip(("a.png", "view0_of_a.png"), pixels, strict=True):
        Image.fromarray(one).save(folder / name)
    alone = copy_photos([folder / "a.png"], tmp_path / "alone", "yes")[0]
    both = copy_photos(find_photos(folder), tmp_path / "both", "yes")[0]
    names = [photo.name for photo in both]
    assert len(names) == len(set(names)) == 2 * len(alone)
    assert sorted(names) == sorted(path.name for path in (tmp_path / "both").iterdir())


def test_all_that_cannot_be_read_is_named_at_once(tmp_path: Path):
    picture().save(tmp_path / "good.png")
    (tmp_path / "text.png").write_text("no picture")
    picture(400, 300).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:900])
    with pytest.raises(UserError, match=r"cut.jpg cannot be read.*text.png cannot be read"):
        copy_photos(find_photos(tmp_path), tmp_path / "images")


def test_of_many_that_cannot_be_read_some_are_named(tmp_path: Path):
    for i in range(50):
        (tmp_path / f"{i}.png").write_text("no picture")
    with pytest.raises(UserError, match=r"19\.png cannot be read.*; and 30 more$"):
        copy_photos(find_photos(tmp_path), tmp_path / "images")


def test_copies_have_names_that_colmap_and_json_can_write(tmp_path: Path):
    names = [
        b"\xff.png",
        b"\xfe.png",
        b"\x1b[31m\n.png",
        b"-rf.jpg",
        b"con.png",
        "Übung 2.png".encode(),
    ]
    for i, name in enumerate([*names, b"a" * 251 + b".png", b"a" * 250 + b"b.png"]):
        try:
            picture(seed=i).save(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        except OSError:
            pytest.skip("no such names on this disk")
    photos, _ = copy_photos(find_photos(tmp_path), tmp_path / "images")
    copies = [photo.name for photo in photos]
    assert {path.name for path in (tmp_path / "images").iterdir()} == set(copies)
    assert len(copies) == 8 and all(name.isprintable() for name in copies)
    assert {"con.png", "-rf.jpg", "Übung 2.png", "_[31m_.png"} < set(copies)
    json.dumps(copies, ensure_ascii=False).encode()
    assert max(len(f"{name}.png".encode()) for name in copies) <= 255


def test_duplicates_of_evil_names_are_told_in_one_line(tmp_path: Path):
    for name in ("a.png", "b\n\x1b[2J.png"):
        picture(seed=1).save(tmp_path / name)
    _, notes = copy_photos(find_photos(tmp_path), tmp_path / "images")
    assert notes == [r"b\n\x1b[2J.png is the same picture as a.png: left out"]


def test_a_folder_that_is_none(tmp_path: Path):
    (tmp_path / "notes.txt").touch()
    for name, reason in (("notes.txt", "is not a folder"), ("nothing", "does not exist")):
        with pytest.raises(UserError, match=f"{name} {reason}: give a folder of photos"):
            find_photos(tmp_path / name)


@pytest.mark.parametrize("orientation", [b"abc\0", b"\0\x63\0\0", b"\xff\xff\xff\xff"])
def test_an_orientation_that_is_none(orientation: bytes, tmp_path: Path):
    kind = b"\0\2\0\0\0\4" if orientation == b"abc\0" else b"\0\3\0\0\0\1"
    entry = b"\0\1\x01\x12" + kind + orientation
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + entry + bytes(4)
    picture().save(tmp_path / "a.jpg", exif=exif)
    (photo,), _ = copy_photos([tmp_path / "a.jpg"], tmp_path / "images")
    assert (photo.width, photo.height) == picture().size


def test_heic_without_its_codec(tmp_path: Path, monkeypatch):
    for name in ("a.HEIC", "b.heic", "c.png"):
        (tmp_path / name).write_text("")
    import_anything = builtins.__import__

    def without_heic(name: str, *args: object) -> object:
        if name == "pillow_heif":
            raise ImportError(name)
        return import_anything(name, *args)

    monkeypatch.setattr(builtins, "__import__", without_heic)
    with pytest.raises(UserError, match=r"a.HEIC is a HEIC photo.*pip install pillow-heif"):
        find_photos(tmp_path)
