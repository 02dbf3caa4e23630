"""Cameras whose coverage is known in closed form."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dietnerf.data import Procedural
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.coverage import Coverage, covered_share, widest_gap
from dietnerf.geometry.poses import look_at

UP = torch.tensor([0.0, 0.0, 1.0])


def ring(azimuths_deg: list[float], elevation_deg: float = 30.0, radius: float = 4.0) -> Cameras:
    """Cameras that look at the origin, 0.69 rad wide, from 2 to 6 along the axis."""
    azimuths = torch.tensor(azimuths_deg).deg2rad()
    elevation = torch.full_like(azimuths, math.radians(elevation_deg))
    level = elevation.cos()
    outward = torch.stack([level * azimuths.cos(), level * azimuths.sin(), elevation.sin()], dim=-1)
    return cameras_of(look_at(radius * outward, torch.zeros(3), UP))


def cameras_of(poses: Tensor) -> Cameras:
    n = len(poses)
    near, far = torch.full((n,), 2.0), torch.full((n,), 6.0)
    focal, center = torch.full((n, 2), 50 / math.tan(0.69 / 2)), torch.full((n, 2), 50.0)
    return Cameras(poses, focal, center, near, far, 100, 100)


@pytest.mark.parametrize("n", [4, 8, 12])
def test_gap_of_a_ring_is_its_step(n: int):
    coverage = Coverage.of(ring([360 * i / n for i in range(n)]))
    assert math.degrees(coverage.widest_gap) == pytest.approx(360 / n, abs=0.1)
    assert coverage.kind == "object"


def test_gap_of_one_side_is_the_other_side():
    coverage = Coverage.of(ring([80.0, 10.0, 40.0, 170.0, 120.0]))
    assert math.degrees(coverage.widest_gap) == pytest.approx(200, abs=0.1)
    assert coverage.gap_views == (3, 1), "from the last of the arc on to the first"


def test_gap_does_not_depend_on_how_the_world_is_turned():
    cameras = ring([0.0, 50.0, 100.0, 180.0, 300.0])
    turn = torch.linalg.qr(torch.randn(3, 3)).Q
    turn = turn * turn.det()
    turned = replace(cameras, c2w=turn @ cameras.c2w)
    assert math.degrees(Coverage.of(turned).widest_gap) == pytest.approx(120, abs=0.1)


def test_a_camera_straight_above_closes_no_gap():
    coverage = Coverage.of(
        cameras_of(
            torch.cat(
                [
                    ring([0.0, 90.0]).c2w,
                    look_at(torch.tensor([[-0.1, -0.1, 4.0]]), torch.zeros(3), UP),
                ]
            )
        )
    )
    assert math.degrees(coverage.widest_gap) == pytest.approx(270, abs=0.1)


def test_one_direction_covers_a_cap():
    """A cap of angle a is (1 - cos a) / 2 of the sphere; two opposite ones are twice that."""
    for angle in (0.3, 1.0):
        cap = (1 - math.cos(angle)) / 2
        assert covered_share(UP[None], angle) == pytest.approx(cap, abs=2e-3)
        assert covered_share(torch.stack([UP, -UP]), angle) == pytest.approx(2 * cap, abs=2e-3)
        assert covered_share(torch.stack([UP, UP]), angle) == pytest.approx(cap, abs=2e-3)


def test_one_direction_leaves_the_whole_round():
    gap, ends = widest_gap(torch.tensor([[1.0, 0.0, 0.0]]), UP)
    assert gap == pytest.approx(2 * math.pi)
    assert ends == (0, 0)


def test_more_views_overlap_more():
    few, many = (Coverage.of(Procedural(n_train=n).cameras("train")) for n in (2, 30))
    assert few.seen_by_three == 0.0
    assert many.seen_by_three > 0.8
    assert few.seen_by_two < many.seen_by_two <= 1


def test_cameras_side_by_side_look_forward():
    positions = torch.tensor([[-1.0, 0, 0], [0.0, 0, 0], [1.0, 0, 0]])
    forward = Coverage.of(cameras_of(look_at(positions, positions + torch.tensor([0, 5.0, 0]), UP)))
    assert forward.kind == "forward"
    assert forward.spread == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("radius", [0.0, 1.0])
def test_cameras_that_look_outwards_are_inside(radius: float):
    outward = ring([45.0 * i for i in range(8)], elevation_deg=0).positions / 4
    coverage = Coverage.of(cameras_of(look_at(radius * outward, 9 * outward, UP)))
    assert coverage.kind == "inside-out"
    assert math.degrees(coverage.widest_gap) == pytest.approx(45, abs=0.1)
