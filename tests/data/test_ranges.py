"""Near and far, compared with how far what is in the pictures really is."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dietnerf.data import COLMAP, Blender, ImageDataset, Procedural, Transforms
from dietnerf.data.frames import Frame, Intrinsics
from dietnerf.data.ply import read_points
from dietnerf.data.ranges import range_of_points, ranged, with_common_far
from dietnerf.errors import UserError
from dietnerf.files import write_file
from dietnerf.geometry.cameras import Cameras
from tests.formats import write_blender, write_colmap, write_transforms

LENS = Intrinsics(20, 10, (30.0, 30.0), (10.0, 5.0))
AS_IT_IS = {"hold_every": 0, "orient": False, "scale": False}


@pytest.fixture(scope="module")
def scene() -> ImageDataset:
    return Procedural(resolution=24, n_train=8, scene="mosaic").read("train")


def scaled(scene: ImageDataset, factor: float, shift: float = 0.0) -> ImageDataset:
    """The same, larger, and moved along x."""
    cameras = scene.cameras
    places = factor * cameras.c2w[:, :, 3:] + torch.tensor([shift, 0, 0])[:, None]
    cameras = replace(cameras, c2w=torch.cat([cameras.c2w[:, :, :3], places], dim=2))
    return replace(scene, cameras=cameras, depths=factor * scene.depths)


def extents(scene: ImageDataset) -> tuple[Tensor, Tensor]:
    """The least and the greatest depth in each picture."""
    depths = scene.depths.flatten(1)
    return depths.where(depths > 0, math.inf).amin(dim=1), depths.amax(dim=1)


def surface_points(scene: ImageDataset) -> Tensor:
    """What the pixels of all pictures show, in the world."""
    points = []
    for i in range(len(scene)):
        rays, t = scene.cameras.image_rays(i), scene.depths[i].flatten()
        points.append((rays.rays_o + t[:, None] * rays.rays_d)[t > 0])
    return torch.cat(points)


def edited(root: Path, **changes: object) -> None:
    """Change keys of a listing, and let its frames say nothing of near and far."""
    path = root / "transforms.json"
    content = json.loads(path.read_text()) | changes
    for frame in content["frames"]:
        frame.pop("near", None), frame.pop("far", None)
    path.write_text(json.dumps(content))


def check_tight(cameras: Cameras, scene: ImageDataset) -> None:
    """Near and far enclose what is seen, and little more: points that are hidden count as well."""
    low, high = extents(scene)
    assert (cameras.near <= low).all() and (cameras.near > 0.8 * low).all()
    assert (cameras.far >= high).all() and (cameras.far < 1.4 * high).all()


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("factor", [1.0, 30.0])
def test_sparse_points_beside_a_listing_tell_each_view_its_range(scene, tmp_path, form, factor):
    larger = scaled(scene, factor, shift=5.0)
    write_transforms(larger, tmp_path)
    write_ply(tmp_path / "sparse_pc.ply", surface_points(larger), form)
    edited(tmp_path, ply_file_path="sparse_pc.ply", aabb_scale=16)
    cameras = Transforms(str(tmp_path), **AS_IT_IS).cameras("train")
    check_tight(cameras, larger)
    assert len(cameras.near.unique()) > 1
    oriented = Transforms(str(tmp_path), hold_every=0).cameras("train")
    assert (oriented.far / oriented.near).allclose(cameras.far / cameras.near, rtol=1e-4)


def write_ply(path: Path, points: Tensor, form: str) -> None:
    order = ">" if "big" in form else "<"
    rows = np.zeros(len(points), [("c", "u1"), *((axis, order + "f4") for axis in "xyz")])
    for k, axis in enumerate("xyz"):
        rows[axis] = points[:, k].numpy()
    properties = "property uchar red\n" + "".join(f"property float {axis}\n" for axis in "xyz")
    head = (
        f"ply\nformat {form} 1.0\ncomment x\nelement vertex {len(rows)}\n{properties}end_header\n"
    )
    text = "\n".join(" ".join(map(repr, map(float, row))) for row in rows.tolist())
    body = text.replace("0.0 ", "0 ").encode() if form == "ascii" else rows.tobytes()
    write_file(path, head.encode() + body)


def test_sparse_points_of_colmap_tell_each_view_its_range(scene, tmp_path):
    write_colmap(scene, tmp_path, surface_points(scene)[::3])
    check_tight(COLMAP(str(tmp_path), **AS_IT_IS).cameras("train"), scene)


@pytest.mark.parametrize(
    "content",
    [b"", b"end_header\n", b"ply\nformat ascii 1.0\n",
     b"ply\nformat binary_little_endian 1.0\nelement vertex 9\n"
     b"property float x\nproperty float y\nproperty float z\nend_header\n1234"],
)  # fmt: skip
def test_points_that_cannot_be_read_are_done_without(scene, tmp_path, content):
    write_transforms(scene, tmp_path)
    write_file(tmp_path / "points.ply", content)
    with pytest.raises(UserError, match=r"points.ply is no PLY file of points"):
        read_points(tmp_path / "points.ply")
    edited(tmp_path, ply_file_path="points.ply")
    with pytest.warns(UserWarning, match="near and far are guessed without it"):
        Transforms(str(tmp_path), **AS_IT_IS).cameras("train")


def test_a_box_of_instant_ngp_lies_where_scale_and_offset_say(scene, tmp_path):
    """A scene ten times as large around (80, 0, 0): its box has half a side of 15 around that."""
    larger = scaled(scene, 10.0, shift=80.0)
    write_transforms(larger, tmp_path)
    scale = 1 / 30
    edited(tmp_path, aabb_scale=1, scale=scale, offset=[0.5 - 80 * scale, 0.5, 0.5])
    cameras = Transforms(str(tmp_path), **AS_IT_IS).cameras("train")
    radius = math.sqrt(3) * 15  # cameras look at the middle, 40 away
    torch.testing.assert_close(cameras.near, torch.full((8,), 40 - radius), rtol=1e-4, atol=0)
    torch.testing.assert_close(cameras.far, torch.full((8,), 40 + radius), rtol=1e-4, atol=0)


@pytest.mark.parametrize("aabb_scale", [1, 4, 16, 128])
def test_a_large_box_neither_moves_near_nor_loses_the_scene(scene, tmp_path, aabb_scale):
    write_transforms(scene, tmp_path)
    edited(tmp_path)
    plain = Transforms(str(tmp_path), **AS_IT_IS).cameras("train")
    edited(tmp_path, aabb_scale=aabb_scale)
    boxed = Transforms(str(tmp_path), **AS_IT_IS).cameras("train")
    low, _ = extents(scene)
    assert torch.equal(boxed.near, plain.near) and (boxed.near < low).all()
    assert (boxed.far >= plain.far).all() and (boxed.far < 70).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"aabb_scale": 1, "scale": 0}, "scale must be positive, got 0"),
        ({"aabb_scale": 1, "offset": [0.5]}, "offset must be three numbers, got 1"),
        ({"aabb_scale": 1, "offset": ["a", 0, 0]}, r"offset\[0\] must be of type int or float"),
        ({"aabb_scale": "big"}, "aabb_scale must be of type int or float, got 'big'"),
    ],
)
def test_a_box_that_is_none_is_refused(scene, tmp_path, change, message):
    write_transforms(scene, tmp_path)
    edited(tmp_path, **change)
    with pytest.raises(UserError, match=message):
        Transforms(str(tmp_path), **AS_IT_IS).cameras("train")


@pytest.mark.parametrize("factor", [0.1, 67.0])
def test_a_blender_scene_of_another_size_has_its_own_range(scene, tmp_path, factor):
    larger = scaled(scene, factor, shift=3 * factor)
    write_blender(larger, tmp_path, "train")
    with pytest.warns(UserWarning, match=r"look at a point .* away, not between the usual"):
        cameras = Blender(str(tmp_path)).cameras("train")
    low, high = extents(larger)
    assert (cameras.near < low).all() and (cameras.far > high).all()
    torch.testing.assert_close(cameras.near, torch.full((8,), 2 * factor), rtol=2e-2, atol=0)
    torch.testing.assert_close(cameras.far, torch.full((8,), 6 * factor), rtol=2e-2, atol=0)


def test_the_classic_range_and_a_given_one_stay(scene, tmp_path, recwarn):
    write_blender(scene, tmp_path, "train")
    assert Blender(str(tmp_path)).cameras("train").near.tolist() == [2.0] * 8
    write_blender(scaled(scene, 10.0), tmp_path / "larger", "train")
    given = Blender(str(tmp_path / "larger"), near=1.0, far=99.0).cameras("train")
    assert given.near.tolist() == [1.0] * 8 and given.far.tolist() == [99.0] * 8
    half = Blender(str(tmp_path), far=50.0).cameras("train")
    assert half.near.tolist() == [2.0] * 8 and half.far.tolist() == [50.0] * 8
    assert not recwarn.list


def test_test_views_have_the_range_that_the_training_views_settle(scene, tmp_path):
    larger = scaled(scene, 20.0)
    write_blender(larger, tmp_path, "train")
    write_blender(larger.subset([3]), tmp_path, "test")
    reader = Blender(str(tmp_path))
    with pytest.warns(UserWarning, match="near and far are"):
        train = reader.cameras("train")
    with pytest.warns(UserWarning, match="near and far are"):
        test = reader.cameras("test")
    assert torch.equal(test.near, train.near[[3]]) and torch.equal(test.far, train.far[[3]])


def test_cameras_that_look_at_no_one_thing_get_a_wide_range(tmp_path):
    """A walk through a large room, looking ahead and aside."""
    scene = Procedural(resolution=8, n_train=6).read("train")
    c2w = scene.cameras.c2w.clone()
    c2w[:, :, 3] = torch.arange(6.0)[:, None] * torch.tensor([20.0, 0, 0])
    write_blender(replace(scene, cameras=replace(scene.cameras, c2w=c2w)), tmp_path, "train")
    with pytest.warns(UserWarning, match="look at a point"):
        cameras = Blender(str(tmp_path)).cameras("train")
    assert (cameras.far > 10 * cameras.near).all()


def test_a_shifted_principal_point_beside_the_angle_counts(scene, tmp_path):
    write_blender(scene, tmp_path, "train")
    path, size = tmp_path / "transforms_train.json", {"w": 48, "h": 48}  # twice the images
    plain = json.loads(path.read_text())
    path.write_text(json.dumps({**plain, **size, "fl_x": 66.0, "cx": 34, "cy": 18, "k1": 0.0}))
    cameras = Blender(str(tmp_path)).cameras("train")
    assert cameras.center.tolist() == [[17.0, 9.0]] * 8
    assert cameras.focal.tolist() == [[33.0, 33.0]] * 8
    halved = Blender(str(tmp_path), downscale=2).cameras("train")
    assert halved.center.tolist() == [[8.5, 4.5]] * 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(k1=0.1), r"describes a lens, .* use dietnerf.data.Transforms"),
        (lambda c: c.update(is_fisheye=True), "describes a lens"),
        (lambda c: c["frames"][1].update(cx=3), "frame 1 has its own cx, .*Transforms"),
        (lambda c: c.update(w=48, h=24), "has w 48 and h 24, but its images are 24x24"),
    ],
)
def test_what_the_reader_of_blender_cannot_show_is_refused(scene, tmp_path, change, message):
    write_blender(scene, tmp_path, "train")
    path = tmp_path / "transforms_train.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        Blender(str(tmp_path)).cameras("train")


def test_a_wall_with_few_points_lies_within_far_and_a_wrong_point_does_not():
    """Of a thing on a table before a wall, a hundredth of the points were on the wall, and far had
    left it out: all that is behind the table became fog."""
    near_by = torch.linspace(1, 3, 3000).double()
    wall, wrong = torch.full((10,), 20.0).double(), torch.tensor([1e5]).double()
    near, far = range_of_points(torch.cat([near_by, wall, wrong]))
    assert 0.8 < near < 1.1 and 20 < far < 25
    near, far = range_of_points(near_by)
    assert 0.8 < near < 1.1 and 3 < far < 3.5


def test_views_have_the_largest_far_of_all(tmp_path: Path):
    frames = [Frame("a", tmp_path, torch.eye(4), LENS, 1.0, far) for far in (3.0, 20.0, math.nan)]
    assert [frame.far for frame in with_common_far(frames)[:2]] == [20.0, 20.0]
    assert math.isnan(with_common_far(frames)[2].far)


def test_points_beside_a_listing_put_far_where_the_deepest_view_has_it(tmp_path: Path):
    behind = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0])).double()
    frames = [
        Frame(name, tmp_path, pose, LENS, math.nan, math.nan)
        for name, pose in (("ahead", torch.eye(4).double()), ("behind", behind))
    ]
    depths = torch.cat(
        [-torch.linspace(1, 3, 50), torch.full((5,), -20.0), torch.linspace(1, 3, 50)]
    )
    points = torch.stack([torch.zeros(105), torch.zeros(105), depths], dim=1).double()
    ahead, back = ranged(frames, points, None)
    assert ahead.far == back.far > 20
    assert 0.8 < back.near < 1.1


@pytest.mark.parametrize("n", [0, 9, 500])
def test_points_that_no_photo_shows_are_said_to_be_useless(n: int):
    """None at all, too few, and many behind all cameras."""
    pose = torch.eye(4, dtype=torch.float64)
    frames = [Frame("a", Path("a"), pose, LENS, math.nan, math.nan)]
    points = torch.tensor([[0.0, 0.0, 5.0 if n > 9 else -5.0]]).double().expand(n, 3)
    with pytest.warns(UserWarning, match=f"without the {n} sparse points, since no photo shows 10"):
        (found,) = ranged(frames, points, None)
    assert found.near == ranged(frames, None, None)[0].near
