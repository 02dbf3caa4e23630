"""Random viewpoints lie where they are said to, and see the scene."""

import math

import pytest
import torch

from dietnerf.data import Procedural
from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.viewpoints import AbstractViewpoints, BetweenCameras, SphereCap

N = 4000


def training_cameras() -> Cameras:
    return Procedural(resolution=8).read("train").cameras


def prepared(viewpoints: AbstractViewpoints) -> AbstractViewpoints:
    viewpoints.prepare(training_cameras())
    return viewpoints


def drawn(viewpoints: AbstractViewpoints, n: int = N, seed: int = 0) -> Cameras:
    return prepared(viewpoints).draw(n, torch.Generator().manual_seed(seed))


def spherical(cameras: Cameras) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Azimuth, elevation, both in degrees, and radius around the origin, z up."""
    x, y, z = cameras.positions.unbind(-1)
    radii = cameras.positions.norm(dim=-1)
    return torch.atan2(y, x).rad2deg(), torch.asin(z / radii).rad2deg(), radii


def uniform_error(values: torch.Tensor, low: float, high: float) -> float:
    """Largest difference between the distribution of values and the uniform one."""
    shares = ((values.sort().values - low) / (high - low)).clamp(0, 1)
    return float((shares - torch.linspace(0, 1, len(values))).abs().max())


def test_even_over_the_area_of_the_cap():
    cap = SphereCap(elevation=[10, 80], radius=[3, 5], center=[0, 0, 0])
    azimuths, elevations, radii = spherical(drawn(cap))
    sines = [math.sin(math.radians(e)) for e in (10, 80)]
    assert uniform_error(torch.sin(elevations.deg2rad()), *sines) < 0.03
    assert uniform_error(azimuths, -180, 180) < 0.03
    assert uniform_error(radii, 3, 5) < 0.03


def test_even_over_the_angle_as_the_paper():
    cap = SphereCap(elevation=[0, 90], radius=[4, 4], center=[0, 0, 0], spread="angle")
    _, elevations, radii = spherical(drawn(cap))
    assert uniform_error(elevations, 0, 90) < 0.03
    torch.testing.assert_close(radii, torch.full((N,), 4.0))


def test_radius_and_angles_are_independent():
    """In the JAX port all three followed from one number: poses lay on a curve."""
    cap = SphereCap(elevation=[0, 90], radius=[2, 6], center=[0, 0, 0], spread="angle")
    found = torch.corrcoef(torch.stack(spherical(drawn(cap))))
    assert (found - torch.eye(3)).abs().max() < 0.05


def test_cameras_look_at_the_center_upright():
    cameras = drawn(SphereCap(center=[0.1, 0.2, 0.3]), 50)
    towards = torch.nn.functional.normalize(torch.tensor([0.1, 0.2, 0.3]) - cameras.positions)
    torch.testing.assert_close(-cameras.c2w[:, :, 2], towards, atol=1e-5, rtol=0)
    assert (cameras.c2w[:, 2, 1] >= 0).all() and cameras.c2w[:, 2, 0].abs().max() < 1e-5


def test_jitter_moves_the_target():
    still, moved = drawn(SphereCap(), 200), drawn(SphereCap(jitter=0.05), 200)
    torch.testing.assert_close(still.positions, moved.positions)
    cosines = (still.c2w[:, :, 2] * moved.c2w[:, :, 2]).sum(dim=1)
    assert 0.02 < torch.acos(cosines.clamp(max=1)).mean() < 0.1


def test_without_ranges_those_of_the_training_cameras():
    _, given, radii = spherical(training_cameras())
    _, elevations, found = spherical(drawn(SphereCap()))
    assert given.min() - 1 < elevations.min() < elevations.max() < given.max() + 1
    assert elevations.max() - elevations.min() > 0.9 * (given.max() - given.min())
    torch.testing.assert_close(found.mean(), radii.mean(), rtol=0.05, atol=0)


def test_near_and_far_follow_the_radius():
    """A fixed near cut away everything in front of the center when a camera came close."""
    cameras = drawn(SphereCap(radius=[2, 6], center=[0, 0, 0]), 100)
    radii = cameras.positions.norm(dim=-1)
    torch.testing.assert_close(cameras.far, radii + 2, atol=1e-4, rtol=0)
    assert (cameras.near <= (radii - 2).clamp(min=0.05) + 1e-4).all() and (cameras.near > 0).all()


@pytest.mark.parametrize("viewpoints", [SphereCap(), BetweenCameras()])
def test_draws_follow_from_the_generator_alone(viewpoints):
    first = drawn(viewpoints, 5)
    torch.rand(3)
    assert torch.equal(drawn(viewpoints, 5).c2w, first.c2w)
    assert not torch.equal(drawn(viewpoints, 5, seed=1).c2w, first.c2w)


@pytest.mark.parametrize("viewpoints", [SphereCap(jitter=0.1), BetweenCameras()])
def test_poses_are_rigid(viewpoints):
    turns = drawn(viewpoints, 100).c2w[:, :, :3]
    torch.testing.assert_close(turns @ turns.mT, torch.eye(3).expand(100, 3, 3), atol=1e-5, rtol=0)
    assert (turns.det() > 0).all()


def test_between_two_cameras():
    cameras = training_cameras()
    found = drawn(BetweenCameras(), 300)
    segments = cameras.positions[None] - cameras.positions[:, None]  # (m, m, 3)
    along = found.positions[:, None, None] - cameras.positions[:, None]
    lengths = segments.square().sum(-1).clamp_min(1e-9)
    shares = ((along * segments).sum(-1) / lengths).clamp(0, 1)
    distances = (along - shares[..., None] * segments).norm(dim=-1)
    assert distances.amin(dim=(1, 2)).max() < 1e-4
    at_first = drawn(BetweenCameras(reach=0), 20)
    assert torch.cdist(at_first.positions, cameras.positions).amin(dim=1).max() < 1e-6


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"elevation": [0, 100]}, "elevation must be two numbers"),
        ({"radius": [4, 3]}, "radius must be two numbers"),
        ({"azimuth": [1]}, "azimuth must be two numbers"),
        ({"center": [0, 0]}, "center must be three numbers"),
        ({"jitter": -1}, "jitter must be at least 0"),
    ],
)
def test_ranges_that_are_none(options, sentence):
    with pytest.raises(UserError, match=sentence):
        SphereCap(**options)


def test_one_view_has_nothing_between():
    with pytest.raises(UserError, match="needs at least 2 training views"):
        BetweenCameras().prepare(training_cameras()[:1])
