import torch

from dietnerf.sampling import Importance
from tests.helpers import Ball, inward_rays


def test_samples_gather_where_the_coarse_field_is_dense():
    rays = inward_rays(8)
    samples, coarse = Importance(Ball(sigma=5.0), n_coarse=32, n_fine=64).sample(
        rays, Ball(), torch.Generator().manual_seed(0)
    )
    distances = samples.positions.norm(dim=-1).view(8, 96)
    hits = coarse.opacity > 0.9
    assert hits.any()
    # Nearly all 64 new samples of a ray that hits lie in or beside the ball, but only some of 32
    # coarse ones.
    assert ((distances[hits] < 1.2).sum(dim=1) > 60).all()
    assert (samples.ts.view(8, 96).diff(dim=1) >= 0).all()


def test_without_a_coarse_field_the_fine_one_is_evaluated():
    field = Ball()
    samples, coarse = Importance(n_coarse=8, n_fine=8).sample(inward_rays(2), field, None)
    coarse.rgb.sum().backward()
    assert field.brightness.grad is not None
    assert len(samples) == 32


def test_new_samples_carry_no_gradient():
    samples, _ = Importance(n_coarse=8, n_fine=8).sample(inward_rays(2), Ball(), None)
    assert not samples.ts.requires_grad and not samples.deltas.requires_grad
