"""Depths that photographs agree on, against surfaces whose depth is known."""

from dataclasses import replace

import pytest
import torch

from dietnerf.geometry.plane_sweep import sweep
from tests.slanted_plane import cameras_in_a_row, photos_of_plane, plane_depth


@pytest.mark.parametrize("n", [2, 3, 6])
def test_the_depth_of_a_slanted_plane_is_found(n: int):
    cameras = cameras_in_a_row(n)
    found = sweep(photos_of_plane(cameras), cameras)
    true = torch.stack([plane_depth(cameras, i) for i in range(n)])
    is_known = found > 0
    assert is_known.float().mean() > 0.5
    errors = ((1 / found - 1 / true).abs() / (1 / 2 - 1 / 8))[is_known]
    assert errors.median() < 0.01 and errors.quantile(0.95) < 0.05


def test_a_lens_is_taken_into_account():
    cameras = cameras_in_a_row()
    lens = torch.tensor([[0.2] + 8 * [0.0]]).expand(3, 9)
    cameras = replace(cameras, distortion=lens, is_fisheye=torch.zeros(3, dtype=torch.bool))
    found = sweep(photos_of_plane(cameras), cameras)
    true = torch.stack([plane_depth(cameras, i) for i in range(3)])
    errors = ((1 / found - 1 / true).abs() / (1 / 2 - 1 / 8))[found > 0]
    assert (found > 0).float().mean() > 0.5 and errors.quantile(0.95) < 0.05


def test_nothing_is_known_of_what_shows_nothing_or_nothing_alike():
    cameras = cameras_in_a_row()
    assert not sweep(photos_of_plane(cameras, pattern=0.0), cameras).any()
    noise = torch.rand(3, 48, 64, 1, generator=torch.Generator().manual_seed(0)).expand(
        -1, -1, -1, 3
    )
    assert (sweep(noise, cameras) > 0).float().mean() < 0.02


def test_one_photo_tells_no_depth():
    cameras = cameras_in_a_row(1)
    assert not sweep(photos_of_plane(cameras), cameras).any()


def test_what_one_neighbor_alone_confirms_is_not_known():
    cameras = cameras_in_a_row()
    photos = photos_of_plane(cameras).clone()
    photos[2] = 0.5
    assert not sweep(photos, cameras).any()
    assert sweep(photos, cameras, n_neighbors=1, n_agreeing=1)[0].any()


@pytest.mark.parametrize(("near", "far"), [(0.0, 8.0), (0.01, 8.0), (0.05, 8.0), (2.0, 5000.0)])
def test_wide_ranges_are_no_worse(near: float, far: float):
    cameras = cameras_in_a_row(5)
    photos, true = photos_of_plane(cameras), [plane_depth(cameras, i) for i in range(5)]
    wide = replace(cameras, near=torch.full((5,), near), far=torch.full((5,), far))
    found = sweep(photos, wide)
    is_known = found > 0
    errors = (found / torch.stack(true) - 1).abs()[is_known]
    assert is_known.float().mean() > 0.4
    assert errors.median() < 0.02 and errors.quantile(0.95) < 0.1


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_photos_from_one_place_tell_nothing(noise: float):
    """Of a tripod, or a burst: any depth explains them."""
    row = cameras_in_a_row(2)
    twice = row[[0, 0, 0, 1, 1]]
    photos = photos_of_plane(row)[[0, 0, 0, 1, 1]]
    photos = photos + noise * torch.randn(photos.shape, generator=torch.Generator().manual_seed(0))
    assert not sweep(photos[:3], twice[[0, 1, 2]]).any()
    found = sweep(photos, twice)
    true = torch.stack([plane_depth(twice, i) for i in range(5)])
    is_known = found > 0
    assert is_known.float().mean() > 0.3
    assert (found / true - 1).abs()[is_known].quantile(0.9) < 0.1


def test_a_photo_aside_of_others_that_show_something_else():
    """What does not show the same confirms nothing."""
    cameras = cameras_in_a_row(4)
    photos = photos_of_plane(cameras).clone()
    photos[2:] = torch.rand(2, 48, 64, 1, generator=torch.Generator().manual_seed(0))
    assert (sweep(photos, cameras) > 0).float().mean() < 0.01
