import pytest
import torch
from torch import Tensor

from dietnerf.data import Procedural
from dietnerf.errors import UserError
from dietnerf.fields import MLP, HashGrid
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Samples
from dietnerf.losses import (
    Distortion,
    Occlusion,
    Photometric,
    RayLossInput,
)
from dietnerf.renderer import render_rays
from dietnerf.research import OpacityEntropy, RayEntropy
from dietnerf.sampling import Occupancy, Stratified, occupancy
from tests.helpers import Ball, inward_rays

BOX = [-1.5, -1.5, -1.5, 1.5, 1.5, 1.5]


def cameras() -> Cameras:
    """One camera that looks at the origin from (0, 0, 4)."""
    c2w = torch.cat([torch.eye(3), torch.tensor([[0.0], [0.0], [4.0]])], dim=1)[None]
    one = torch.ones(1)
    return Cameras(c2w, torch.full((1, 2), 8.0), torch.full((1, 2), 4.0), 2 * one, 6 * one, 8, 8)


def prepared(field: torch.nn.Module, device: str = "cpu", **options) -> Occupancy:
    sampler = Occupancy(
        **{"resolution": 32, "warmup_steps": 64, "update_every": 16, "bounds": BOX} | options
    )
    sampler.prepare(cameras(), field)
    return sampler.to(device)


def train(sampler: Occupancy, field: torch.nn.Module, steps: range) -> None:
    generator = torch.Generator(sampler.bounds.device).manual_seed(0)
    for step in steps:
        sampler.update(step, field, generator)


@pytest.mark.parametrize("kind", [{}, {"n_levels": 3}, {"n_levels": 3, "cone_angle": 0.003}])
def test_finds_a_ball_and_renders_it_like_dense_samples(kind, device: str):
    field, rays = Ball().to(device), inward_rays(300).to(device)
    sampler = prepared(field, device, **kind)
    everywhere, _ = sampler.sample(rays, field, None)
    train(sampler, field, range(64))
    samples, coarse = sampler.sample(rays, field, None)
    assert coarse is None
    distances = samples.positions.norm(dim=-1)
    diagonal_of_a_cell = 3 * 3**0.5 / 32
    assert distances.max() < 1 + diagonal_of_a_cell
    assert len(samples) < 0.6 * len(everywhere)
    rendered = field.render(samples).opacity
    # A cell that the surface cuts may have been probed outside of the ball.
    torch.testing.assert_close(rendered, field.render(everywhere).opacity, rtol=0, atol=0.01)
    # A step more or less of sigma 50, where a ray barely touches the ball.
    dense = field.render(Stratified(512).place(rays, None)).opacity
    torch.testing.assert_close(rendered, dense, rtol=0, atol=0.25)
    assert (rendered - dense).abs().mean() < 0.005


@pytest.mark.parametrize("n_levels", [1, 3])
def test_it_holds_what_it_samples_and_nothing_else(n_levels):
    field, rays = Ball(), inward_rays(300)
    sampler = prepared(field, n_levels=n_levels)
    assert sampler.is_occupied(2.9 * torch.eye(3)).tolist() == [n_levels > 1] * 3
    train(sampler, field, range(64))
    samples, _ = sampler.sample(rays, field, None)
    # The step at a cell's edge may round into the next one.
    assert sampler.is_occupied(samples.positions).float().mean() > 0.99
    everywhere = 3 * torch.rand(10_000, 3) - 1.5
    held = sampler.is_occupied(everywhere)
    assert (everywhere[held].norm(dim=-1) < 1 + 3 * 3**0.5 / 32).all()
    assert held.float().mean() == pytest.approx(4 / 3 * 3.14159 / 27, rel=0.3)
    assert not sampler.is_occupied(torch.full((1, 3), 1e3)).any()


def test_nothing_is_pruned_before_it_is_probed():
    field = Ball(radius=0.0)
    sampler = prepared(field)
    n_occupied = []
    for step in range(0, 64, 16):
        n_occupied.append(int(unpacked(sampler).sum()))
        assert float(sampler.scalars()["occupied"]) == pytest.approx(n_occupied[-1] / 32**3)
        train(sampler, field, range(step, step + 16))
    assert n_occupied == [32**3, 32**3 * 3 // 4, 32**3 // 2, 32**3 // 4]
    assert unpacked(sampler).sum() == 0


def unpacked(sampler: Occupancy) -> Tensor:
    """On the CPU."""
    return (sampler.occupied.cpu()[..., None] >> torch.arange(8) & 1).flatten()


def test_emptied_cells_come_back_and_cleared_ones_go(device: str):
    field = Ball(radius=0.0).to(device)
    sampler = prepared(field, device, resolution=16)
    train(sampler, field, range(64))
    assert len(sampler.sample(inward_rays(50).to(device), field, None)[0]) == 0
    field.radius = 1.0
    train(sampler, field, range(64, 64 + 16 * 600))
    centers = (torch.arange(16) + 0.5) / 16 * 3 - 1.5
    is_inside = torch.cartesian_prod(centers, centers, centers).norm(dim=-1) < 0.8
    # A cell is missed by 600 draws of one in 128 in a case of a hundred.
    assert unpacked(sampler)[is_inside].float().mean() > 0.95
    field.radius = 0.5
    train(sampler, field, range(64, 64 + 16 * 800))
    is_outside = torch.cartesian_prod(centers, centers, centers).norm(dim=-1) > 0.7
    assert unpacked(sampler)[is_outside].sum() == 0


def test_a_thin_field_is_not_emptied():
    """The threshold is not above the mean, so a field that has just begun is not lost."""
    field = Ball(sigma=1e-4)
    sampler = prepared(field)
    train(sampler, field, range(64))
    assert len(sampler.sample(inward_rays(50), field, None)[0]) > 0


class Haze(Ball):
    """Thinner and thinner with the distance from the origin."""

    def density(self, samples: Samples) -> tuple[Tensor, Tensor]:
        _, features = super().density(samples)
        return (-4 * samples.positions.square().sum(dim=1)).exp(), features


def test_a_higher_threshold_empties_more_cells():
    field, rays, n_samples = Haze(), inward_rays(50), []
    for threshold in (0.0, 1e-3):
        sampler = prepared(field, threshold=threshold, decay=1.0)
        train(sampler, field, range(64))
        n_samples.append(len(sampler.sample(rays, field, None)[0]))
    assert 0 < n_samples[1] < 0.9 * n_samples[0]


def test_loaded_it_gives_the_same_samples():
    field, rays = Ball(), inward_rays(50)
    sampler = prepared(field)
    train(sampler, field, range(64))
    sampler.sample(rays, field, torch.Generator().manual_seed(1))
    other = Occupancy(resolution=32, warmup_steps=64)
    other.load_state_dict(sampler.state_dict())
    assert other.n_samples == sampler.n_samples
    drawn = [
        s.sample(rays, field, torch.Generator().manual_seed(2))[0].ts for s in (sampler, other)
    ]
    assert len(drawn[0]) > 0 and torch.equal(*drawn)


def test_a_state_of_another_resolution_is_refused():
    with pytest.raises(RuntimeError, match="size mismatch for thickness"):
        Occupancy(resolution=16).load_state_dict(Occupancy(resolution=8).state_dict())


def test_counts_the_samples_of_training_rays_only():
    field, rays = Ball(), inward_rays(50)
    sampler = prepared(field, n_steps=100)
    assert sampler.n_samples == 100
    train(sampler, field, range(64))
    sampler.sample(rays, field, None)
    assert sampler.n_samples == 100
    for seed in range(60):
        samples, _ = sampler.sample(rays, field, torch.Generator().manual_seed(seed))
    assert sampler.n_samples == pytest.approx(len(samples) / 50, abs=2)


@pytest.mark.parametrize("n_levels", [1, 2])
def test_what_too_few_cameras_see_stays_empty(n_levels: int):
    views = Procedural(resolution=16, n_train=6).read("train").cameras
    sampler = Occupancy(
        resolution=16, n_levels=n_levels, min_view_fraction=1.0, bounds=[-2.0] * 3 + [2.0] * 3
    )
    sampler.prepare(views, Ball())
    train(sampler, Ball(radius=9.0), range(64))  # dense everywhere
    samples, _ = sampler.sample(inward_rays(200, near=0.1, far=8.0), Ball(), None)
    assert len(samples) > 0
    # A cell has the answer of its block's middle: at most a block's diagonal beyond the frames.
    slack = 1.75 * 4 * 2 ** (n_levels - 1) / 8
    for i in range(6):
        local = (samples.positions - views.positions[i]) @ views.c2w[i, :, :3]
        depth = -local[:, 2]
        pixels = (local[:, :2].abs() - slack) / depth[:, None] * views.focal[i]
        assert (pixels <= 8).all()
    everywhere = Occupancy(resolution=16, n_levels=n_levels, bounds=[-2.0] * 3 + [2.0] * 3)
    everywhere.prepare(views, Ball())
    more, _ = everywhere.sample(inward_rays(200, near=0.1, far=8.0), Ball(), None)
    assert len(more) > 1.2 * len(samples)


def test_cameras_that_share_no_view_leave_something_to_march_through():
    """Two cameras back to back: no cell is seen by both."""
    one = cameras()
    turned = one.c2w * torch.tensor([-1.0, 1.0, -1.0])[:, None]
    turned[:, 2, 3] = 12.0
    both = one.with_poses(torch.cat([one.c2w, turned]))
    sampler = Occupancy(resolution=16, min_view_fraction=1.0)
    sampler.prepare(both, Ball())
    assert sampler.is_seen.any() and not sampler.is_seen.all()


def test_pictures_take_steps_of_their_own():
    field, rays = Ball(), inward_rays(50)
    sampler = prepared(field, n_steps=100, n_eval_steps=400)
    trained, _ = sampler.sample(rays, field, torch.Generator().manual_seed(0))
    still, _ = sampler.sample(rays, field, None)
    torch.testing.assert_close(trained.lengths.mean(), 4 * still.lengths.mean())
    assert len(still) == pytest.approx(4 * len(trained), rel=0.05)


def test_jitter_comes_from_the_generator_and_fills_the_intervals():
    field, rays = Ball(), inward_rays(50)
    sampler = prepared(field)

    def draw(seed: int) -> Tensor:
        return sampler.sample(rays, field, torch.Generator().manual_seed(seed))[0].ts

    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1)[:100], draw(2)[:100])


def test_the_papers_field_can_be_evaluated():
    field = MLP(depth=2, width=16)
    sampler = prepared(field, resolution=8)
    train(sampler, field, range(128))
    samples, _ = sampler.sample(inward_rays(20), field, torch.Generator().manual_seed(0))
    assert len(samples) > 0 and not samples.ts.requires_grad
    field.render(samples).rgb.sum().backward()
    assert all(p.grad is not None for p in field.parameters())


def test_the_box_is_the_fields_where_it_has_one():
    class Boxed(Ball):
        bounds = torch.tensor([[-2.0, -2, -2], [2, 2, 2]])

    sampler = prepared(Boxed(), bounds=None, n_steps=10)
    assert torch.equal(sampler.bounds, Boxed.bounds)
    assert sampler.step_size == pytest.approx(4 * 3**0.5 / 10)
    assert torch.equal(prepared(Boxed()).bounds.flatten(), torch.tensor(BOX))


def test_before_prepare_there_is_no_box():
    with pytest.raises(ValueError, match="prepare"):
        Occupancy(resolution=8).sample(inward_rays(1), Ball(), None)


def test_more_samples_than_can_be_indexed_are_a_mistake_of_the_users(monkeypatch):
    def refuse(*args):
        raise RuntimeError("march_rays: 3000000000 samples are more than can be indexed; march ...")

    sampler = prepared(Ball())
    monkeypatch.setattr(occupancy, "march_rays", refuse)
    with pytest.raises(UserError, match=r"^4 rays have more .* choose fewer rays_per_step, or"):
        sampler.sample(inward_rays(4), Ball(), None)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"resolution": 12}, "resolution is 12; it must be a multiple of 8 from 8 to 1024"),
        ({"resolution": 0}, "resolution is 0; it must be a multiple of 8 from 8 to 1024"),
        ({"n_levels": 9}, "n_levels is 9; it must be from 1 to 8"),
        ({"min_view_fraction": 1.5}, "min_view_fraction is 1.5; it must be a share, from 0 to 1"),
        ({"n_eval_steps": 0}, "n_eval_steps is 0; it must be from 1 to 65536"),
        ({"n_steps": 0}, "n_steps is 0; it must be from 1 to 65536"),
        ({"n_steps": 10**9}, "n_steps is 1000000000; it must be from 1 to 65536"),
        ({"update_every": 0}, "update_every is 0, warmup_steps 32; .* at least 1 and 0"),
        ({"decay": 0.0}, "decay 0.0; they must be at least 0, at least 0, and above 0 up to 1"),
        ({"bounds": [0.0] * 5}, "it must be six numbers"),
        ({"bounds": [0.0] * 6}, "it must be six numbers"),
    ],
)
def test_wrong_options_are_named(options, sentence):
    with pytest.raises(UserError, match=sentence):
        Occupancy(**options)


@pytest.mark.parametrize("kind", ["fused", "composed", "mlp"])
def test_samples_of_a_fixed_number_change_nothing(
    kind: str, device: str, monkeypatch: pytest.MonkeyPatch
):
    """Neither what is seen, nor what it is worth, nor a gradient."""
    field = MLP(depth=2, width=16) if kind == "mlp" else HashGrid(log2_table_size=9, n_levels=2)
    if kind != "mlp":
        field.box.copy_(torch.tensor(BOX).view(2, 3))
        torch.nn.init.normal_(field.table)
    monkeypatch.setattr(HashGrid, "_is_fused", lambda field, device: kind == "fused")
    field, rays = field.to(device), inward_rays(40).to(device)
    sampler = prepared(field, device, resolution=16, n_steps=48)
    target, background = torch.rand(40, 3).to(device), torch.ones(40, 3).to(device)
    losses = [Photometric(), Distortion(), RayEntropy(), OpacityEntropy(), Occlusion()]
    found = []
    for capacity in (None, 3000):
        generator = torch.Generator(device).manual_seed(1)
        rendering, _ = render_rays(rays, field, sampler, background, generator, capacity)
        step = RayLossInput(0, rays, target, background, rendering, None)
        values = torch.stack([loss(step) for loss in losses])
        gradients = torch.autograd.grad(values.sum(), list(field.parameters()), allow_unused=True)
        found.append([values, rendering.rgb, rendering.depth, *gradients])
    assert len(rendering.weights) == 3000 > int(rendering.samples.ray_offsets[-1]) > 500
    for got, wanted in zip(*found, strict=True):
        if got is None or wanted is None:
            assert got is wanted
        else:
            # On a GPU the table's gradient is summed in any order.
            torch.testing.assert_close(
                got, wanted, rtol=1e-4, atol=1e-6 if device == "cpu" else 1e-5
            )
