"""Scenes written in each format read back with the same rays, to the rounding of float32."""

from dataclasses import replace

import pytest
import torch

from dietnerf.data import COLMAP, LLFF, Blender, ImageDataset, Procedural, Transforms
from dietnerf.errors import UserError
from tests.formats import write_blender, write_colmap, write_llff, write_transforms

AS_IT_IS = {"hold_every": 0, "orient": False, "scale": False}
BARREL = [-0.2, 0.05, 0, 0, 1e-3, -2e-3, 0, 0, 0]
RATIONAL = [0.3, -0.1, 0.02, 0, 1e-3, -2e-3, 0.35, 0.02, 0.01]
FISHEYE = [-0.02, 0.004, -0.003, 5e-4, 0, 0, 0, 0, 0]


@pytest.fixture(scope="module")
def scene() -> ImageDataset:
    return Procedural(resolution=24, n_train=3).read("train")


def with_lens(
    scene: ImageDataset, coefficients: list[float], is_fisheye: bool = False
) -> ImageDataset:
    """The same photographs with other intrinsics in each view."""
    n = len(scene)
    strength = 1 - 0.1 * torch.arange(n)[:, None]
    cameras = replace(
        scene.cameras,
        focal=scene.cameras.focal * torch.tensor([1.0, 1.02]) * strength,
        center=scene.cameras.center + torch.tensor([0.7, -0.4]),
        distortion=strength * torch.tensor(coefficients),
        is_fisheye=torch.full((n,), is_fisheye),
    )
    return replace(scene, cameras=cameras)


def check_rays(found: ImageDataset, scene: ImageDataset, is_near_known: bool = True) -> None:
    assert torch.equal(found.images, scene.images)
    assert (found.masks is None) == (scene.masks is None)
    for i in range(len(scene)):
        rays, expected = found.cameras.image_rays(i), scene.cameras.image_rays(i)
        torch.testing.assert_close(rays.rays_o, expected.rays_o, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(rays.rays_d, expected.rays_d, atol=1e-6, rtol=1e-6)
        if is_near_known:
            torch.testing.assert_close(rays.near, expected.near)
            torch.testing.assert_close(rays.far, expected.far)


def test_blender(scene: ImageDataset, tmp_path):
    write_blender(scene, tmp_path, "train")
    check_rays(Blender(str(tmp_path)).read("train"), scene)


def test_llff(scene: ImageDataset, tmp_path):
    write_llff(scene, tmp_path)
    reader = LLFF(str(tmp_path), 1, 0, recenter=False, bd_factor=None, near=2.0)
    check_rays(reader.read("train"), scene)


LENSES = {"barrel": (BARREL, False), "fisheye": (FISHEYE, True)}


@pytest.mark.parametrize("lens", [None, *LENSES])
def test_transforms(scene: ImageDataset, tmp_path, lens):
    scene = scene if lens is None else with_lens(scene, *LENSES[lens])
    write_transforms(scene, tmp_path)
    found = Transforms(str(tmp_path), **AS_IT_IS).read("train")
    check_rays(found, scene)
    torch.testing.assert_close(found.depths, scene.depths, atol=1e-4, rtol=0)
    assert found.names == scene.names


@pytest.mark.parametrize("is_binary", [True, False])
@pytest.mark.parametrize("lens", [None, "barrel", "fisheye", "rational"])
def test_colmap(scene: ImageDataset, tmp_path, lens, is_binary):
    lenses = {**LENSES, "rational": (RATIONAL, False)}
    scene = scene if lens is None else with_lens(scene, *lenses[lens])
    write_colmap(scene, tmp_path, is_binary=is_binary)
    reader = COLMAP(str(tmp_path), **AS_IT_IS, near=2.0, far=6.0)
    check_rays(reader.read("train"), scene)


def test_cameras_are_those_of_read_in_every_format(scene: ImageDataset, tmp_path):
    scene = with_lens(scene, BARREL)
    write_transforms(scene, tmp_path)
    write_colmap(scene, tmp_path)
    for reader in (Transforms(str(tmp_path)), COLMAP(str(tmp_path))):
        alone, read = reader.cameras("train").to_dict(), reader.read("train").cameras.to_dict()
        for name, value in alone.items():
            same = torch.equal(value, read[name]) if torch.is_tensor(value) else value == read[name]
            assert same, name


def test_photos_of_unlike_size_come_back_on_one_canvas(scene: ImageDataset, tmp_path):
    masks = torch.ones(3, 24, 24, dtype=torch.bool)
    masks[1, 20:], masks[1, :, 18:] = False, False
    masks[2, 3:5, 6:9] = False
    images = scene.images * masks[..., None]
    images[2] = scene.images[2]
    scene = replace(scene, images=images, masks=masks)
    write_transforms(scene, tmp_path)
    found = Transforms(str(tmp_path), **AS_IT_IS).read("train")
    check_rays(found, scene)
    assert torch.equal(found.masks, masks)


@pytest.mark.parametrize("is_binary", [True, False])
def test_sparse_points_tell_bounds_and_depth(scene: ImageDataset, tmp_path, is_binary):
    rays = scene.cameras.image_rays(0)
    depth = scene.depths[0].flatten()
    seen = (depth > 0).nonzero().squeeze(-1)[::5]
    points = rays.rays_o[seen] + depth[seen, None] * rays.rays_d[seen]
    write_colmap(scene, tmp_path, points, is_binary)
    found = COLMAP(str(tmp_path), **AS_IT_IS).read("train")
    known = found.depths[0] > 0
    assert int(known.sum()) == len(seen)
    torch.testing.assert_close(found.depths[0][known], scene.depths[0][known])
    near, far = float(found.cameras.near[0]), float(found.cameras.far[0])
    low, high = float(depth[seen].min()), float(depth[seen].max())
    assert 0.85 * low < near < low and high < far
    offsets = points - scene.cameras.positions[:, None]
    farthest = float((-(offsets * scene.cameras.c2w[:, None, :, 2]).sum(dim=-1)).max())
    assert far < 1.15 * farthest and (found.cameras.far == far).all()


def test_what_a_format_cannot_say_is_refused(scene: ImageDataset, tmp_path):
    barrel, rational = with_lens(scene, BARREL), with_lens(scene, RATIONAL)
    with pytest.raises(UserError, match="Blender format knows one focal length"):
        write_blender(barrel, tmp_path, "train")
    with pytest.raises(UserError, match="LLFF format knows pinhole cameras"):
        write_llff(barrel, tmp_path)
    with pytest.raises(UserError, match=r"transforms.json cannot say .* q1, q2, q3"):
        write_transforms(rational, tmp_path)
    fisheye = with_lens(scene, BARREL, is_fisheye=True)
    with pytest.raises(UserError, match="OPENCV_FISHEYE cannot say the lens coefficients p1, p2"):
        write_colmap(fisheye, tmp_path)


@pytest.mark.parametrize("is_binary", [True, False])
@pytest.mark.parametrize("lens", ["barrel", "fisheye", "rational"])
def test_colmap_itself_reads_the_same_rays(scene: ImageDataset, tmp_path, lens, is_binary):
    pycolmap = pytest.importorskip("pycolmap")
    scene = with_lens(scene, *{**LENSES, "rational": (RATIONAL, False)}[lens])
    write_colmap(scene, tmp_path, torch.eye(3), is_binary=is_binary)
    model = pycolmap.Reconstruction(str(tmp_path / "sparse" / "0"))
    pixels = 24 * torch.rand(20, 2, dtype=torch.float64)
    for i, name in enumerate(scene.names):
        image = next(image for image in model.images.values() if image.name == f"{name}.png")
        pose = image.cam_from_world() if callable(image.cam_from_world) else image.cam_from_world
        turn = torch.from_numpy(pose.rotation.matrix())
        places = torch.from_numpy(model.cameras[image.camera_id].cam_from_img(pixels.numpy()))
        rays_d = torch.cat([places, torch.ones(20, 1)], dim=1) @ turn
        columns, rows = (pixels - 0.5).float().unbind(-1)
        rays = scene.cameras.rays(torch.full((20,), i), columns, rows)
        torch.testing.assert_close(rays.rays_d, rays_d.float(), atol=1e-6, rtol=1e-5)
        position = -turn.T @ torch.from_numpy(pose.translation)
        torch.testing.assert_close(rays.rays_o[0], position.float(), atol=1e-6, rtol=1e-5)
