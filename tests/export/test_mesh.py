"""Surfaces in closed form, and that of a generated scene that was trained."""

import itertools
import math
from pathlib import Path

import meshio
import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn import functional as F

from dietnerf.data.camera_set import CameraSet
from dietnerf.data.procedural.reader import SCENES
from dietnerf.data.procedural.solids import first_hit
from dietnerf.errors import UserError
from dietnerf.export.command import main
from dietnerf.export.mesh import extract, write_mesh
from dietnerf.fields import AbstractField
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.poses import look_at
from dietnerf.geometry.rays import Samples
from dietnerf.sampling import Occupancy
from dietnerf.scene_model import SceneModel
from dietnerf.training.cli import main as train
from tests.helpers import Ball

SOLID = 200.0  # density
BOX = [-1.5, -1.5, -1.5, 1.5, 1.5, 1.5]
SIDES = [[1, 0, 0.2], [-1, 0, 0.2], [0, 1, 0.2], [0, -1, -0.2], [0.2, 0, 1], [0, 0.2, -1]]
ALL_AROUND = [*SIDES, *map(list, itertools.product([-1, 1], repeat=3))]
FROM_ABOVE = [[0.1, 0, 1]]


class Shell(Ball):
    """The ball, empty inside of 0.7."""

    def density(self, samples: Samples):
        sigmas, features = super().density(samples)
        return sigmas * (samples.positions.norm(dim=-1) > 0.7), features


class Two(Ball):
    """A ball of radius 1/2 about the origin, and one of 0.1 at (0, 0, -1.2)."""

    def density(self, samples: Samples):
        offsets = samples.positions + torch.tensor([0.0, 0.0, 1.2])
        is_inside = (samples.positions.norm(dim=-1) < 0.5) | (offsets.norm(dim=-1) < 0.1)
        return self.sigma * is_inside.float(), samples.positions


class Rainbow(Ball):
    """A ball of other colors everywhere, and black but at its surface."""

    def color(self, features: Tensor, samples: Samples) -> Tensor:
        is_near = abs(samples.positions.norm(dim=-1, keepdim=True) - self.radius) < 0.05
        return (samples.positions + 1.5) / 3 * is_near


def looking_at_origin(directions: list[list[float]]) -> Cameras:
    positions = 4 * F.normalize(torch.tensor(directions, dtype=torch.float32), dim=-1)
    n, size = len(positions), 32
    poses = look_at(positions, torch.zeros(3), torch.tensor([0.0, 0.0, 1.0]))
    focal, one = torch.full((n, 2), 1.2 * size), torch.ones(n)
    return Cameras(poses, focal, torch.full((n, 2), size / 2), 2 * one, 6 * one, size, size)


def system_of(field: AbstractField, directions: list[list[float]] = ALL_AROUND) -> SceneModel:
    """A scene that shows a field in closed form."""
    cameras = looking_at_origin(directions)
    sampler = Occupancy(resolution=32, n_eval_steps=256, bounds=BOX)  # all cells are occupied
    sampler.prepare(cameras, field)
    system = SceneModel(field, sampler).eval()
    system.camera_set = CameraSet(
        {"train": cameras}, {"train": [*range(len(cameras))]}, torch.ones(3)
    )
    return system


def distances(mesh: trimesh.Trimesh, truth: np.ndarray) -> tuple[float, float]:
    """Mean distance of the mesh from points of the true surface, and of those from the mesh."""
    points, _ = trimesh.sample.sample_surface(mesh, 20_000, seed=0)
    there, back = cKDTree(truth).query(points)[0], cKDTree(points).query(truth)[0]
    return float(there.mean()), float(back.mean())


def off_the_ball(mesh: trimesh.Trimesh) -> np.ndarray:
    """How far each vertex lies from the unit sphere."""
    return abs(np.linalg.norm(mesh.vertices, axis=1) - 1)


def test_a_ball_is_a_closed_ball_of_its_color():
    mesh = extract(system_of(Ball(sigma=SOLID)), resolution=64)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert np.quantile(off_the_ball(mesh), 0.98) < 3 / 64  # a cell
    assert mesh.volume == pytest.approx(4 / 3 * math.pi, rel=0.06)  # positive: normals look out
    colors = mesh.visual.vertex_colors[:, :3].astype(int)
    assert abs(colors - [204, 0, 0]).max() <= 3


def test_a_hollow_that_no_camera_sees_is_filled():
    mesh = extract(system_of(Shell(sigma=SOLID)), resolution=64)
    assert mesh.volume == pytest.approx(4 / 3 * math.pi, rel=0.06)


def test_small_parts_are_left_out():
    assert extract(system_of(Two(sigma=SOLID)), resolution=64, smallest=0.1).bounds[0, 2] > -0.6
    assert extract(system_of(Two(sigma=SOLID)), resolution=64, smallest=0.0).bounds[0, 2] < -1.2


def test_what_no_camera_sees_is_left_out():
    mesh = extract(system_of(Two(sigma=SOLID), FROM_ABOVE), resolution=64, smallest=0.0)
    assert mesh.bounds[0, 2] > -0.2
    assert mesh.bounds[1, 2] == pytest.approx(0.5, abs=0.05)


def test_a_box_cuts_a_part_out_that_is_closed():
    mesh = extract(
        system_of(Ball(sigma=SOLID)), bounds=[0, -1.5, -1.5, 1.5, 1.5, 1.5], resolution=64
    )
    assert mesh.is_watertight
    assert mesh.bounds[0, 0] > -3 / 64
    assert mesh.volume == pytest.approx(2 / 3 * math.pi, rel=0.1)


def test_fewer_triangles_on_request():
    mesh = extract(system_of(Ball(sigma=SOLID)), resolution=64, n_faces=500)
    assert 300 < len(mesh.faces) <= 500
    assert np.quantile(off_the_ball(mesh), 0.9) < 3 / 64


def test_fewer_triangles_have_colors_of_the_many():
    system = system_of(Rainbow(sigma=SOLID))
    many, few = (
        {tuple(color) for color in extract(system, resolution=64, n_faces=n).visual.vertex_colors}
        for n in (None, 60)
    )
    assert few <= many


def test_nothing_to_be_seen_is_said():
    with pytest.raises(UserError, match="nothing in the box stops"):
        extract(system_of(Ball(sigma=0.1)), resolution=32)


@pytest.mark.parametrize("ending", ["ply", "obj"])
def test_another_library_opens_it(ending: str, tmp_path: Path):
    mesh, out = extract(system_of(Ball(sigma=SOLID)), resolution=32), tmp_path / f"ball.{ending}"
    write_mesh(mesh, torch.tensor([0.0, 0.0, 1.0]), out)
    found = meshio.read(out)
    np.testing.assert_allclose(found.points[:, :3], mesh.vertices, atol=1e-5)
    assert sum(len(block.data) for block in found.cells) == len(mesh.faces)
    if ending == "ply":
        assert abs(found.point_data["red"].view(np.uint8).astype(int) - 204).max() <= 3


def test_glb_stands_upright(tmp_path: Path):
    mesh, out = (
        extract(system_of(Two(sigma=SOLID)), resolution=64, smallest=0.0),
        tmp_path / "two.glb",
    )
    write_mesh(mesh, torch.tensor([0.0, 0.0, 1.0]), out)
    scene = trimesh.load_scene(out)
    lowest, highest = scene.bounds
    assert lowest[1] == pytest.approx(-1.3, abs=0.05), "the small ball is below: -y in glTF"
    assert highest[1] == pytest.approx(0.5, abs=0.05)
    (loaded,) = scene.geometry.values()
    assert abs(loaded.visual.vertex_colors[:, 0].astype(int) - 204).max() <= 3


def true_surface(name: str, n: int) -> np.ndarray:
    """Points of a generated scene that n rays from all sides meet first, (m, 3)."""
    generator = torch.Generator().manual_seed(0)
    outward = F.normalize(torch.randn(n, 3, generator=generator), dim=-1)
    aside = 1.5 * (2 * torch.rand(n, 3, generator=generator) - 1)
    origins = 4 * outward + aside - (aside * outward).sum(dim=-1, keepdim=True) * outward
    t, _ = first_hit(SCENES[name](), origins, -outward)
    is_hit = t.isfinite()
    return (origins - t[:, None] * outward)[is_hit].numpy()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "coast"
    options = {
        "--config": "quickstart",
        "--data.reader.init_args.resolution": "64",
        "--data.reader.init_args.n_train": "20",
        "--data.reader.init_args.n_val": "1",
        "--data.views.init_args.n": "20",
        "--data.val_views.init_args.n": "1",
        "--data.samples_per_step": "16384",
        "--model.sampler.init_args.resolution": "64",
        "--trainer.max_steps": "600",
        "--trainer.val_check_interval": "600",
        "--trainer.enable_progress_bar": "false",
        "--run": str(run),
    }
    train(["fit", *(word for pair in options.items() for word in pair)])
    return run


def test_a_trained_scene_is_near_its_true_surface(trained: Path, tmp_path: Path):
    out = tmp_path / "coast.ply"
    main(["mesh", str(trained), "--resolution", "160", "--out", str(out)])
    mesh = trimesh.load_mesh(out)
    truth = true_surface("coast", 60_000)
    size = float((truth.max(axis=0) - truth.min(axis=0)).max())
    there, back = distances(mesh, truth)
    assert mesh.is_watertight
    assert (there + back) / 2 < 0.02 * size, (there / size, back / size)
