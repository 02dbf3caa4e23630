import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dietnerf.data import Procedural
from dietnerf.errors import UserError
from dietnerf.geometry.bounds import bounds_of, check_bounds, subject_of, surroundings_of
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.poses import look_at


def cameras_at(positions: list[list[float]], targets: list[list[float]]) -> Cameras:
    """Square frames, 0.69 rad wide, that see from 2 to 6 along the axis."""
    up = torch.tensor([0.0, 0.0, 1.0])
    poses = [
        look_at(torch.tensor([p]), torch.tensor(t), up)
        for p, t in zip(positions, targets, strict=True)
    ]
    n = len(poses)
    near, far = torch.full((n,), 2.0), torch.full((n,), 6.0)
    focal, center = torch.full((n, 2), 50 / math.tan(0.69 / 2)), torch.full((n, 2), 50.0)
    return Cameras(torch.cat(poses), focal, center, near, far, 100, 100)


def test_one_camera_gives_its_frustum():
    bounds = bounds_of(cameras_at([[4.0, 0, 0]], [[0.0, 0, 0]]))
    side = 6 * math.tan(0.69 / 2)
    expected = torch.tensor([[-2, -side, -side], [2, side, side]])
    torch.testing.assert_close(bounds, expected, atol=0.1, rtol=0)  # a 64th of 4.3


@pytest.mark.parametrize("n_views", [3, 8, 50])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_cameras_around_a_scene_give_a_box_around_it(n_views: int, seed: int):
    """The procedural scene lies within 1.2; its cameras are those of NeRF-synthetic."""
    bounds = bounds_of(Procedural(n_train=n_views, seed=seed).cameras("train"))
    assert (bounds[0] < -1.2).all() and (bounds[1] > 1.2).all()
    assert n_views < 8 or bounds.abs().max() < 2.6


def test_many_views_come_near_the_usual_box():
    bounds = bounds_of(Procedural(n_train=100).cameras("train"))
    torch.testing.assert_close(bounds.abs(), torch.full((2, 3), 1.5), atol=0.4, rtol=0)


@pytest.mark.parametrize("n_views", [7, 30])
def test_a_far_that_lies_far_off_does_not_blur_the_box(n_views: int):
    """What seven views see in common of a range up to 500 is less than a 64th of it."""
    cameras = Procedural(n_train=n_views).cameras("train")
    endless = replace(cameras, near=cameras.near / 4, far=torch.full((n_views,), 500.0))
    nearly = replace(endless, far=torch.full((n_views,), 12.0))
    torch.testing.assert_close(bounds_of(endless), bounds_of(nearly), atol=0.15, rtol=0)
    assert bounds_of(endless).abs().max() < 3.2


def test_a_larger_scene_has_a_larger_box():
    cameras = Procedural(n_train=10).cameras("train")
    c2w = torch.cat([cameras.c2w[:, :, :3], 10 * cameras.c2w[:, :, 3:]], dim=2)
    larger = replace(cameras, c2w=c2w, near=10 * cameras.near, far=10 * cameras.far)
    torch.testing.assert_close(bounds_of(larger), 10 * bounds_of(cameras), rtol=1e-5, atol=0)


def test_cameras_that_see_nothing_in_common_give_a_box_around_both():
    apart = cameras_at([[1.0, 0, 0], [-1.0, 0, 0]], [[9.0, 0, 0], [-9.0, 0, 0]])
    bounds = bounds_of(apart)
    torch.testing.assert_close(bounds[:, 0], torch.tensor([-7.0, 7.0]), atol=0.2, rtol=0)


def test_non_square_frames_and_moved_principal_points():
    camera = cameras_at([[4.0, 0, 0]], [[0.0, 0, 0]])
    wide = replace(camera, width=300, center=torch.tensor([[250.0, 50.0]]))
    bounds = bounds_of(wide)
    # Columns 0 to 300 around 250: y from -(250 / 50) to 50 / 50 of the half width at far.
    side = 6 * math.tan(0.69 / 2)
    expected = torch.tensor([[-2, -5 * side, -side], [2, side, side]])
    torch.testing.assert_close(bounds, expected, atol=0.3, rtol=0)


def refusal(bounds: list[list[float]]) -> str:
    with pytest.raises(UserError) as refused:
        check_bounds(torch.tensor(bounds), cameras_at([[4.0, 0, 0]], [[0.0, 0, 0]]), "field.bounds")
    return str(refused.value)


def test_boxes_that_make_no_sense_are_refused():
    assert "field.bounds: the lowest corner must lie below the highest" in refusal(
        [[-1.0, 1, -1], [1.0, 1, 1]]
    )
    assert "must lie below" in refusal([[-1.0, math.nan, -1], [1.0, 1, 1]])
    assert "field.bounds: no training camera sees any of the box from [5.0, " in refusal(
        [[5.0, 5, 5], [6.0, 6, 6]]
    )


def test_a_box_that_is_seen_passes():
    box: Tensor = torch.tensor([[-1.0, -1, -1], [1.0, 1, 1]])
    check_bounds(box, cameras_at([[4.0, 0, 0]], [[0.0, 0, 0]]), "field.bounds")


def test_a_fisheye_sees_a_wider_box_than_a_pinhole_camera_of_its_focal_length():
    straight = cameras_at([[4.0, 0, 0], [0, 4.0, 0], [-4.0, 0, 0]], [[0.0, 0, 0]] * 3)
    straight = replace(straight, focal=torch.full((3, 2), 50.0))
    lens = {"distortion": torch.zeros(3, 9), "is_fisheye": torch.tensor([True] * 3)}
    round_ = replace(straight, **lens)  # 1 rad from the middle to the edge, not atan(1)
    assert (bounds_of(round_)[1, 2] > 1.2 * bounds_of(straight)[1, 2]).all()


@pytest.mark.parametrize("far", [5.0, 500.0])
def test_the_surroundings_of_what_cameras_stand_around_do_not_depend_on_far(far: float):
    positions = [[4.0, 0, 1], [0, 4.0, 1], [-4.0, 0, 1], [0, -4.0, 1]]
    cameras = cameras_at(positions, [[0.0, 0, 1]] * 4)
    box = surroundings_of(replace(cameras, far=torch.full((4,), far)))
    torch.testing.assert_close(box, torch.tensor([[-8.0, -8, -7], [8.0, 8, 9]]))
    subject = subject_of(replace(cameras, far=torch.full((4,), far)))
    torch.testing.assert_close(subject, torch.tensor([[-4.0, -4, -3], [4.0, 4, 5]]))


def test_the_surroundings_of_cameras_that_face_one_way_are_what_they_see():
    cameras = cameras_at([[4.0, 0, 0], [4.0, 0.5, 0]], [[0.0, 0, 0], [0.0, 0.5, 0]])
    assert torch.equal(surroundings_of(cameras), bounds_of(cameras))
    assert torch.equal(surroundings_of(cameras[:1]), bounds_of(cameras[:1]))
    assert torch.equal(subject_of(cameras), bounds_of(cameras))
