"""Losses of whole views, and of Gaussians."""

import math

import pytest
import torch
from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.gaussians import Gaussians
from dietnerf.geometry.rays import Rendering
from dietnerf.losses import (
    AbsoluteError,
    Distortion,
    GaussianSize,
    RayLossInput,
    SceneContext,
    StructuralDissimilarity,
)
from dietnerf.metrics import ssim_gauss11
from dietnerf.sampling import Stratified
from tests.gaussians.scenes import ball
from tests.helpers import Ball


def view(image: Tensor, target: Tensor) -> RayLossInput:
    n = image.shape[0] * image.shape[1]
    rgb = image.reshape(n, 3)
    rendering = Rendering(rgb, torch.ones(n), torch.ones(n), torch.zeros(0))
    black = torch.zeros(n, 3)
    return RayLossInput(
        0, None, target.reshape(n, 3), black, rendering, None, size=(image.shape[0], image.shape[1])
    )


def test_dissimilarity_is_one_less_ssim():
    image, target = torch.rand(24, 31, 3), torch.rand(24, 31, 3)
    found = StructuralDissimilarity()(view(image, target))
    assert float(found) == pytest.approx(1 - float(ssim_gauss11(image, target)), abs=1e-5)


def test_equal_views_have_no_dissimilarity_and_little_ones_none_at_all():
    image = torch.rand(24, 31, 3)
    assert StructuralDissimilarity()(view(image, image)).abs() < 1e-6
    assert StructuralDissimilarity()(view(image[:5], 1 - image[:5])) == 0


def test_dissimilarity_is_the_same_in_half_precision():
    image = torch.full((24, 31, 3), 0.7) + 0.01 * torch.rand(24, 31, 3)
    batch = view(image, image + 0.01 * torch.rand(24, 31, 3))
    found = StructuralDissimilarity()(batch)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(StructuralDissimilarity()(batch), found)


def test_dissimilarity_has_the_gradient_of_differences():
    image = torch.rand(13, 12, 3, dtype=torch.float64, requires_grad=True)
    target = torch.rand(13, 12, 3, dtype=torch.float64)
    loss = StructuralDissimilarity()
    assert torch.autograd.gradcheck(lambda x: loss(view(x, target)), image)


def test_absolute_error_is_the_mean_over_pixels_and_channels():
    found = AbsoluteError()(view(torch.full((3, 4, 3), 0.75), torch.full((3, 4, 3), 0.5)))
    assert found == pytest.approx(0.25)


def test_size_is_the_mean_opacity_and_scale():
    gaussians = ball()
    with torch.no_grad():
        gaussians.opacity_logits[:400], gaussians.opacity_logits[400:] = 0.0, 9.0
        gaussians.log_scales[:400], gaussians.log_scales[400:] = math.log(0.2), 3.0
        gaussians.extent.fill_(2.0)
    generator = torch.Generator()
    context = SceneContext(0, gaussians, Stratified(), torch.ones(3), generator)
    assert GaussianSize(size=3.0)(context).item() == pytest.approx(0.5 + 3 * 0.1)


def test_losses_refuse_what_they_are_not_for():
    with pytest.raises(UserError, match="the loss Distortion needs samples along rays"):
        Distortion().check(Gaussians(10, 5))
    with pytest.raises(UserError, match="a field is trained on single rays"):
        StructuralDissimilarity().check(Ball())
    with pytest.raises(UserError, match="GaussianSize is for Gaussians, not for Ball"):
        GaussianSize().check(Ball())


def test_a_size_below_zero_is_refused():
    with pytest.raises(UserError, match="size is -1; it must be at least 0"):
        GaussianSize(size=-1)
