"""Meshes of Gaussians in closed form."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from dietnerf.data.camera_set import CameraSet
from dietnerf.errors import UserError
from dietnerf.export.fusion import Fusion
from dietnerf.export.mesh import extract, write_mesh
from dietnerf.gaussians import Gaussians, Points
from dietnerf.geometry.cameras import Cameras
from dietnerf.scene_model import SceneModel
from tests.export.test_mesh import BOX, looking_at_origin, off_the_ball

CELL = 3 / 64  # of the box at a resolution of 64
ABOVE = [[0.1, 0, 1], [-0.1, 0.1, 1], [0, -0.1, 1]]


def evenly(n: int) -> Tensor:
    """Points of a Fibonacci lattice on the unit sphere, (n, 3)."""
    i = torch.arange(n) + 0.5
    azimuth, z = math.pi * (1 + math.sqrt(5)) * i, 1 - 2 * i / n
    radius = (1 - z * z).sqrt()
    return torch.stack([radius * azimuth.cos(), radius * azimuth.sin(), z], dim=1)


ALL_AROUND = evenly(30).tolist()


def seen_from(directions: list[list[float]]) -> Cameras:
    return looking_at_origin(directions).resized(128, 128)


def scene_of(gaussians: Gaussians, directions: list[list[float]] = ALL_AROUND) -> SceneModel:
    cameras = seen_from(directions)
    scene = SceneModel(gaussians).eval()
    scene.camera_set = CameraSet(
        {"train": cameras}, {"train": [*range(len(cameras))]}, torch.ones(3)
    )
    return scene


def opaque(places: Tensor, size: float) -> Gaussians:
    """Gaussians of a standard deviation of `size`, with colors that say where they are."""
    gaussians = Gaussians(len(places), len(places), antialias=False)
    gaussians.place(Points(places, (places + 1) / 2))
    with torch.no_grad():
        gaussians.log_scales.fill_(math.log(size))
        gaussians.opacity_logits.fill_(3.0)
    return gaussians


def sphere() -> Gaussians:
    return opaque(evenly(8000), size=0.02)


def plane() -> Gaussians:
    """The square from -1 to 1 at z = 0.2."""
    line = torch.linspace(-1, 1, 80)
    return opaque(torch.cartesian_prod(line, line, torch.tensor([0.2])), size=0.015)


def test_a_ball_is_a_closed_ball_of_its_colors():
    mesh = extract(scene_of(sphere()), BOX, resolution=64)
    assert mesh.is_watertight
    assert np.quantile(off_the_ball(mesh), 0.98) < CELL
    assert mesh.volume == pytest.approx(4 / 3 * math.pi, rel=0.1)  # positive: normals look out
    off = mesh.visual.vertex_colors[:, :3] / 255 - (mesh.vertices + 1) / 2
    assert np.quantile(abs(off), 0.95) < 0.05


def test_a_plane_lies_at_its_depth_and_has_no_back():
    mesh = extract(scene_of(plane(), ABOVE), BOX, resolution=64)
    # At the rim, past which views see, a skirt as deep as the truncation hangs down.
    is_within = (abs(mesh.triangles_center[:, :2]) < 0.9).all(axis=1)
    assert abs(mesh.triangles[is_within, :, 2] - 0.2).max() < 0.3 * CELL
    assert mesh.area_faces[is_within].sum() == pytest.approx(1.8**2, rel=0.03)  # half a cell a side
    assert mesh.bounds[0, 2] > 0.2 - 4 * CELL
    assert (mesh.face_normals[is_within, 2] > 0.9).all(), "they look at the cameras"
    assert not mesh.is_watertight


def test_it_is_open_where_nobody_looked():
    mesh = extract(scene_of(sphere(), ABOVE), BOX, resolution=64)
    assert mesh.bounds[1, 2] == pytest.approx(1, abs=CELL)
    assert mesh.bounds[0, 2] > -0.1
    assert np.quantile(off_the_ball(mesh), 0.95) < 1.5 * CELL


def test_what_one_of_many_views_shows_is_left_out():
    mesh = extract(scene_of(sphere(), [*ABOVE, [0, 0.1, -1]]), BOX, resolution=64)
    assert mesh.bounds[0, 2] > -0.1


def test_one_view_is_enough_where_there_is_no_other():
    assert extract(scene_of(plane(), ABOVE[:1]), BOX, resolution=64).area > 3


def test_its_box_is_what_gaussians_fill_but_for_strays():
    gaussians = sphere()
    with torch.no_grad():
        gaussians.means[:20] = torch.tensor([3.0, 3.0, -3.0])
    box = Fusion(gaussians, seen_from(ALL_AROUND)).box
    torch.testing.assert_close(box, torch.tensor([[-1.2] * 3, [1.2] * 3]), atol=0.05, rtol=0)


def test_a_box_and_fewer_triangles_on_request():
    half = [0, *BOX[1:]]
    mesh = extract(scene_of(sphere()), half, resolution=64, n_faces=600)
    assert 300 < len(mesh.faces) <= 600
    assert mesh.bounds[0, 0] == pytest.approx(0, abs=CELL)
    assert np.quantile(off_the_ball(mesh), 0.9) < CELL


@pytest.mark.parametrize("what", ["faint", "beside"])
def test_nothing_to_be_seen_is_said(what: str):
    gaussians, box = sphere(), BOX
    if what == "faint":
        torch.nn.init.constant_(gaussians.opacity_logits, -6.0)
    else:
        box = [2.0, 2.0, 2.0, 3.0, 3.0, 3.0]
    with pytest.raises(UserError, match="no surface in the box is seen by 3 training views"):
        extract(scene_of(gaussians), box, resolution=32)


def test_a_level_is_refused():
    with pytest.raises(UserError, match="--level is for the density of a field"):
        extract(scene_of(plane()), level=0.5)


@pytest.mark.parametrize("ending", [".ply", ".obj", ".glb"])
def test_it_is_written_in_any_format(ending: str, tmp_path: Path):
    mesh, out = extract(scene_of(plane(), ABOVE), BOX, resolution=32), tmp_path / f"a{ending}"
    write_mesh(mesh, torch.tensor([0.0, 0.0, 1.0]), out)
    (found,) = trimesh.load_scene(out).geometry.values()
    assert len(found.faces) == len(mesh.faces)
    assert found.visual.kind == "vertex"
