import math

import pytest
import torch

from dietnerf.errors import UserError
from dietnerf.fields import base
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.poses import look_at
from dietnerf.renderer import inference_autocast, render_image, render_rays
from dietnerf.sampling import Stratified
from tests.conftest import needs_cuda
from tests.helpers import Ball, inward_rays


def camera(size: int = 24) -> Cameras:
    pose = look_at(torch.tensor([[4.0, 0, 0]]), torch.zeros(3), torch.tensor([0.0, 0, 1]))
    one = torch.ones(1)
    return Cameras(
        pose,
        torch.full((1, 2), 2.0 * size),
        torch.full((1, 2), size / 2),
        2 * one,
        6 * one,
        size,
        size,
    )


def test_ball_is_red_before_a_white_background_and_as_near_as_it_is():
    field, background = Ball(), torch.ones(3)
    rendering = render_image(camera(25), 0, field, Stratified(512), background)
    center, corner = rendering.rgb[25 * 12 + 12], rendering.rgb[0]
    torch.testing.assert_close(center, torch.tensor([0.8, 0, 0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(corner, background)
    # The front of the ball is 3 away; a sample every 4/511, and a mean free path of 1/50.
    assert abs(rendering.depth[25 * 12 + 12].item() - 3.0) < 0.03


def test_chunks_do_not_change_the_picture(monkeypatch):
    args = camera(), 0, Ball(), Stratified(64), torch.ones(3)
    whole = render_image(*args)
    monkeypatch.setattr(base, "SAMPLES_PER_CHUNK", {"cpu": 64 * 7})
    assert torch.equal(render_image(*args).rgb, whole.rgb)


class SmallMemory(Stratified):
    """Has memory for a few rays at a time only."""

    def __init__(self, n_samples: int, room: int, error: Exception) -> None:
        super().__init__(n_samples)
        self.room, self.error, self.n_rays = room, error, []

    def sample(self, rays, field, generator, capacity=None):
        self.n_rays.append(len(rays))
        if len(rays) > self.room:
            raise self.error
        return super().sample(rays, field, generator)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("torch_parallel_for( begin, end, grain_size) API call failed at ops.h, line 573"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_without_memory_it_goes_on_with_half_as_many_rays(error: Exception):
    whole = render_image(camera(), 0, Ball(), Stratified(64), torch.ones(3))
    sampler = SmallMemory(64, 20, error)
    found = render_image(camera(), 0, Ball(), sampler, torch.ones(3))
    assert torch.equal(found.rgb, whole.rgb) and torch.equal(found.depth, whole.depth)
    assert sampler.n_rays[:4] == [96, 48, 24, 12], "rays are halved until they fit"
    assert set(sampler.n_rays[3:]) == {12}, "and not tried again with more"


@pytest.mark.parametrize("room", [576, 96, 20])
def test_the_rays_of_a_picture_are_made_as_they_are_rendered(room: int, monkeypatch):
    """Of a large picture they alone would take gigabytes."""
    whole = render_image(camera(), 0, Ball(), Stratified(64), torch.ones(3))
    make, n_rays = Cameras.rays, []

    def rays(self, ids, columns, rows):
        n_rays.append(len(ids))
        if len(ids) > room:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return make(self, ids, columns, rows)

    monkeypatch.setattr(Cameras, "rays", rays)
    found = render_image(camera(), 0, Ball(), Stratified(64), torch.ones(3))
    assert torch.equal(found.rgb, whole.rgb) and torch.equal(found.depth, whole.depth)
    assert max(n_rays) == 96, "as many as are rendered at a time"


def test_memory_for_no_ray_at_all_is_one_sentence():
    sampler = SmallMemory(64, 0, OUT_OF_MEMORY[0])
    with pytest.raises(UserError, match="no memory for a single ray"):
        render_image(camera(), 0, Ball(), sampler, torch.ones(3))


def test_other_errors_are_not_taken_for_a_want_of_memory():
    sampler = SmallMemory(64, 20, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes"):
        render_image(camera(), 0, Ball(), sampler, torch.ones(3))
    assert sampler.n_rays == [96]


def test_constant_density_stops_the_light_that_physics_says():
    """Directions that are not unit: the opacity depends on lengths in scene units."""
    rays = inward_rays(10)
    field = Ball(radius=100.0, sigma=0.3)
    rendering, _ = render_rays(rays, field, Stratified(128), torch.ones(3))
    expected = 1 - torch.exp(-0.3 * 4 * rays.norms)
    torch.testing.assert_close(rendering.opacity, expected, atol=1e-5, rtol=0)
    assert math.isclose(rendering.rgb[0, 1].item(), 1 - expected[0].item(), abs_tol=1e-5)


def test_pictures_on_a_cpu_are_as_exact_as_training():
    with inference_autocast(torch.device("cpu")):
        assert not torch.is_autocast_enabled("cpu")


@needs_cuda
def test_pictures_on_cuda_are_in_half_precision():
    with inference_autocast(torch.device("cuda")):
        assert torch.is_autocast_enabled("cuda")
        assert torch.get_autocast_dtype("cuda") == torch.float16
