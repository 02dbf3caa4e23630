import torch

from dietnerf.sampling import Stratified
from tests.helpers import Ball, inward_rays


def test_without_a_generator_samples_are_even_and_end_at_near_and_far():
    samples, coarse = Stratified(9).sample(inward_rays(3), Ball(), None)
    expected = torch.linspace(2, 6, 9).expand(3, 9).flatten()
    torch.testing.assert_close(samples.ts, expected)
    assert coarse is None


def test_jitter_keeps_the_order_and_comes_from_the_generator():
    rays = inward_rays(5)
    draw = lambda seed: Stratified(16).place(rays, torch.Generator().manual_seed(seed)).ts  # noqa: E731
    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))
    assert (draw(1).view(5, 16).diff(dim=1) > 0).all()


def test_lindisp_is_even_in_disparity():
    ts = Stratified(5, lindisp=True).place(inward_rays(1), None).ts
    torch.testing.assert_close(1 / ts, torch.linspace(1 / 2, 1 / 6, 5))


def test_last_interval_ends_at_far_or_nowhere():
    rays = inward_rays(2)
    finite = Stratified(4).place(rays, torch.Generator().manual_seed(0))
    ends = (finite.ts + finite.deltas).view(2, 4)[:, -1]
    torch.testing.assert_close(ends, rays.far)
    endless = Stratified(4, last_delta=1e10).place(rays, None)
    assert (endless.deltas.view(2, 4)[:, -1] == 1e10).all()
