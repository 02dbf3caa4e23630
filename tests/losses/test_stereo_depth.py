"""Depth out of photographs that agree, as a loss."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dietnerf.data import ImageDataset
from dietnerf.errors import UserError
from dietnerf.losses import SceneContext, StereoDepth
from dietnerf.sampling import Stratified
from tests.slanted_plane import BehindPlane, cameras_in_a_row, photos_of_plane

CPU, WHITE = torch.device("cpu"), torch.ones(3)


@pytest.fixture(scope="module")
def scene() -> ImageDataset:
    cameras = cameras_in_a_row()
    images = (255 * photos_of_plane(cameras)).round().to(torch.uint8)
    return ImageDataset(images, cameras, torch.arange(3), ("a", "b", "c"))


def value(loss: StereoDepth, scene: ImageDataset, field: BehindPlane) -> Tensor:
    loss.prepare(scene, WHITE, CPU)
    generator = torch.Generator().manual_seed(3)
    return loss(SceneContext(0, field, Stratified(192), WHITE, generator))


@pytest.mark.parametrize(("offset", "sign"), [(0.5, 1), (-0.5, -1)])
def test_photos_pull_a_surface_to_where_they_agree(scene: ImageDataset, offset: float, sign: int):
    loss = StereoDepth(weight=1.0, n_rays=512)
    assert float(value(loss, scene, BehindPlane())) < 0.02
    assert float(loss.scalars["error"]) < 0.15  # scene units, at a depth of 4
    field = BehindPlane(offset)
    (gradient,) = torch.autograd.grad(value(loss, scene, field), field.offset)
    assert float(gradient) * sign > 0.01


def test_pixels_that_do_not_count_tell_no_depth(scene: ImageDataset):
    masks = torch.ones(3, 48, 64, dtype=torch.bool)
    masks[:, :, 20:] = False
    loss = StereoDepth()
    loss.prepare(replace(scene, masks=masks), WHITE, CPU)
    assert len(loss.places) > 100 and loss.places[:, 2].max() < 20


def test_transparent_pixels_tell_no_depth(scene: ImageDataset):
    alpha = torch.full((3, 48, 64, 1), 255, dtype=torch.uint8)
    alpha[:, :, 20:] = 0
    loss = StereoDepth()
    images = torch.cat([scene.images, alpha], dim=-1)
    cut_out = ImageDataset(images, scene.cameras, scene.view_ids, scene.names)
    loss.prepare(cut_out, WHITE, CPU)
    assert len(loss.places) > 100 and loss.places[:, 2].max() < 20


def test_large_photos_are_compared_in_a_small_size(scene: ImageDataset):
    cameras = cameras_in_a_row().resized(1024, 768)
    images = scene.images.repeat_interleave(16, dim=1).repeat_interleave(16, dim=2)
    loss = StereoDepth(weight=1.0, n_rays=512)
    large = ImageDataset(images, cameras, scene.view_ids, scene.names)
    assert float(value(loss, large, BehindPlane())) < 0.03
    assert 100 < loss.places[:, 1].max() < 192 and 128 < loss.places[:, 2].max() < 256


def test_photos_that_agree_nowhere_tell_no_depth(scene: ImageDataset):
    flat = replace(scene, images=torch.zeros_like(scene.images))
    with pytest.raises(UserError, match=r"StereoDepth needs .* places far enough apart"):
        StereoDepth().prepare(flat, WHITE, CPU)
    loss = StereoDepth(is_optional=True)
    with pytest.warns(UserWarning, match="StereoDepth .*: it counts for nothing"):
        loss.prepare(flat, WHITE, CPU)
    assert {loss.weight_at(step, 100) for step in range(100)} == {0.0}
    with pytest.raises(UserError, match="StereoDepth: n_rays must be at least 1, got 0"):
        StereoDepth(n_rays=0)
