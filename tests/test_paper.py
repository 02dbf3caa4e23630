"""With the same weights and random numbers our values are those of the authors' formulas."""

import torch

from benchmarks import authors
from dietnerf.fields import MLP
from dietnerf.geometry.rays import Rays, Samples
from dietnerf.renderer import render_rays
from dietnerf.sampling import Importance
from tests.helpers import inward_rays


def copy_weights(network: authors.Network) -> MLP:
    field = MLP(density_activation="relu")
    ours = [*field.trunk, field.sigma_head, field.bottleneck, field.color_layer, field.rgb_head]
    theirs = [*network.points, network.density, network.feature, network.views, network.color]
    for mine, its in zip(ours, theirs, strict=True):
        mine.load_state_dict(its.state_dict())
    return field


def dense_network() -> authors.Network:
    network = authors.Network()
    torch.nn.init.constant_(network.density.bias, 0.5)  # something to see
    return network


def test_field():
    network, rays = dense_network(), inward_rays(6)
    field = copy_weights(network)
    z = authors.stratify(2.0, 6.0, torch.rand(6, 32))
    samples = Samples.dense(rays, z, last_delta=1e10)
    raw = authors.query(network, samples.positions.view(6, 32, 3), rays.viewdirs)
    sigmas, features = field.density(samples)
    rgbs = field.color(features, samples)
    # Float32 sums of 256 terms in another order, ten layers deep.
    torch.testing.assert_close(sigmas.view(6, 32), raw[..., 3].relu(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(rgbs.view(6, 32, 3), raw[..., :3].sigmoid(), atol=1e-5, rtol=1e-4)


def test_compositing():
    network, rays = dense_network(), inward_rays(16)
    z = authors.stratify(2.0, 6.0, torch.rand(16, 64))
    samples = Samples.dense(rays, z, last_delta=1e10)
    raw = authors.query(network, samples.positions.view(16, 64, 3), rays.viewdirs).detach()
    rgb, weights, opacity, depth = authors.composite(raw, z, rays.rays_d)
    ours = copy_weights(network).render(samples).over(torch.ones(3))
    torch.testing.assert_close(ours.weights.view(16, 64), weights, atol=2e-6, rtol=1e-4)
    torch.testing.assert_close(ours.rgb, rgb, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.opacity, opacity, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.depth, depth, atol=5e-5, rtol=0)


def test_whole_hierarchical_rendering(monkeypatch):
    """Coarse and fine colors and the gradient of the loss, from the same uniform numbers."""
    coarse, fine, rays = dense_network(), dense_network(), inward_rays(12)
    u, u_fine = torch.rand(12, 64), torch.rand(12, 128)
    draws = iter([u.flatten(), u_fine])
    monkeypatch.setattr("dietnerf.sampling.stratified.draw_uniform", lambda *_: next(draws))
    monkeypatch.setattr("dietnerf.sampling.importance.draw_uniform", lambda *_: next(draws))
    their_coarse, their_fine = authors.render(coarse, fine, rays.rays_o, rays.rays_d, u, u_fine)

    sampler = Importance(copy_weights(coarse), 64, 128, last_delta=1e10)
    field = copy_weights(fine)
    our_fine, our_coarse = render_rays(rays, field, sampler, torch.ones(3))
    torch.testing.assert_close(our_coarse.rgb, their_coarse, atol=1e-5, rtol=0)
    # A sample may fall on the other side of a bin's edge by rounding, and moves by less than 1e-5
    # of the bin.
    torch.testing.assert_close(our_fine.rgb, their_fine, atol=1e-4, rtol=0)

    (our_fine.rgb.square().mean() + our_coarse.rgb.square().mean()).backward()
    (their_fine.square().mean() + their_coarse.square().mean()).backward()
    for ours, theirs in (
        (field.trunk[0], fine.points[0]),
        (sampler.coarse.trunk[0], coarse.points[0]),
    ):
        torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, atol=1e-6, rtol=5e-3)


def test_rays_of_the_authors_have_length_one_along_the_axis():
    rays = Rays(torch.zeros(1, 3), torch.tensor([[0.3, 0.4, -1.0]]), torch.ones(1), torch.ones(1))
    torch.testing.assert_close(rays.norms, torch.tensor([1.25]).sqrt())
