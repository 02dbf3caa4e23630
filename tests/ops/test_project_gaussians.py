"""Projecting Gaussians: the contract of every op, the camera's convention, an ellipse by sampling,
what is not visible, and the opacity that keeps the light."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dietnerf.geometry.cameras import Cameras
from dietnerf.ops import project_gaussians
from dietnerf.ops.project_gaussians import REACH, reference
from tests.ops.contract import CHECKS, Op

WIDTH, HEIGHT = 48, 32


def pose(dtype: torch.dtype = torch.float32) -> Tensor:
    """A camera that is turned about all axes."""
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    turn = turn * torch.linalg.det(turn)
    return torch.cat([turn, torch.tensor([[0.3], [-0.2], [0.5]])], dim=1).to(dtype)


def make_with(antialias: bool) -> Any:
    def make(counts: list[int], dtype: torch.dtype) -> tuple[Any, ...]:
        n = sum(counts)
        c2w = pose(dtype)
        local = torch.randn(n, 3, dtype=dtype) * torch.tensor([2.0, 1.5, 1.0], dtype=dtype)
        local[:, 2] -= 3.0
        means = local @ c2w[:, :3].T + c2w[:, 3]
        return (
            means,
            torch.randn(n, 3, dtype=dtype) * 0.7 - 2,
            torch.randn(n, 4, dtype=dtype),
            c2w,
            torch.tensor([40.0, 44.0], dtype=dtype),
            torch.tensor([25.0, 15.0], dtype=dtype),
            WIDTH,
            HEIGHT,
            0.2,
            0.3,
            antialias,
        )

    return make


WRONG = [
    (0, torch.rand(9), "means must be (n, 3), got 1 dims"),
    (1, torch.rand(8, 3), "log_scales must be (n, 3) with n = 9, got (8, 3)"),
    (2, torch.rand(9, 3), "quaternions must be (n, 4) with n = 9, got (9, 3)"),
    (3, torch.rand(4, 4), "c2w must be (3, 4), got (4, 4)"),
    (1, torch.rand(9, 3), "log_scales must be torch.float64 like means, got torch.float32"),
    (6, 0, "width and height must be at least 1, got 0 and 32"),
    (8, -1.0, "near must be at least 0, got -1.0"),
    (9, math.nan, "blur must be at least 0, got nan"),
]
OPS = [
    Op(
        "project_gaussians",
        project_gaussians,
        reference,
        make_with(antialias),
        WRONG,
        atol=1e-4,
        has_offsets=False,
        constants=(4, 5),
    )
    for antialias in (False, True)
]


@pytest.mark.parametrize("op", OPS, ids=["plain", "antialias"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Any, op: Op, device: str) -> None:
    check(op, device)


def project(means: Any, log_scales: Any = -2.0, **changes: Any) -> tuple[Tensor, ...]:
    """Into a camera at the origin that looks along -z, 48x32 with focal length 40."""
    means = torch.as_tensor(means, dtype=torch.float64)
    n = len(means)
    given = {
        "means": means,
        "log_scales": torch.as_tensor(log_scales, dtype=torch.float64).expand(n, 3),
        "quaternions": means.new_tensor([1.0, 0, 0, 0]).expand(n, 4),
        "c2w": torch.eye(4, dtype=torch.float64)[:3],
        "focal": means.new_tensor([40.0, 40.0]),
        "center": means.new_tensor([24.0, 16.0]),
        "width": WIDTH,
        "height": HEIGHT,
        "near": 0.1,
    }
    return project_gaussians(**(given | changes))


def test_centers_and_depths_are_those_of_the_cameras() -> None:
    c2w = pose()
    args = make_with(False)([200], torch.float32)
    centers, _, depths, radii, _ = project_gaussians(args[0], *args[1:3], c2w, *args[4:])
    ends = torch.tensor([0.1]), torch.tensor([9.0])
    camera = Cameras(c2w[None], args[4][None], args[5][None], *ends, WIDTH, HEIGHT)
    places, is_shown = camera.project(args[0])
    pixels = (places[0] + 1) / 2 * torch.tensor([WIDTH, HEIGHT])
    seen = is_shown[0] & (radii > 0)
    assert seen.sum() > 20
    torch.testing.assert_close(centers[seen], pixels[seen], rtol=1e-4, atol=1e-4)
    rays = camera.rays(
        torch.zeros(1, dtype=torch.int64), centers[seen, 0] - 0.5, centers[seen, 1] - 0.5
    )
    found = rays.rays_o + depths[seen, None] * rays.rays_d
    torch.testing.assert_close(found, args[0][seen], rtol=1e-4, atol=1e-4)


def test_a_ball_on_the_axis_is_a_disk() -> None:
    centers, conics, depths, radii, compensation = project([[0, 0, -2.0]], math.log(0.1))
    variance = (40 * 0.1 / 2) ** 2 + 0.3
    torch.testing.assert_close(centers, centers.new_tensor([[24.0, 16.0]]))
    torch.testing.assert_close(conics, conics.new_tensor([[1 / variance, 0, 1 / variance]]))
    torch.testing.assert_close(radii, radii.new_tensor([REACH * math.sqrt(variance)]))
    assert depths.tolist() == [2.0] and compensation.tolist() == [1.0]


def test_ellipse_has_the_covariance_of_projected_points(device: str) -> None:
    draw = torch.Generator().manual_seed(0)
    quaternion = torch.randn(1, 4, dtype=torch.float64, generator=draw)
    log_scales = torch.tensor([[-3.0, -4.0, -6.0]], dtype=torch.float64)
    mean = torch.tensor([[0.4, -0.3, -2.0]], dtype=torch.float64)
    _, conics, *_ = project(mean, log_scales, quaternions=quaternion, blur=0.0)
    w, x, y, z = (quaternion / quaternion.norm())[0]
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turn = torch.eye(3) + 2 * w * cross + 2 * cross @ cross  # Rodrigues
    noise = torch.randn(400_000, 3, dtype=torch.float64, generator=draw)
    points = mean + (noise * log_scales.exp()) @ turn.T
    pixels = 40 * points[:, :2] / -points[:, 2:] * torch.tensor([1.0, -1.0])
    xx, xy, yy = conics[0]
    found = torch.linalg.inv(torch.stack([xx, xy, xy, yy]).view(2, 2))
    # The perspective is not linear over the Gaussian, 0.05 long at a distance of 2.
    torch.testing.assert_close(found, torch.cov(pixels.T), rtol=0.02, atol=1e-3)


def test_what_is_not_visible_is_zero_and_has_no_gradient(device: str) -> None:
    nan, inf = math.nan, math.inf
    means = [[0, 0, -2.0], [0, 0, 2.0], [0, 0, -0.05], [9, 0, -2], [nan, 0, -2], [0, 0, -inf]]
    means = torch.tensor([*means, [0, 0, -2], [0, 0, -2], [0, 0, -2], [0, 0, -2]])
    log_scales = torch.full((10, 3), -2.0)
    log_scales[6, 1], log_scales[7, 2] = nan, 400.0
    quaternions = torch.tensor([1.0, 0, 0, 0]).repeat(10, 1)
    quaternions[8], quaternions[9, 2] = 0, inf
    inputs = [v.to(device).requires_grad_() for v in (means, log_scales, quaternions)]
    c2w = torch.eye(4, device=device)[:3].requires_grad_()
    focal, center = torch.tensor([[40.0, 40.0], [24.0, 16.0]], device=device)
    for antialias in (False, True):
        found = project_gaussians(
            *inputs, c2w, focal, center, WIDTH, HEIGHT, 0.1, antialias=antialias
        )
        assert (found[3] > 0).tolist() == [True] + [False] * 9
        assert all((values[1:] == 0).all() for values in found)
        differentiable = (*found[:3], found[4])
        grads = torch.autograd.grad(sum(v.sum() for v in differentiable), [*inputs, c2w])
        assert all(g.isfinite().all() for g in grads)
        assert all((g[1:] == 0).all() for g in grads[:3]) and grads[0][0, 2] != 0


def test_a_camera_inside_a_gaussian_sees_it_everywhere() -> None:
    for log_scale in (0.0, 3.0, 8.0):
        centers, conics, _, radii, _ = project([[0.01, 0, -0.2]], log_scale)
        assert radii[0] > 48 and centers.isfinite().all() and (conics >= 0).all()
        assert (conics[0, 0] > 0) and (conics[0, 2] > 0)


def test_far_outside_the_derivative_is_that_at_the_margin() -> None:
    """A ball so far to the side that the plain derivative would smear it over the image."""
    _, _, _, radii, _ = project([[30.0, 0, -0.5]], math.log(0.2))
    assert radii.tolist() == [0]
    _, _, _, radii, _ = project([[1.4, 0, -0.5]], math.log(0.5))
    assert 0 < radii[0] < 3.33 * 40 * 1.5 * 0.5 / 0.5


def test_quaternions_of_any_length_turn_alike() -> None:
    quaternion = torch.tensor([[0.3, -0.5, 0.2, 0.7]], dtype=torch.float64)
    scales = torch.tensor([-3.0, -2.0, -1.0])
    one, *others = (
        project([[0.1, 0, -2]], scales, quaternions=quaternion * factor)
        for factor in (1, 1e-6, -40)
    )
    for other in others:
        torch.testing.assert_close(other, one)


def test_compensation_keeps_the_light_of_a_gaussian() -> None:
    """The integral of an ellipse is 2 pi sqrt(det): with and without the blur the same."""
    for log_scale in (-8.0, -4.0, -2.0):
        _, sharp, *_ = project([[0.1, 0.2, -2]], log_scale, blur=0.0)
        _, conics, _, _, compensation = project([[0.1, 0.2, -2]], log_scale, antialias=True)
        integrals = [(c[:, 0] * c[:, 2] - c[:, 1] ** 2).rsqrt() for c in (sharp, conics)]
        torch.testing.assert_close(integrals[0], integrals[1] * compensation)


def test_a_thin_ellipse_keeps_its_area(device: str) -> None:
    """Edge on, 1e-4 times as thick as long, and at 45 degrees: differences of products in float32
    would leave nothing of the determinant."""
    turn = math.radians(45) / 2
    values = ([[0, 0, -2]], [0.0, -10, -10], [[math.cos(turn), 0, 0, math.sin(turn)]])
    inputs = [torch.tensor(v, device=device).float() for v in values]
    inputs[1] = inputs[1][None]
    camera = torch.eye(4)[:3], torch.tensor([400.0, 400]), torch.tensor([24.0, 16])
    found, expected = (
        project_gaussians(
            *(v.to(device, dtype) for v in (*inputs, *camera)), 48, 32, 0.1, antialias=True
        )
        for dtype in (torch.float32, torch.float64)
    )
    torch.testing.assert_close(found[4], expected[4].float(), rtol=1e-3, atol=0)
