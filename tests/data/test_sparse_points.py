"""Depth at single pixels, of sparse points that a listing's PLY file says photographs show."""

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dietnerf.data import ImageDataset, Procedural, Transforms
from dietnerf.files import write_file
from tests.formats import write_observations, write_transforms

AS_IT_IS = {"hold_every": 0, "orient": False, "scale": False}
BARREL = (-0.2, 0.05, 0, 0, 0.001, -0.002, 0, 0, 0)
FISHEYE = (-0.03, 0.004, 0, 0, 0, 0, 0, 0, 0)
STEP = 5  # every such pixel is observed


@pytest.fixture(scope="module")
def scene() -> ImageDataset:
    """Four views, whose depth every file of these tests has to tell by points alone."""
    return Procedural(resolution=24, n_train=4, scene="mosaic").read("train")


@pytest.fixture
def root(scene: ImageDataset, tmp_path: Path) -> Path:
    return written(scene, tmp_path / "scene")


def written(scene: ImageDataset, root: Path) -> Path:
    """A folder with the views, and points at what every `STEP`th pixel of each shows."""
    write_transforms(replace(scene, depths=None), root)
    write_observations(root, *observed(scene))
    return root


def observed(scene: ImageDataset) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points (n, 3), and which view (n,) shows which of them (n,) at which pixel (n, 2)."""
    images, rows, columns = known(scene).nonzero().unbind(-1)
    rays = scene.cameras.rays(images, columns, rows)
    points = rays.rays_o + scene.depths[images, rows, columns, None] * rays.rays_d
    return points, images, torch.arange(len(points)), torch.stack([columns, rows], dim=1) + 0.5


def known(scene: ImageDataset) -> Tensor:
    every = torch.zeros(scene.depths.shape, dtype=torch.bool)
    every.flatten()[::STEP] = True
    return every & (scene.depths > 0)


def expected(scene: ImageDataset) -> Tensor:
    return torch.where(known(scene), scene.depths, 0)


def read(root: Path, **options: object) -> ImageDataset:
    """What is read, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return Transforms(str(root), **AS_IT_IS | options).read("train")


def edit(root: Path, change: Callable[[dict], object]) -> None:
    path = root / "transforms.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def check_depths(found: Tensor, wanted: Tensor) -> None:
    """Points are stored in float32."""
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("lens", [None, (BARREL, False), (FISHEYE, True)])
def test_distances_are_those_of_the_scene(scene, tmp_path, lens, scale):
    cameras = scene.cameras
    if lens is not None:
        distortion = torch.tensor(lens[0]).expand(4, 9)
        fisheye = torch.full((4,), lens[1])
        cameras = replace(cameras, distortion=distortion, is_fisheye=fisheye)
    seen = replace(scene, cameras=cameras)
    found = read(written(seen, tmp_path), scale=scale, orient=scale)
    size = found.cameras.positions[0] - found.cameras.positions[1]
    size = size.norm() / (cameras.positions[0] - cameras.positions[1]).norm()
    assert (float(size) != pytest.approx(1)) == scale
    check_depths(found.depths, size * expected(scene))


def test_a_smaller_picture_has_them_at_the_same_places(root, scene):
    depths = read(root, downscale=2).depths
    images, rows, columns = known(scene).nonzero().unbind(-1)
    assert depths.shape == (4, 12, 12)
    assert torch.equal(
        (depths > 0).nonzero(), torch.stack([images, rows // 2, columns // 2], 1).unique(dim=0)
    )


def test_frames_may_be_deleted_and_in_another_order(root, scene):
    edit(root, lambda c: c.update(frames=[c["frames"][i] for i in (3, 0, 2)]))
    found = read(root)
    order = [int(name.removeprefix("train_")) for name in found.names]
    assert sorted(order) == [0, 2, 3]
    check_depths(found.depths, expected(scene)[order])


def test_a_frame_without_an_id_has_no_depth(root, scene):
    edit(root, lambda c: c["frames"][1].pop("colmap_im_id"))
    edit(root, lambda c: c["frames"][2].update(colmap_im_id="12"))
    check_depths(read(root).depths[[0, 3]], expected(scene)[[0, 3]])
    assert not read(root).depths[[1, 2]].any()


def test_a_file_of_points_alone_tells_no_depth(root):
    """As nerfstudio writes it, with ids of COLMAP in the listing."""
    path = root / "points.ply"
    head, _, rest = path.read_bytes().partition(b"element observation")
    _, _, body = rest.partition(b"end_header\n")
    path.write_bytes(head + b"end_header\n" + body)
    assert read(root).depths is None
    edit(root, lambda c: c.pop("ply_file_path"))
    assert read(root).depths is None


def test_depth_maps_go_before(root, scene, tmp_path):
    halved = replace(scene, depths=scene.depths / 2)
    write_transforms(halved, tmp_path / "both")
    write_observations(tmp_path / "both", *observed(scene))
    edit(tmp_path / "both", lambda c: c["frames"][2].pop("depth_file_path"))
    depths = read(tmp_path / "both").depths
    torch.testing.assert_close(depths[[0, 1, 3]], halved.depths[[0, 1, 3]], atol=1e-4, rtol=0)
    check_depths(depths[2], expected(scene)[2])


def test_what_does_not_fit_is_left_out(scene, root):
    """A pixel 3 % of the width off, one that is no number, a point that is none, and one that
    lies behind the camera on the line of sight."""
    points, images, seen, pixels = observed(scene)
    pixels[0, 0] += 0.03 * 24
    pixels[1, 1] = torch.nan
    points[2, 2] = torch.inf
    points[3] = 2 * scene.cameras.positions[images[3]] - points[3]
    write_observations(root, points, images, seen, pixels)
    wanted = expected(scene)
    for row, column in (observed(scene)[3][:4].flip(1) - 0.5).long().tolist():
        wanted[0, row, column] = 0
    check_depths(read(root).depths, wanted)


def test_points_of_other_poses_are_not_used(root, scene):
    edit(root, lambda c: [frame.update(colmap_im_id=13 - i) for i, frame in enumerate(c["frames"])])
    n = int(known(scene).sum())
    with pytest.warns(UserWarning, match=rf"does not belong to the poses: \d+ of {n} points are"):
        found = Transforms(str(root), **AS_IT_IS).read("train")
    assert found.depths is None


ROWS = "1 0 0\n0 0 1\n"
HEAD = (
    "ply\nformat ascii 1.0\nelement vertex 2\n"
    "property float x\nproperty float y\nproperty float z\n"
    "element observation {n}\nproperty {kind} image\nproperty {kind} vertex\n"
    "property float x\nproperty float y\nend_header\n"
)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (HEAD.format(n=1, kind="uint") + ROWS + "10 2 3 4\n", "it observes vertex 2 of 2"),
        (HEAD.format(n=1, kind="int") + ROWS + "10 -1 3 4\n", "are no natural numbers"),
        (HEAD.format(n=1, kind="float") + ROWS + "10 1 3 4\n", "are no natural numbers"),
        (HEAD.format(n=9000000, kind="uint") + ROWS + "10 1 3 4\n", "no room for the 9000000 rows"),
        (HEAD.format(n=10**12, kind="uint") + ROWS + "10 1 3 4\n", "no room for the 10+ rows"),
        (HEAD.format(n=-1, kind="uint") + ROWS + "10 1 3 4\n", "no room for the -1 rows"),
        (HEAD.format(n=2, kind="uint") + ROWS + "10 1 3.0000000 4\n", "it ends after 1 of 2 rows"),
        (HEAD.format(n=1, kind="uint") + ROWS + "10 1 3\n", "is no PLY file of points"),
        (HEAD.format(n=1, kind="list uint int") + ROWS + "1 1 1 1\n", "'list'"),
        (HEAD.format(n=1, kind="uint").replace("y\nend", "u\nend") + ROWS + "1 1 1 1\n", "y"),
    ],
)
def test_what_cannot_be_is_done_without(root, content, reason):
    """Near and far still follow from the points, and nothing takes memory by a number alone."""
    write_file(root / "points.ply", content.encode())
    with pytest.warns(UserWarning, match=f"{reason}.*: depth at its points is not used"):
        found = Transforms(str(root), **AS_IT_IS).read("train")
    assert found.depths is None


def test_text_is_read_as_well(root, scene):
    points, images, seen, pixels = observed(scene)
    head = HEAD.format(n=len(seen), kind="int").replace("vertex 2", f"vertex {len(points)}")
    rows = [" ".join(map(repr, point)) for point in points.tolist()]
    rows += [
        f"{10 + i} {k} {x} {y}"
        for i, k, (x, y) in zip(images.tolist(), seen.tolist(), pixels.tolist(), strict=True)
    ]
    write_file(root / "points.ply", (head + "\n".join(rows)).encode())
    check_depths(read(root).depths, expected(scene))
