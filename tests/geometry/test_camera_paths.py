"""Default films of captures whose kind is known: how they go, and how little of them is unseen."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import Delaunay

from dietnerf.geometry.camera_paths import (
    MOST_UNSEEN,
    covered_arc,
    default_flight,
    loop,
    middle_depths,
    orbit,
    sway,
    swing,
    walk,
)
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.poses import Surroundings, look_at
from dietnerf.geometry.unseen import unseen_share
from tests.geometry.test_coverage import UP, cameras_of, ring

SECTOR = [20.0 * i for i in range(10)]


def stage(n_columns: int = 4, n_rows: int = 3, is_turned_in: bool = True) -> Cameras:
    """A grid in the plane y = 0 that looks along y, at one point or in parallel."""
    x, z = torch.meshgrid(
        torch.linspace(-1, 1, n_columns), torch.linspace(-0.5, 0.5, n_rows), indexing="ij"
    )
    places = torch.stack([x.flatten(), torch.zeros(x.numel()), z.flatten()], dim=1)
    ahead = torch.tensor([0.0, 5.0, 0.0])
    return cameras_of(look_at(places, ahead if is_turned_in else places + ahead, UP))


def room(n: int = 40) -> Cameras:
    """A hand-held walk along three sides of a square that looks out of it, 30 degrees down."""
    t = torch.linspace(-0.75, 0.75, n) * math.pi
    places = torch.stack([2 * t.cos(), 2 * t.sin(), 1.6 + 0.1 * (9 * t).sin()], dim=1)
    out = torch.stack([t.cos(), t.sin(), torch.full_like(t, -0.5)], dim=1)
    return cameras_of(look_at(places, places + out, UP))


def corridor() -> Cameras:
    """A walk ahead, a few depths long."""
    places = torch.stack([torch.zeros(30), torch.linspace(0, 20, 30), torch.zeros(30)], dim=1)
    return cameras_of(look_at(places, places + torch.tensor([0.0, 1, 0]), UP))


def panorama() -> Cameras:
    """All around from one place, as exactly as a tripod stands."""
    directions = ring([20.0 * i for i in range(18)], 0).positions
    places = 1e-3 * torch.randn(18, 3, generator=torch.Generator().manual_seed(0))
    return cameras_of(look_at(places, directions, UP))


CAPTURES = {
    "ring": (ring([45.0 * i for i in range(8)]), "orbit"),
    "four around": (ring([0.0, 100.0, 200.0, 290.0]), "orbit"),
    "half a ring": (ring(SECTOR), "swing"),
    "three of one side": (ring([0.0, 40.0, 80.0]), "swing"),
    "stage": (stage(), "spiral"),
    "parallel": (stage(is_turned_in=False), "spiral"),
    "two of a stage": (stage(2, 1), "spiral"),
    "room": (room(), "walk"),
    "corridor": (corridor(), "walk"),
    "panorama": (panorama(), "walk"),
    "two opposite": (ring([0.0, 180.0]), "sway"),
    "two at one place": (ring([0.0, 0.0]), "sway"),
    "one": (ring([0.0]), "sway"),
}


@pytest.mark.parametrize(("cameras", "name"), CAPTURES.values(), ids=CAPTURES)
def test_the_default_film_suits_the_capture(cameras: Cameras, name: str):
    chosen, frames = default_flight(cameras, 60)
    assert chosen == name and len(frames) == 60
    depths = middle_depths(frames, cameras, Surroundings.of(cameras))
    assert unseen_share(frames, cameras, depths) < MOST_UNSEEN
    assert_upright(frames)
    assert (frames.c2w - frames.c2w[:1]).abs().max() > 0.05, "it moves"
    assert (frames.near > 0).all() and (frames.near < frames.far).all()


def assert_upright(frames: Cameras) -> None:
    """Rotations whose x axis is level and whose y axis points up."""
    turns = frames.c2w[:, :, :3]
    torch.testing.assert_close(turns.mT @ turns, torch.eye(3).expand_as(turns), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(len(frames)), atol=1e-5, rtol=0)
    assert (frames.c2w[:, 2, 0].abs() < 0.03).all() and (frames.c2w[:, 2, 1] > 0).all()


@pytest.mark.parametrize(("cameras", "name"), CAPTURES.values(), ids=CAPTURES)
def test_films_do_not_depend_on_how_the_world_is_turned_or_its_unit(cameras: Cameras, name: str):
    turn = torch.linalg.qr(torch.randn(3, 3)).Q
    turn = turn * turn.det()
    poses = turn @ cameras.c2w
    poses[:, :, 3] = 10 * poses[:, :, 3] + torch.tensor([1.0, -2.0, 3.0])
    moved = replace(cameras, c2w=poses, near=10 * cameras.near, far=10 * cameras.far)
    assert default_flight(moved, 12)[0] == name


def test_an_orbit_comes_round_as_high_and_far_as_the_cameras_are():
    low, high = ring([0.0, 60.0, 120.0], 10, 3), ring([180.0, 240.0, 300.0], 50, 6)
    cameras = cameras_of(torch.cat([low.c2w, high.c2w]))
    frames = orbit(cameras, 36)
    around = Surroundings.of(cameras)
    azimuths, elevations, radii = around.angles(frames.positions)
    turns = torch.remainder(azimuths.diff(), 2 * math.pi)
    torch.testing.assert_close(turns, torch.full((35,), 2 * math.pi / 36), atol=1e-4, rtol=0)
    own = around.angles(cameras.positions)
    for i, k in ((1, 1), (4, 4)):  # the middle of those below, and of those above
        nearest = int((azimuths - own[0][i]).abs().argmin())
        assert float(radii[nearest]) == pytest.approx(float(own[2][k]), rel=0.12)
    assert elevations.max() - elevations.min() > math.radians(20)
    to_center = torch.nn.functional.normalize(around.center - frames.positions, dim=-1)
    torch.testing.assert_close(-frames.c2w[:, :, 2], to_center, atol=1e-4, rtol=0)


def test_height_and_distance_can_be_chosen():
    cameras = ring(SECTOR)
    around = Surroundings.of(cameras)
    for path in (orbit, swing):
        frames = path(cameras, 8, elevation=0.2, radius=2.0)
        _, elevations, radii = around.angles(frames.positions)
        torch.testing.assert_close(elevations, torch.full((8,), 0.2), atol=1e-4, rtol=0)
        torch.testing.assert_close(radii, torch.full((8,), 2.0), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("azimuths", "begin", "extent"),
    [
        (SECTOR, 0, 180),
        ([350.0, 10.0, 30.0], -10, 40),
        ([0.0, 115.0, 200.0, 290.0], None, 360),
        ([0.0, 50.0, 180.0], 0, 50),
        ([90.0, 270.0], None, 0),
        ([90.0], 90, 0),
    ],
)
def test_the_arc_is_the_longest_without_a_wide_gap(azimuths, begin, extent):
    cameras = ring(azimuths)
    around = replace(Surroundings.of(cameras), center=torch.zeros(3), up=UP)
    found, length = covered_arc(cameras, around)
    assert math.degrees(length) == pytest.approx(extent, abs=0.1)
    if begin is not None:
        own = float(around.angles(ring([float(begin)]).positions)[0])
        assert math.remainder(found - own, 2 * math.pi) == pytest.approx(0, abs=1e-3)


def test_a_swing_goes_to_both_ends_of_the_sector_and_no_farther():
    frames = swing(ring(SECTOR), 60)
    x, y, _ = frames.positions.T
    azimuths = torch.remainder(torch.atan2(y, x).rad2deg() + 90, 360) - 90
    assert float(azimuths.min()) == pytest.approx(0, abs=1)
    assert float(azimuths.max()) == pytest.approx(180, abs=1)
    assert (frames.positions[0] - frames.positions[-1]).norm() < 1, "it ends where it begins"


def test_what_was_not_seen_gives_way_to_what_stays_closer():
    """Two groups of cameras with 80 degrees between them, which a scene hides."""
    cameras = ring([0.0, 20.0, 40.0, 120.0, 150.0])
    name, frames = default_flight(cameras, 40)
    assert name == "swing" and 140 < _sweep(frames) < 151
    name, frames = default_flight(cameras, 40, lambda frames: 0.01 + 0.2 * (_sweep(frames) > 60))
    assert name == "swing" and 35 < _sweep(frames) < 41
    assert default_flight(cameras, 40, lambda frames: _sweep(frames) / 360)[0] == "sway"


def _sweep(frames: Cameras) -> float:
    """Difference of azimuths, degrees."""
    return float(np.ptp(torch.atan2(*frames.positions[:, [1, 0]].T).rad2deg().numpy()))


@pytest.mark.parametrize("is_turned_in", [True, False])
def test_a_loop_among_cameras_stays_within_their_hull(is_turned_in: bool):
    generator = torch.Generator().manual_seed(0)
    places = torch.rand(9, 3, generator=generator) * torch.tensor([2.0, 0.2, 1.0])
    ahead = torch.tensor([1.0, 5.0, 0.5])
    goals = ahead if is_turned_in else places + ahead
    cameras = cameras_of(look_at(places, goals, UP))
    frames = loop(cameras, 40)
    assert (Delaunay(places.numpy()).find_simplex(frames.positions.numpy(), tol=1e-5) >= 0).all()
    assert (frames.positions.std(dim=0) > 0.3 * places.std(dim=0))[[0, 2]].all(), "it gets about"
    torch.testing.assert_close(frames.c2w[0], loop(cameras, 20).c2w[0])


def test_a_loop_among_parallel_cameras_keeps_their_direction():
    frames = loop(stage(is_turned_in=False), 20)
    torch.testing.assert_close(
        -frames.c2w[:, :, 2], torch.tensor([0.0, 1, 0]).expand(20, 3), atol=1e-5, rtol=0
    )


def test_two_cameras_are_gone_to_and_fro_between():
    x, y, z = loop(stage(2, 1), 40).positions.T
    assert x.min() < -0.9 and x.max() > 0.9 and (x.abs() <= 1).all()
    assert (y.abs() < 1e-5).all() and ((z + 0.5).abs() < 1e-5).all()


@pytest.mark.parametrize("order", ["as taken", "jumbled"])
def test_a_walk_goes_smoothly_along_the_cameras(order: str):
    cameras = room()
    if order == "jumbled":  # though not where it begins
        rest = 1 + torch.randperm(39, generator=torch.Generator().manual_seed(1))
        cameras = cameras[torch.cat([torch.tensor([0]), rest])]
    frames = walk(cameras, 50)
    apart = torch.cdist(frames.positions, cameras.positions)
    assert apart.min(dim=1).values.max() < 0.2, "it stays near them"
    assert apart.min(dim=0).values.max() < 0.4, "it comes past all"
    own = apart.argmin(dim=1)
    assert ((frames.c2w[:, :, 2] * cameras.c2w[own, :, 2]).sum(dim=1) > 0.98).all()
    steps = frames.positions.diff(dim=0).norm(dim=1)
    assert steps.max() < 2 * steps.mean()


def test_a_walk_ends_where_the_cameras_jump():
    """From one corner of a flat to another, without photos of the way between."""
    here, there = room(30), room(12)
    poses = torch.cat([here.c2w, there.c2w + torch.tensor([0.0, 0, 0, 30.0])])
    frames = walk(cameras_of(poses), 20)
    assert (frames.positions.norm(dim=1) < 4).all()


def test_what_is_far_from_the_origin_is_as_smooth():
    cameras = room()
    far = replace(cameras, c2w=cameras.c2w + torch.tensor([0.0, 0, 0, 5000.0]))
    torch.testing.assert_close(
        walk(far, 9).c2w[:, :, :3], walk(cameras, 9).c2w[:, :, :3], atol=2e-3, rtol=0
    )


def test_a_single_camera_sways_about_its_place():
    cameras = ring([30.0])
    frames = sway(cameras, 24)
    apart = (frames.positions - cameras.positions).norm(dim=1)
    assert 0.05 < apart.max() < 0.3
    assert (frames.c2w[:, :, 2] @ cameras.c2w[0, :, 2] > 0.99).all()
    steps = (frames.positions - frames.positions.roll(1, 0)).norm(dim=1)
    assert steps.max() < 3 * steps.min(), "it comes round"


def test_wide_gaps_of_few_views_are_not_crossed():
    cameras = ring([0.0, 50.0, 180.0])
    name, frames = default_flight(cameras, 40)
    azimuths = torch.atan2(*frames.positions[:, [1, 0]].T).rad2deg().numpy()
    assert name == "swing" and ((azimuths > -1) & (azimuths < 51)).all()
    assert np.ptp(azimuths) > 20
