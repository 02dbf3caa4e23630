import math

import pytest
import torch

from dietnerf.data import Procedural
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.poses import Surroundings, look_at
from dietnerf.geometry.turntable import Turntable

CAMERAS = Procedural(resolution=16, n_train=16).cameras("train")


def facing_one_way(n: int = 5) -> Cameras:
    places = torch.stack([torch.linspace(-0.5, 0.5, n), torch.zeros(n), torch.full((n,), 4.0)], 1)
    return CAMERAS.with_poses(look_at(places, torch.zeros(3), torch.tensor([0.0, 1.0, 0.0])))


def test_angles_are_what_positions_are_made_of():
    around = Surroundings.of(CAMERAS)
    angles = torch.tensor([-3.0, 0.5, 2.0]), torch.tensor([-0.4, 0.1, 1.2])
    radii = torch.tensor([1.0, 2.0, 5.0])
    found = around.angles(around.positions(*angles, radii))
    for one, expected in zip(found, (*angles, radii), strict=True):
        torch.testing.assert_close(one, expected, atol=1e-5, rtol=1e-5)


def test_home_is_the_first_camera():
    table = Turntable.of(CAMERAS)
    camera = table.camera(*table.home)
    torch.testing.assert_close(camera.c2w, CAMERAS.c2w[:1], atol=1e-3, rtol=0)
    torch.testing.assert_close(camera.near, CAMERAS.near[:1], atol=1e-3, rtol=0)
    assert camera.focal.tolist() == CAMERAS.focal[:1].tolist()


def test_sliders_cover_the_cameras_and_a_little_more():
    table = Turntable.of(CAMERAS)
    _, elevations, distances = table.around.angles(CAMERAS.positions)
    assert table.azimuths == (-math.pi, math.pi)
    assert table.elevations[0] < elevations.min() and elevations.max() < table.elevations[1] <= 1.56
    assert 0 < table.distances[0] < distances.min() <= distances.max() < table.distances[1]


def test_cameras_that_face_one_way_are_not_left_far_behind():
    table = Turntable.of(facing_one_way())
    low, high = table.azimuths
    assert -0.6 < low < -0.2 and 0.2 < high < 0.6
    swing = table.full_turn(20, 0.0, 4.0)
    assert (swing.c2w[:, 2, 2] > 0.7).all(), "it never looks from behind"
    assert (swing.positions[0] - swing.positions[-1]).norm() < 0.5, "it ends where it begins"


def test_a_full_turn_comes_round():
    turn = Turntable.of(CAMERAS).full_turn(8, 0.3, 4.0)
    steps = (turn.positions - turn.positions.roll(1, 0)).norm(dim=-1)
    assert steps.tolist() == pytest.approx([float(steps[0])] * 8, rel=1e-3)
