"""360-degree pictures of a generated room, whose walls are patterned."""

import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from dietnerf.data.procedural.mosaic import _patches
from dietnerf.data.procedural.solids import Solid, box
from dietnerf.data.procedural.tracing import trace
from dietnerf.errors import UserError
from dietnerf.geometry.rays import Rays
from dietnerf.prepare import panorama
from dietnerf.prepare.command import main
from dietnerf.prepare.panorama import cut, is_panorama, rotations, view_cameras
from dietnerf.prepare.photos import copy_photos
from dietnerf.visualize import to_uint8
from tests.helpers import refused
from tests.prepare.test_command import pose_errors

TAG = b"<rdf:Description GPano:ProjectionType='equirectangular'/>"
TO_WORLD = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # of a panorama: its y axis is up
PLACES = torch.tensor([[0.0, 0, 0], [0.3, 0.1, 0.05], [-0.2, 0.3, -0.1], [0.1, -0.35, 0.1]])


def room() -> list[list[Solid]]:
    """Walls, floor and ceiling, and a box in a corner."""
    walls = []
    for k, (axis, side) in enumerate(product(range(3), (-1.1, 1.1))):
        center, size = [0.0] * 3, [2.4] * 3
        center[axis], size[axis] = side, 0.2
        walls.append(box(center, size, _patches(k)))
    return [[wall] for wall in walls] + [
        [box((0.7, 0.6, -0.7), (0.4, 0.4, 0.6), _patches(7), turn=0.4)]
    ]


def seen(place: Tensor, viewdirs: Tensor, height: int) -> Image.Image:
    """What is seen from a place in directions of a panorama's frame, (height * width, 3)."""
    n = len(viewdirs)
    rays = Rays(place.expand(n, 3), viewdirs @ TO_WORLD.T, torch.zeros(n), torch.full((n,), 9.0))
    rgba, _ = trace(rays, room())
    assert (rgba[:, 3] == 1).all()
    return Image.fromarray(to_uint8(rgba[:, :3]).reshape(height, -1, 3).numpy())


def panorama_at(place: Tensor, width: int) -> Image.Image:
    """An equirectangular picture by its definition: columns are longitudes, rows latitudes."""
    lon = ((torch.arange(width) + 0.5) / width - 0.5) * 2 * math.pi
    lat = (0.5 - (torch.arange(width // 2) + 0.5) / (width // 2)) * math.pi
    lat, lon = torch.meshgrid(lat, lon, indexing="ij")
    dirs = torch.stack([lat.cos() * lon.sin(), lat.sin(), -lat.cos() * lon.cos()], dim=-1)
    return seen(place, dirs.reshape(-1, 3), width // 2)


def difference(one: Image.Image, other: Image.Image) -> np.ndarray:
    return np.abs(np.asarray(one, dtype=float) - np.asarray(other)) / 255


def test_views_are_what_a_camera_there_would_see():
    """Measured: 0.003 on average in each."""
    cameras = view_cameras(1024)
    for i, view in enumerate(cut(panorama_at(PLACES[1], 1024))):
        direct = seen(PLACES[1], cameras.image_rays(i).viewdirs, cameras.height)
        assert view.size == direct.size
        assert difference(view, direct).mean() < 0.01, i


def test_views_cover_all_but_the_ground():
    cameras = view_cameras(100)
    dirs = torch.nn.functional.normalize(
        torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    local = torch.einsum("nij,mi->nmj", cameras.c2w[:, :, :3], dirs)
    half = math.tan(panorama.ANGLE / 2)
    is_in = (local[..., 2] < 0) & (local[..., :2].abs() < -half * local[..., 2:]).all(dim=-1)
    is_seen = is_in.any(dim=0)
    assert is_seen[dirs[:, 1] > -math.sin(math.radians(40))].all()
    turns = rotations()
    eye = torch.eye(3, dtype=torch.float64).expand(len(turns), 3, 3)
    torch.testing.assert_close(turns @ turns.transpose(1, 2), eye)
    assert (torch.linalg.det(turns) > 0).all()


def save(folder: Path, name: str, width: int, height: int, tag: bytes = b"", seed: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", tag.decode())
    options = {".png": {"pnginfo": info}, ".tif": {"tiffinfo": {700: tag}}}
    with_tag = options.get(Path(name).suffix, {"xmp": tag})
    Image.fromarray(noise).save(folder / name, **(with_tag if tag else {}))
    return folder / name


def test_which_pictures_are_cut(tmp_path: Path):
    plain = save(tmp_path / "in", "plain.jpg", 64, 32)
    tagged = save(tmp_path / "in", "tagged.jpg", 64, 32, TAG, seed=1)
    photos, notes = copy_photos([tagged, plain], tmp_path / "auto")
    assert [photo.name for photo in photos[:2]] == ["plain.jpg", "view0_of_tagged.jpg"]
    assert len(photos) == 8 and "1 360-degree pictures are cut into 7 views each" in notes
    assert any(note.startswith("1 photos are twice as wide as high") for note in notes)
    assert {photo.panorama for photo in photos} == {None, "tagged.jpg"}
    assert all(photo.width == photo.height for photo in photos[1:])
    assert len(copy_photos([plain, tagged], tmp_path / "yes", "yes")[0]) == 14
    assert len(copy_photos([plain, tagged], tmp_path / "no", "no")[0]) == 2


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tif"])
def test_the_tag_is_read_in_each_format(ending: str, tmp_path: Path):
    assert is_panorama(save(tmp_path, f"tagged{ending}", 64, 32, TAG), "auto")
    assert not is_panorama(save(tmp_path, f"plain{ending}", 64, 32), "auto")
    assert not is_panorama(tmp_path / f"tagged{ending}", "no")


def test_a_part_of_a_panorama_is_named(tmp_path: Path, capsys):
    pytest.importorskip("pycolmap")
    save(tmp_path / "in", "part.jpg", 90, 32, TAG)
    said = refused(capsys, main, tmp_path / "in", tmp_path / "scene")
    assert "part.jpg is 90x32, and a 360-degree picture is twice as wide as high" in said


def cropped(width: int, height: int, form: str = "{}='{}' ") -> bytes:
    """Tags of a panorama of 128x64 pixels, of which a file has so many."""
    extents = {"FullPanoWidth": 128, "FullPanoHeight": 64}
    extents |= {"CroppedAreaImageWidth": width, "CroppedAreaImageHeight": height}
    tags = "".join(form.format(f"GPano:{name}Pixels", n) for name, n in extents.items())
    return TAG.replace(b"/>", b"") + f"/>{tags}".encode()


@pytest.mark.parametrize("form", ["{}='{}' ", '{} = "{}" ', "<{0}>{1}</{0}>"])
def test_a_crop_with_the_shape_of_a_whole_is_named(form: str, tmp_path: Path):
    part = save(tmp_path, "part.jpg", 64, 32, cropped(64, 32, form))
    for choice in ("auto", "yes"):
        with pytest.raises(UserError, match=r"part.jpg is a part, 64x32 of 128x64 pixels, of a"):
            is_panorama(part, choice)
    assert not is_panorama(part, "no")
    assert is_panorama(save(tmp_path, "whole.jpg", 64, 32, cropped(128, 64, form)), "auto")


def test_a_panorama_is_judged_as_it_stands_upright(tmp_path: Path):
    """What is stored lying becomes a whole one; and a whole one that EXIF lays down is none."""
    for name, size, turn in (("lying", (32, 64), 6), ("down", (64, 32), 8), ("over", (64, 32), 3)):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = turn
        Image.new("RGB", size).save(tmp_path / f"{name}.jpg", exif=exif, xmp=TAG)
    assert is_panorama(tmp_path / "lying.jpg", "auto") and is_panorama(tmp_path / "over.jpg", "yes")
    with pytest.raises(UserError, match=r"down.jpg is 32x64 once it is turned as its EXIF"):
        is_panorama(tmp_path / "down.jpg", "auto")
    photos, _ = copy_photos([tmp_path / "lying.jpg"], tmp_path / "out")
    assert len(photos) == 7 and {photo.width for photo in photos} == {view_cameras(64).width}


def test_one_place_shows_no_depth(tmp_path: Path, capsys):
    pytest.importorskip("pycolmap")
    save(tmp_path / "in", "a.jpg", 64, 32, TAG)
    said = refused(capsys, main, tmp_path / "in", tmp_path / "scene")
    assert "seen from 1 places alone, and depth needs at least 3" in said


def test_poses_of_panoramas_are_found(tmp_path: Path):
    """Measured at normal quality: centers within 0.006 % of their extent, and turns within 0.01
    degrees; as photos that are not tied to each other, 0.17 % and 0.09 degrees."""
    pytest.importorskip("pycolmap")
    (tmp_path / "in").mkdir()
    for i, place in enumerate(PLACES):
        panorama_at(place, 1024).save(tmp_path / f"in/p{i}.jpg", quality=95, xmp=TAG)
    main([str(tmp_path / "in"), str(tmp_path / "scene"), "--quality", "fast"])
    content = json.loads((tmp_path / "scene/transforms.json").read_text())
    found = {Path(f["file_path"]).stem: np.array(f["transform_matrix"]) for f in content["frames"]}
    assert len(found) == 7 * len(PLACES)
    for i in range(len(PLACES)):  # the views of a panorama share their center
        centers = np.array([found[f"view{k}_of_p{i}"][:3, 3] for k in range(7)])
        assert np.abs(centers - centers[0]).max() < 1e-6
    names = sorted(found)
    poses, true = np.stack([found[name] for name in names]), true_poses(names)
    assert np.abs(turns_from_first(poses) - turns_from_first(true)).max() < 0.002, "radians"
    firsts = [i for i, name in enumerate(names) if name.startswith("view0")]
    _, direction = pose_errors(poses[firsts], true[firsts])
    assert direction < 0.1, "degrees"
    steps = [np.linalg.norm(np.diff(c2w[firsts, :3, 3], axis=0), axis=1) for c2w in (poses, true)]
    scales = steps[0] / steps[1]
    assert np.ptp(scales) < 0.002 * scales.mean()


def true_poses(names: list[str]) -> np.ndarray:
    """Of views named as view3_of_p1, camera to world, (n, 4, 4)."""
    poses = np.tile(np.eye(4), (len(names), 1, 1))
    for pose, name in zip(poses, names, strict=True):
        pose[:3, :3] = TO_WORLD.numpy() @ rotations()[int(name[4])].numpy()
        pose[:3, 3] = PLACES[int(name[-1])].numpy()
    return poses


def turns_from_first(poses: np.ndarray) -> np.ndarray:
    """Relative rotations, (n, 3, 3)."""
    return poses[0, :3, :3].T @ poses[:, :3, :3]
