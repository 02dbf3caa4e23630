import math
from dataclasses import replace

import pytest
import torch

from dietnerf.data import Procedural
from dietnerf.geometry.cameras import Cameras


def camera(width=6, height=4, focal=5.0, center=(3.0, 2.0), c2w=None):
    """Two cameras at (1, 2, 3) that look along -z, or with another pose."""
    if c2w is None:
        c2w = torch.cat([torch.eye(3), torch.tensor([[1.0], [2.0], [3.0]])], dim=1)
    return Cameras(
        c2w=c2w.expand(2, 3, 4),
        focal=torch.full((2, 2), focal),
        center=torch.tensor(center).expand(2, 2),
        near=torch.tensor([2.0, 2.5]),
        far=torch.tensor([6.0, 6.5]),
        width=width,
        height=height,
    )


def test_the_middle_ray_looks_along_minus_z():
    cameras = camera(width=5, height=3, center=(2.5, 1.5))
    rays = cameras.rays(torch.tensor([1]), torch.tensor([2]), torch.tensor([1]))
    assert rays.rays_o.tolist() == [[1.0, 2.0, 3.0]]
    assert rays.rays_d.tolist() == [[0.0, 0.0, -1.0]]
    assert (rays.near.item(), rays.far.item()) == (2.5, 6.5)


def test_corner_rays_look_left_up_and_right_down():
    rays = camera().image_rays(0)
    torch.testing.assert_close(rays.rays_d[0], torch.tensor([-2.5 / 5, 1.5 / 5, -1.0]))
    torch.testing.assert_close(rays.rays_d[-1], torch.tensor([2.5 / 5, -1.5 / 5, -1.0]))


def test_image_rays_go_row_by_row():
    cameras = camera()
    rows, columns = torch.tensor([0, 0, 1, 3]), torch.tensor([0, 5, 0, 5])
    expected = cameras.rays(torch.zeros(4, dtype=torch.int64), columns, rows)
    rays = cameras.image_rays(0)
    assert len(rays) == 24
    torch.testing.assert_close(rays[rows * 6 + columns].rays_d, expected.rays_d)


def test_t_is_the_distance_along_the_camera_axis():
    angle = 0.7
    turn = torch.tensor(
        [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
    )
    c2w = torch.cat([turn @ turn.T.roll(1, 0), torch.zeros(3, 1)], dim=1)
    rays = camera(c2w=c2w).image_rays(0)
    torch.testing.assert_close(rays.rays_d @ -c2w[:, 2], torch.ones(24))


def test_half_a_pixel_of_principal_point_is_the_authors_convention():
    width, height, focal = 6, 4, 5.0
    cameras = camera(width, height, focal, center=(width / 2 + 0.5, height / 2 + 0.5))
    rays_d = cameras.image_rays(0).rays_d.reshape(height, width, 3)
    for row in range(height):
        for column in range(width):
            expected = [(column - width / 2) / focal, -(row - height / 2) / focal, -1.0]
            assert rays_d[row, column].tolist() == pytest.approx(expected, abs=1e-6)


def test_resized_cameras_see_the_same_corners():
    cameras = camera()
    small = cameras.resized(3, 2)
    # The middle of 2x2 large pixels is the center of a small one.
    large_d = cameras.image_rays(0).rays_d.reshape(2, 2, 3, 2, 3).mean(dim=(1, 3))
    torch.testing.assert_close(small.image_rays(0).rays_d.reshape(2, 3, 3), large_d)


def test_indexing_keeps_a_batch():
    cameras = camera()
    assert len(cameras[[1]]) == len(cameras[:1]) == 1
    assert cameras[[1]].near.tolist() == [2.5]
    poses = torch.rand(5, 3, 4)
    moved = cameras.with_poses(poses)
    assert len(moved) == 5
    assert torch.equal(moved.positions, poses[:, :, 3])
    assert moved.far.tolist() == [6.0] * 5


def test_frame_of_another_shape_keeps_square_pixels_and_the_vertical_view():
    framed = camera(8, 8, center=(4.0, 4.0)).framed(32, 16)
    assert framed.focal[0, 0] == framed.focal[0, 1]
    first, edge = torch.tensor([0]), torch.tensor([-0.5])
    top = framed.rays(first, torch.tensor([15.5]), edge)
    expected = camera(8, 8, center=(4.0, 4.0)).rays(first, torch.tensor([3.5]), edge)
    torch.testing.assert_close(top.rays_d, expected.rays_d)


def test_rays_stay_in_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        rays = camera(8, 8, center=(4.0, 4.0)).image_rays(0)
    assert torch.equal(rays.rays_d, camera(8, 8, center=(4.0, 4.0)).image_rays(0).rays_d)


def test_points_are_seen_where_their_rays_come_from():
    cameras = Procedural(resolution=16, n_train=3).cameras("train")
    rays = cameras.image_rays(1)
    places, is_seen = cameras.project(rays.rays_o + 2.5 * rays.rays_d)
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    expected = (2 * torch.stack([columns, rows], dim=-1) + 1) / 16 - 1
    torch.testing.assert_close(places[1].view(16, 16, 2), expected, atol=1e-5, rtol=0)
    assert is_seen[1].all()
    behind = rays.rays_o - 2.5 * rays.rays_d
    assert not cameras.project(behind)[1][1].any()
    beside = rays.rays_o + 2.5 * rays.rays_d + 9 * cameras.c2w[1, :, 0]
    assert not cameras.project(beside)[1][1].any()


def lensed(is_fisheye):
    distortion = torch.tensor([[-0.2, 0.05, 0, 0, 1e-3, -2e-3, 0, 0, 0]]).expand(2, 9)
    flags = torch.tensor([is_fisheye]).expand(2)
    return replace(camera(60, 40, 50.0, (31.0, 19.0)), distortion=distortion, is_fisheye=flags)


@pytest.mark.parametrize("is_fisheye", [False, True])
def test_points_on_rays_are_seen_at_their_pixels_through_a_lens(is_fisheye):
    cameras = lensed(is_fisheye)
    rays = cameras.image_rays(1)
    places, is_seen = cameras.project(rays.rays_o + 3.0 * rays.rays_d)
    rows, columns = torch.meshgrid(torch.arange(40), torch.arange(60), indexing="ij")
    pixels = torch.stack([columns, rows], dim=-1).reshape(-1, 2) + 0.5
    found = (places[1] + 1) / 2 * torch.tensor([60, 40])
    torch.testing.assert_close(found, pixels, atol=1e-4, rtol=0)
    assert is_seen.all()
    assert cameras.shown(0) is None
    straight = replace(cameras, distortion=None, is_fisheye=None).image_rays(1)
    assert (rays.rays_d - straight.rays_d).abs().max() > 0.01
    torch.testing.assert_close(rays.rays_d @ -cameras.c2w[1, :, 2], torch.ones(2400))


@pytest.mark.parametrize("cameras", [camera(60, 40), lensed(False), lensed(True)])
def test_some_rays_of_an_image_are_those_of_the_whole(cameras):
    whole, pixels = cameras.image_rays(1), torch.arange(37, 1001)
    some = cameras.image_rays(1, pixels)
    assert torch.equal(some.rays_d, whole.rays_d[pixels])
    assert torch.equal(some.rays_o, whole.rays_o[pixels])
    assert torch.equal(some.far, whole.far[pixels])


def test_a_lens_stays_with_its_camera():
    cameras = lensed(False)
    rays = cameras.image_rays(0).rays_d.view(40, 60, 3)
    for changed in (cameras[[1]], cameras.with_poses(cameras.c2w[:1]), cameras.to("cpu")):
        torch.testing.assert_close(changed.image_rays(0).rays_d.view(40, 60, 3), rays)
    part = cameras.windowed(20, 10, 16, 16).image_rays(0).rays_d.view(16, 16, 3)
    torch.testing.assert_close(part, rays[10:26, 20:36])
    whole = cameras.framed(80, 40).image_rays(0).rays_d.view(40, 80, 3)
    torch.testing.assert_close(whole[:, 10:70], rays)
    again = Cameras(**cameras.to_dict())
    assert torch.equal(again.distortion, cameras.distortion)


def test_cameras_saved_before_there_were_lenses_load():
    saved = camera().to_dict()
    del saved["distortion"], saved["is_fisheye"]
    assert torch.equal(Cameras(**saved).image_rays(0).rays_d, camera().image_rays(0).rays_d)


def test_pixels_without_a_ray_are_named():
    wide = replace(lensed(True), focal=torch.full((2, 2), 12.0))
    is_shown = wide.shown(1)
    assert is_shown.shape == (40, 60)
    assert is_shown[19, 31] and not is_shown[0, 0]
    assert wide.image_rays(1).rays_d.isfinite().all()
