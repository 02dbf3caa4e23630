import math

import torch

from dietnerf.data import Procedural
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.poses import (
    Surroundings,
    face_one_way,
    fly,
    interpolate,
    look_at,
    nearest_neighbor_order,
    spiral,
)

CENTER = torch.tensor([0.3, -0.2, 0.5])
UP = torch.nn.functional.normalize(torch.tensor([0.1, 0.2, 1.0]), dim=0)


def around(elevation: float = 0.4, radius: float = 3.0) -> Surroundings:
    return Surroundings(CENTER, UP, radius, elevation)


def cameras(poses: torch.Tensor) -> Cameras:
    n = len(poses)
    half = torch.full((n, 2), 8.0)
    return Cameras(poses, 4 * half, half, torch.full((n,), 2.0), torch.full((n,), 6.0), 16, 16)


def assert_rigid(poses: torch.Tensor) -> None:
    rotations = poses[:, :, :3]
    identity = torch.eye(3).expand_as(rotations)
    torch.testing.assert_close(rotations.mT @ rotations, identity, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        torch.linalg.det(rotations), torch.ones(len(poses)), atol=1e-5, rtol=0
    )


def test_look_at_puts_the_target_on_the_axis_and_up_upwards():
    pose = look_at(torch.tensor([[4.0, 0, 1]]), torch.zeros(3), torch.tensor([0.0, 0, 1]))
    assert_rigid(pose)
    along = -pose[0, :, 2] * torch.tensor([4.0, 0, 1]).norm()
    torch.testing.assert_close(pose[0, :, 3] + along, torch.zeros(3), atol=1e-6, rtol=0)
    assert pose[0, 2, 1] > 0


def test_look_at_straight_down_is_still_a_pose():
    assert_rigid(look_at(torch.tensor([[0.0, 0, 5]]), torch.zeros(3), torch.tensor([0.0, 0, 1])))


def ring(around: Surroundings, n: int) -> torch.Tensor:
    """Poses all around, at one height, that look at the middle."""
    azimuths = torch.arange(n) * (2 * math.pi / n)
    elevations = torch.full((n,), around.elevation)
    places = around.positions(azimuths, elevations, around.radius)
    return look_at(places, around.center, around.up)


def test_a_spiral_looks_at_the_center():
    poses = spiral(around(), 12)
    assert_rigid(poses)
    to_center = torch.nn.functional.normalize(CENTER - poses[:, :, 3], dim=-1)
    torch.testing.assert_close(-poses[:, :, 2], to_center, atol=1e-5, rtol=0)


def test_surroundings_are_recovered_from_cameras():
    found = Surroundings.of(cameras(spiral(around(), 9)))
    torch.testing.assert_close(found.center, CENTER, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.up, UP, atol=1e-3, rtol=0)
    assert 2.4 < found.radius < 3.0 and 0.2 < found.elevation < 0.6


def test_surroundings_of_one_camera_are_in_the_middle_of_its_range():
    found = Surroundings.of(cameras(ring(around(radius=4.0), 1)))
    torch.testing.assert_close(found.center, CENTER, atol=1e-3, rtol=0)


def test_interpolation_goes_through_its_poses():
    poses = ring(around(), 4)
    path = interpolate(poses, 7)
    assert_rigid(path)
    torch.testing.assert_close(path[::2], poses, atol=1e-5, rtol=0)


def test_tour_goes_to_the_nearest():
    assert nearest_neighbor_order(torch.tensor([[0.0], [5.0], [1.0], [4.0]])) == [0, 2, 3, 1]


def test_near_and_far_follow_the_distance():
    """A camera twice as far away sees the same piece of space."""
    seen_from = cameras(ring(around(radius=4.0), 3))
    moved = fly(seen_from, ring(around(radius=8.0), 2), around())
    torch.testing.assert_close(moved.near, torch.full((2,), 6.0))
    torch.testing.assert_close(moved.far, torch.full((2,), 10.0))
    close = fly(seen_from, ring(around(radius=1.0), 2), around())
    assert (close.near > 0).all() and (close.far > close.near).all()


def forward_cameras(n=9, turn=0.1):
    """Cameras in a plane, all of which look at a point four units ahead."""
    generator = torch.Generator().manual_seed(0)
    places = torch.rand(n, 3, generator=generator) * torch.tensor([2.0, 1.0, turn])
    poses = look_at(places, torch.tensor([1.0, 0.5, -4.0]), torch.tensor([0.0, 1.0, 0.0]))
    near, far = torch.full((n,), 2.0), torch.full((n,), 8.0)
    ones = torch.full((n, 2), 8.0)
    return Cameras(poses, 2 * ones, ones, near, far, 16, 16)


def test_cameras_that_face_one_way_are_distinguished_from_those_around():
    assert face_one_way(forward_cameras())
    assert not face_one_way(Procedural(n_train=8).cameras("train"))
    assert not face_one_way(forward_cameras(1)), "one camera says nothing"
