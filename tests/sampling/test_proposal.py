"""Samples from a grid of densities: where they lie, and that the grid learns from what is seen."""

import pytest
import torch
from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.fields import HashGrid
from dietnerf.geometry.rays import Histogram, Rays, Rendering, Samples
from dietnerf.losses import Interlevel, RayLossInput
from dietnerf.sampling import Proposal
from tests.helpers import Ball, inward_rays

BOX = [-1.5, -1.5, -1.5, 1.5, 1.5, 1.5]


def made(**options: int) -> Proposal:
    sampler = Proposal(finest_resolution=32, **options)
    sampler.box = torch.tensor(BOX).view(2, 3)
    return sampler


def step(sampler: Proposal, rays: Rays, seed: int) -> RayLossInput:
    samples, _ = sampler.sample(rays, Ball(), torch.Generator().manual_seed(seed))
    rendering = Ball(sigma=20.0).render(samples)
    return RayLossInput(seed, rays, rendering.rgb, torch.ones(3), rendering, None)


def learned(n_steps: int = 60) -> Proposal:
    """A proposal that has seen a ball of radius 1."""
    sampler, loss = made(), Interlevel()
    optimizer = torch.optim.Adam(sampler.parameters(), lr=0.3)
    for i in range(n_steps):
        optimizer.zero_grad()
        loss(step(sampler, inward_rays(64, seed=i), i)).backward()
        optimizer.step()
    return sampler


def test_intervals_touch_and_lie_between_near_and_far():
    sampler, rays = made(n_samples=10, n_eval_samples=14, n_intervals=20), inward_rays(5)
    for n, generator in ((14, None), (10, torch.Generator().manual_seed(0))):
        samples, coarse = sampler.sample(rays, Ball(), generator)
        ts, deltas = samples.ts.view(5, n), samples.deltas.view(5, n)
        assert coarse is None and (deltas > 0).all()
        ends, starts = (ts + deltas / 2)[:, :-1], (ts - deltas / 2)[:, 1:]
        torch.testing.assert_close(ends, starts)
        assert (ts > rays.near[:, None]).all() and (ts < rays.far[:, None]).all()


def test_far_scenes_get_intervals_that_grow_with_the_distance():
    rays = Rays(torch.zeros(1, 3), torch.eye(3)[:1], torch.tensor([0.1]), torch.tensor([100.0]))
    samples, _ = made().sample(rays, Ball(), None)
    assert samples.proposal is not None
    edges = samples.proposal.edges[0]
    torch.testing.assert_close(edges[1:] / edges[:-1], (edges[1] / edges[0]).expand(64))


def test_samples_gather_where_the_field_stops_light():
    rays = inward_rays(64, seed=99)
    before, after = (
        (sampler.sample(rays, Ball(), None)[0].positions.norm(dim=1).view(64, -1) - 1).abs() < 0.25
        for sampler in (made(), learned())
    )
    assert after.float().mean() > 2.5 * before.float().mean()


def test_pictures_draw_no_random_numbers():
    sampler, rays = learned(5), inward_rays(8)
    first, second = (sampler.sample(rays, Ball(), None)[0].ts for _ in range(2))
    assert torch.equal(first, second)


def test_the_loss_is_nothing_where_the_proposal_covers_what_is_seen():
    rays = inward_rays(16)
    made_step = step(learned(), rays, 0)
    assert Interlevel()(made_step) < 0.1 * Interlevel()(step(made(), rays, 0))


def test_the_loss_trains_the_proposal_and_not_the_field():
    sampler, field = made(), HashGrid(n_levels=2, log2_table_size=8, bounds=BOX)
    field.box = torch.tensor(BOX).view(2, 3)
    rays = inward_rays(4)
    samples, _ = sampler.sample(rays, field, None)
    rendering = field.render(samples)
    Interlevel()(RayLossInput(0, rays, rendering.rgb, torch.ones(3), rendering, None)).backward()
    assert sampler.table.grad is not None and sampler.table.grad.abs().max() > 0
    assert field.table.grad is None or not field.table.grad.any()


def test_the_loss_in_closed_form():
    """Two samples, of which the second lies where the proposal expects less than is there."""
    rays = Rays(torch.zeros(1, 3), torch.eye(3)[:1], torch.tensor([1.0]), torch.tensor([5.0]))
    edges = torch.tensor([[1.0, 3.0, 5.0]])
    weights = torch.tensor([[0.5, 0.2]], requires_grad=True)
    samples = Samples.between(rays, torch.tensor([[1.5, 2.5, 3.5, 4.5]]), Histogram(edges, weights))
    seen = torch.tensor([0.4, 0.6, 0.6])  # in the first interval, in both, in the second
    rendering = Rendering(torch.zeros(1, 3), seen.sum()[None], torch.zeros(1), seen, samples)
    loss = Interlevel()(RayLossInput(0, rays, torch.zeros(1, 3), torch.ones(3), rendering, None))
    torch.testing.assert_close(loss, torch.tensor((0.6 - 0.2) ** 2 / 0.6), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    "options", [{"n_samples": 1}, {"n_intervals": 1}, {"finest_resolution": 8}]
)
def test_impossible_sizes_are_refused(options: dict[str, int]):
    with pytest.raises(UserError, match=next(iter(options))):
        Proposal(**options)


def test_its_box_is_the_field_s():
    field = HashGrid(n_levels=2, log2_table_size=8)
    field.box = torch.tensor(BOX).view(2, 3)
    sampler = Proposal()
    sampler.prepare(None, field)  # type: ignore[arg-type]
    assert torch.equal(sampler.box, field.box)


def test_density_is_finite_everywhere():
    points: Tensor = torch.tensor([[0.0, 0, 0], [1e6, 0, 0], [-1e3, 5, 1e9]])
    assert made().density(points).isfinite().all()
