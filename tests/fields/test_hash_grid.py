"""The hash grid: it fits, anneals, ends at its box, and does not depend on the scene's unit."""

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.data import Procedural
from dietnerf.errors import UserError
from dietnerf.fields import AbstractField, HashGrid, hash_grid
from dietnerf.fields.hash_grid import level_rows
from dietnerf.geometry.rays import Rays, Samples
from dietnerf.ops._hash_grid import density_of_logits, unit_cube
from dietnerf.sampling import Occupancy
from tests.helpers import inward_rays

BOX = [-1.5, -1.5, -1.5, 1.5, 1.5, 1.5]
SMALL = {"n_levels": 4, "log2_table_size": 11, "finest_resolution": 64, "width": 16}
CAMERAS = Procedural(resolution=20).cameras("train")


def field(**options: Any) -> HashGrid:
    made = HashGrid(**SMALL, **{"bounds": BOX, **options})
    made.prepare(CAMERAS)
    return made


def ready(**options: Any) -> HashGrid:
    """With a table that is not almost zero."""
    made = field(**options)
    torch.nn.init.uniform_(made.table, -1, 1)
    return made


def samples(n_rays: int = 16, n_per_ray: int = 24, seed: int = 0) -> Samples:
    rays = inward_rays(n_rays, seed=seed)
    return Samples.dense(rays, torch.linspace(2, 6, n_per_ray).expand(n_rays, n_per_ray))


def at(points: Tensor) -> Samples:
    """One sample a ray, at the points (n, 3)."""
    zero = torch.zeros(len(points))
    rays = Rays(points, torch.ones_like(points), zero, zero + 1)
    return Samples.dense(rays, zero[:, None])


def colors(of: HashGrid, where: Samples) -> tuple[Tensor, Tensor]:
    sigmas, features = of.density(where)
    return sigmas, of.color(features, where)


def test_sizes_of_the_levels():
    rows = level_rows(3, 12, 4, 64)
    assert rows.tolist() == [[4, 0, 128], [16, 128, 4096], [64, 4224, 4096]]
    made = HashGrid()
    assert made.levels[0].tolist() == [16, 0, 4920]
    assert made.levels[:, 0].tolist() == [16, 26, 43, 71, 116, 190, 312, 512]
    assert (made.levels[2:, 2] == 2**15).all()


def test_one_level():
    assert level_rows(1, 15, 16, 512)[0, 0] == 16


def test_it_fits_a_colored_ball():
    made = field()
    optimizer = torch.optim.Adam(made.parameters(), lr=1e-2)
    losses = []
    for step in range(60):
        where = samples(seed=step % 4)
        points = where.positions
        wanted_sigmas = 8.0 * torch.sigmoid(20 * (0.8 - points.norm(dim=1)))
        wanted_rgbs = (0.5 + 0.4 * points / 2).clamp(0, 1)
        sigmas, rgbs = colors(made, where)
        is_in_box = points.abs().amax(dim=1) < 1.5
        loss = (sigmas - wanted_sigmas).square().mean() / 8
        loss = loss + (rgbs - wanted_rgbs).square()[is_in_box].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-4:]) < 0.1 * sum(losses[:4])


def test_colors_are_colors_and_depend_on_the_direction():
    made, where = ready(), samples()
    sigmas, rgbs = colors(made, where)
    assert (sigmas >= 0).all() and ((rgbs >= 0) & (rgbs <= 1)).all()
    turned = replace(where, rays=replace(where.rays, rays_d=-where.rays.rays_d))
    _, features = made.density(where)
    assert not torch.allclose(made.color(features, turned), rgbs)


def test_levels_of_weight_zero_are_not_seen():
    made, where = ready(), samples()
    made.level_weights[2:] = 0
    before = made.render(where).rgb
    first_fine_entry = int(made.levels[2, 1])
    made.table.data[first_fine_entry:] = torch.randn_like(made.table[first_fine_entry:])
    assert torch.equal(made.render(where).rgb, before)
    made.level_weights[2] = 0.5
    assert not torch.equal(made.render(where).rgb, before)


def test_outside_the_box_it_is_empty():
    points = torch.rand(500, 3) * 6 - 3
    sigmas, _ = ready().density(at(points))
    is_inside = points.abs().amax(dim=1) <= 1.5
    assert (sigmas[~is_inside] == 0).all() and (sigmas[is_inside] > 0).all()


def test_unbounded_it_goes_on():
    made = ready(is_unbounded=True)
    assert (made.density(at(torch.rand(500, 3) * 200 - 100))[0] > 0).all()


def test_the_box_fills_the_cube():
    box = torch.tensor([[-1.0, 0, 2], [3.0, 1, 4]])
    unit, is_outside = unit_cube(torch.cat([box, box + 0.1]), box, False)
    assert unit[:2].tolist() == [[0, 0, 0], [1, 1, 1]]
    assert is_outside.tolist() == [False, False, False, True]


def test_contraction_keeps_all_of_space_and_does_not_jump():
    box = torch.tensor([[-1.0, 0, 2], [3.0, 1, 4]]).double()
    far = torch.randn(1000, 3).double() * torch.logspace(-2, 6, 1000)[:, None]
    unit, is_outside = unit_cube(far, box, True)
    assert (unit > 0).all() and (unit < 1).all() and not is_outside.any()
    center, half = box.mean(dim=0), (box[1] - box[0]) / 2
    direction = F.normalize(torch.randn(50, 3).double(), p=torch.inf, dim=1)
    on_side = unit_cube(center + half * direction, box, True)[0]
    torch.testing.assert_close(on_side, 0.5 + 0.25 * direction)
    just_out = unit_cube(center + 1.000001 * half * direction, box, True)[0]
    torch.testing.assert_close(just_out, on_side, atol=1e-6, rtol=0)


def test_a_scene_ten_times_larger_looks_the_same():
    """Cameras ten times farther away; the box comes from them."""
    where = samples()
    c2w = torch.cat([CAMERAS.c2w[:, :, :3], 10 * CAMERAS.c2w[:, :, 3:]], dim=2)
    larger = replace(CAMERAS, c2w=c2w, near=10 * CAMERAS.near, far=10 * CAMERAS.far)
    made = ready(bounds=None)
    made.prepare(CAMERAS)
    small = made.render(where)
    made.prepare(larger)
    rays = where.rays
    far_rays = replace(rays, rays_o=10 * rays.rays_o, rays_d=10 * rays.rays_d)
    big = made.render(replace(where, rays=far_rays))
    # Positions in the unit cube are rounded to 1e-7, and steep by 64 cells.
    torch.testing.assert_close(big.rgb, small.rgb, atol=1e-4, rtol=0)
    torch.testing.assert_close(big.opacity, small.opacity, atol=1e-4, rtol=0)


def test_a_reload_renders_the_same():
    made, where = ready(), samples()
    made.level_weights[3] = 0.25
    again = HashGrid(**SMALL)
    again.load_state_dict(made.state_dict())
    assert torch.equal(again.box, torch.tensor(BOX).reshape(2, 3))
    assert torch.equal(again.render(where).rgb, made.render(where).rgb)


def test_without_a_box_nothing_comes_out_unnoticed():
    assert HashGrid(**SMALL).density(samples())[0].isnan().all()


def test_half_precision_is_close():
    made, where = ready(), samples()
    exact = made.render(where)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = made.render(where)
    rounded.rgb.sum().backward()
    assert rounded.rgb.dtype == torch.float32 and made.table.grad.dtype == torch.float32
    # bfloat16 has 8 bits, through five layers.
    torch.testing.assert_close(rounded.rgb, exact.rgb, atol=0.03, rtol=0)


def occupied(made: HashGrid) -> Samples:
    """Where an occupancy grid that is two thirds full has samples."""
    sampler = Occupancy(resolution=16, n_steps=64)
    sampler.prepare(CAMERAS, made)
    sampler.occupied.view(16, 32)[::3] = 0  # slabs across z
    return sampler.sample(inward_rays(40), made, torch.Generator().manual_seed(0))[0]


@pytest.mark.parametrize("is_half", [False, True], ids=["float32", "bfloat16"])
def test_the_fused_and_the_composed_path_are_one_field(is_half: bool):
    made = ready()
    where = occupied(made)
    results = []
    for render in (HashGrid.render, AbstractField.render):
        made.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
            rendering = render(made, where)
        (rendering.rgb.square().sum() + rendering.opacity.sum() + rendering.depth.sum()).backward()
        results.append((rendering, {n: p.grad.clone() for n, p in made.named_parameters()}))
    (fused, fused_grads), (composed, grads) = results
    # float32: the order of sums. bfloat16: composed, each of four layers is rounded to 8 bits.
    error, share = (0.01, 0.1) if is_half else (1e-5, 1e-5)
    for name in ("rgb", "opacity"):
        found, expected = getattr(fused, name), getattr(composed, name)
        torch.testing.assert_close(found, expected, atol=error, rtol=0)
    for name, expected in grads.items():
        assert expected.norm() > 0, name
        assert (fused_grads[name] - expected).norm() < share * expected.norm(), name


@pytest.mark.parametrize(
    ("options", "n_bytes", "is_fused"),
    [
        ({"width": 64, "color_layers": 2}, 101376, True),
        ({"width": 64, "color_layers": 2}, 49152, False),
        ({"width": 64, "n_levels": 16, "n_features": 8}, 101376, False),
        ({"width": 64, "n_levels": 16, "n_features": 8}, 232448, True),
        ({"width": 128}, 232448, False),
        ({"color_layers": 6}, 232448, False),
    ],
    ids=str,
)
def test_networks_that_a_gpu_has_no_room_for_are_composed(
    options: dict[str, Any], n_bytes: int, is_fused: bool, monkeypatch: pytest.MonkeyPatch
):
    """As a GeForce card has 99 KiB for a block, and an H100 227: known before the first kernel."""
    card = SimpleNamespace(shared_memory_per_block_optin=n_bytes)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    monkeypatch.setattr(hash_grid, "is_compiled", lambda op, device: True)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: True)
    assert HashGrid(**{**SMALL, **options})._is_fused(torch.device("cuda")) == is_fused


@pytest.mark.parametrize("name", ["rays_o", "rays_d"])
def test_rays_can_be_learned(name: str):
    """Poses get gradients, though the fused op has none for them."""
    made = ready()
    where = occupied(made)
    rays = replace(where.rays, **{name: getattr(where.rays, name).clone().requires_grad_()})
    rendering = made.render(replace(where, rays=rays))
    rendering.rgb.sum().backward()
    gradient = getattr(rays, name).grad
    assert gradient.isfinite().all() and (gradient.norm(dim=1) > 0).float().mean() > 0.9
    torch.testing.assert_close(rendering.rgb, made.render(where).rgb, atol=1e-4, rtol=0)


def test_a_huge_density_is_finite_and_comes_down():
    """The exponent is kept at 15: exp alone would overflow, and its gradient with it."""
    x = torch.tensor([-100.0, 0.0, 100.0], requires_grad=True)
    box = torch.tensor([[-1.0] * 3, [1.0] * 3])
    sigmas = density_of_logits(x, box, torch.zeros(3, dtype=torch.bool))
    sigmas.sum().backward()
    assert sigmas.isfinite().all() and x.grad.isfinite().all()
    torch.testing.assert_close(x.grad.log(), torch.tensor([-15.0, 0.0, 15.0]))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n_levels": 0}, "HashGrid: n_levels must be 1 to 64, got 0"),
        ({"n_features": 3}, "HashGrid: n_features must be 1, 2, 4 or 8, got 3"),
        ({"log2_table_size": 40}, "HashGrid: log2_table_size must be 3 to 30, got 40"),
        ({"finest_resolution": 8}, "finest_resolution not smaller nor above 2^20, got 16 and 8"),
        ({"width": 24}, "HashGrid: width must be a multiple of 16 up to 4096, got 24"),
        ({"n_geometry_features": 16}, "must be one less than a multiple of 16 up to 4096, got 16"),
        ({"color_layers": 0}, "HashGrid: color_layers must be 1 to 16, got 0"),
        ({"sh_degree": 5}, "SphericalHarmonics: degree must be 1 to 4, got 5"),
        ({"bounds": [0.0, 1.0]}, "HashGrid: bounds must be 6 numbers, got 2"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_impossible_options_are_refused(options: dict[str, Any], sentence: str):
    with pytest.raises(UserError, match=re.escape(sentence)):
        HashGrid(**{**SMALL, **options})


def test_a_table_larger_than_memory_is_refused():
    with pytest.raises(UserError, match=r"GB of memory, and there are .* smaller log2_table_size"):
        HashGrid(n_levels=64, n_features=8, log2_table_size=30, finest_resolution=1 << 20)


def test_a_box_that_no_camera_sees_is_refused():
    with pytest.raises(UserError, match=r"field.bounds: no training camera sees any of the box"):
        field(bounds=[50.0, 50, 50, 51, 51, 51])
