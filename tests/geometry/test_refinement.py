"""Corrections of cameras: what they do to rays, and that gradients find them."""

import math

import pytest
import torch
from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.poses import look_at
from dietnerf.geometry.refinement import CameraRefinement

UP = torch.tensor([0.0, 0.0, 1.0])


def ring(n: int) -> Cameras:
    angles = torch.arange(n) * 2 * math.pi / n
    positions = torch.stack([4 * angles.cos(), 4 * angles.sin(), torch.ones(n)], dim=-1)
    return Cameras(
        c2w=look_at(positions, torch.zeros(3), UP),
        focal=torch.full((n, 2), 50.0),
        center=torch.full((n, 2), 20.0),
        near=torch.full((n,), 2.0),
        far=torch.full((n,), 6.0),
        width=40,
        height=40,
    )


def refinement(cameras: Cameras, size: float, refines_focal: bool = False) -> CameraRefinement:
    """Random corrections of about `size` radians and scene units."""
    made = CameraRefinement(refines_focal=refines_focal)
    made.prepare(cameras)
    for parameter in (made.rotations, made.shifts):
        parameter.data = size * torch.randn(parameter.shape)
    made.log_focal.data.fill_(size if refines_focal else 0.0)
    return made


def pixels(n: int, cameras: Cameras) -> tuple[Tensor, Tensor, Tensor]:
    ids = torch.randint(0, len(cameras), (n,))
    columns, rows = (torch.randint(0, 40, (n,)) for _ in range(2))
    return ids, columns, rows


def test_it_begins_with_the_cameras_as_they_are():
    cameras = ring(5)
    made = CameraRefinement()
    made.prepare(cameras)
    ids, columns, rows = pixels(100, cameras)
    rays = cameras.rays(ids, columns, rows)
    corrected = made(rays, ids)
    assert torch.equal(corrected.rays_o, rays.rays_o)
    torch.testing.assert_close(corrected.rays_d, rays.rays_d)


@pytest.mark.parametrize("refines_focal", [False, True])
def test_corrected_rays_are_those_of_the_corrected_cameras(refines_focal: bool):
    cameras = ring(5)
    made = refinement(cameras, 0.2, refines_focal)
    ids, columns, rows = pixels(100, cameras)
    expected = made.refined(cameras).rays(ids, columns, rows)
    corrected = made(cameras.rays(ids, columns, rows), ids)
    torch.testing.assert_close(corrected.rays_o, expected.rays_o)
    torch.testing.assert_close(corrected.rays_d, expected.rays_d, rtol=1e-4, atol=1e-5)


def test_corrected_cameras_stay_rigid():
    cameras = ring(5)
    axes = refinement(cameras, 1.0).refined(cameras).c2w[:, :, :3]
    torch.testing.assert_close(axes.transpose(1, 2) @ axes, torch.eye(3).expand(5, 3, 3))
    assert (torch.linalg.det(axes) > 0).all()


@pytest.mark.parametrize("size", [0.0, 1e-5, 1e-2, 1.0])
def test_gradients(size: float):
    cameras = ring(3)
    made = refinement(cameras, size, refines_focal=True).double()
    ids, columns, rows = pixels(4, cameras)
    rays = cameras.rays(ids, columns, rows)

    def cast(rotations: Tensor, shifts: Tensor, log_focal: Tensor) -> tuple[Tensor, Tensor]:
        values = {"rotations": rotations, "shifts": shifts, "log_focal": log_focal}
        out = torch.func.functional_call(made, values, (rays, ids))
        return out.rays_o, out.rays_d

    assert torch.autograd.gradcheck(cast, tuple(made.parameters()))


def test_rays_through_known_points_lead_back_to_the_true_cameras():
    truth = ring(6)
    wrong = refinement(truth, 0.02).refined(truth)
    points = torch.rand(200, 3) * 2 - 1
    places, _ = truth.project(points)
    made = CameraRefinement()
    made.prepare(wrong)
    ids = torch.arange(6).repeat_interleave(200)
    columns, rows = ((places.reshape(-1, 2) + 1) * 20 - 0.5).unbind(-1)
    rays, targets = wrong.rays(ids, columns, rows), points.repeat(6, 1)
    optimizer = torch.optim.LBFGS(
        made.parameters(), max_iter=200, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def miss() -> Tensor:
        optimizer.zero_grad()
        cast = made(rays, ids)
        misses = torch.linalg.cross(targets - cast.rays_o, cast.rays_d)
        loss = misses.square().sum(dim=-1).mean()
        loss.backward()
        return loss

    optimizer.step(miss)
    before = (wrong.c2w - truth.c2w).abs().max()
    assert (made.refined(wrong).c2w - truth.c2w).abs().max() < 0.02 * before


def test_a_new_one_takes_the_number_of_cameras_from_saved_weights():
    cameras = ring(5)
    made, loaded = refinement(cameras, 0.1), CameraRefinement()
    loaded.load_state_dict(made.state_dict())
    assert torch.equal(loaded.refined(cameras).c2w, made.refined(cameras).c2w)


@pytest.mark.parametrize(("rate", "decay"), [(0.0, 0.1), (0.1, -1.0)])
def test_impossible_options_are_refused(rate: float, decay: float):
    with pytest.raises(UserError, match="refinement: rate is"):
        CameraRefinement(rate, decay)
