"""Scenes of Gaussians: what one looks like, and how their number grows."""

import math
from pathlib import Path

import pytest
import torch

from dietnerf.errors import UserError
from dietnerf.gaussians import Gaussians, Points, model
from dietnerf.gaussians.model import DEAD, rotations_of
from dietnerf.gaussians.relocation import split_opacity_and_scale
from dietnerf.renderer import render_image
from dietnerf.runs.checkpoint_checks import check_weights
from dietnerf.scene_model import SceneModel
from dietnerf.specs import Spec
from dietnerf.visualize import surface_depth
from tests.gaussians.scenes import ball, camera


def one(position: list[float], rgb: list[float], scale: float = 0.1) -> Gaussians:
    gaussians = Gaussians(4, 1, sh_degree=1, antialias=False)
    gaussians.place(Points(torch.tensor([position]), torch.tensor([rgb])))
    with torch.no_grad():
        gaussians.log_scales.fill_(math.log(scale))
        gaussians.opacity_logits.fill_(8.0)
    return gaussians


def test_one_is_seen_where_the_camera_projects_it_in_its_color_and_at_its_distance():
    view, position = camera(), [0.3, -0.2, 0.5]
    gaussians = one(position, [0.9, 0.5, 0.1])
    shown = gaussians.render_view(view, 0)
    place, _ = view.project(torch.tensor([position]))
    column = ((place[0, 0, 0] + 1) / 2 * view.width).floor().long()
    row = ((place[0, 0, 1] + 1) / 2 * view.height).floor().long()
    pixel = int(row * view.width + column)
    assert shown.opacity.argmax() == pixel
    rgb = shown.rgb[pixel] / shown.opacity[pixel]
    torch.testing.assert_close(rgb, torch.tensor([0.9, 0.5, 0.1]), atol=1e-3, rtol=0)
    assert (shown.depth[pixel] / shown.opacity[pixel]).item() == pytest.approx(3.5, abs=1e-3)
    assert shown.opacity.min() == 0


def test_the_nearer_of_two_hides_the_other():
    gaussians = one([0.0, 0.0, 1.0], [1.0, 0.0, 0.0], scale=0.3)
    gaussians.place(
        Points(
            torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]]),
            torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
        )
    )
    with torch.no_grad():
        gaussians.log_scales.fill_(math.log(0.3))
        gaussians.opacity_logits.fill_(8.0)
    middle = gaussians.render_view(camera(), 0).rgb.view(40, 48, 3)[20, 24]
    torch.testing.assert_close(middle, torch.tensor([1.0, 0.0, 0.0]), atol=0.01, rtol=0)


@pytest.mark.parametrize("lens", [{}, {"distortion": torch.zeros(1, 9)}], ids=["none", "lens"])
def test_a_median_depth_is_where_half_of_the_light_is_stopped(lens: dict[str, torch.Tensor]):
    gaussians = Gaussians(2, 2, antialias=False)
    gaussians.place(Points(torch.tensor([[0.0, 0, 1], [0.0, 0, 0]]), torch.rand(2, 3)))
    with torch.no_grad():
        gaussians.log_scales.fill_(-1.0)
        gaussians.opacity_logits.copy_(torch.logit(torch.tensor([0.3, 0.9])))
    if lens:
        lens["is_fisheye"] = torch.zeros(1, dtype=torch.bool)
    mean, median = (
        surface_depth(gaussians.render_view(camera(**lens), 0, with_median=with_median))
        for with_median in (False, True)
    )
    middle = 20 * 48 + 24
    assert mean[middle].item() == pytest.approx((0.3 * 3 + 0.63 * 4) / 0.93, abs=0.01)
    assert median[middle].item() == pytest.approx(4.0, abs=1e-3)


def test_a_camera_turned_by_its_pose_has_gradients():
    gaussians, view = ball(), camera()
    view.c2w.requires_grad_()
    gaussians.render_view(view, 0).rgb.sum().backward()
    assert view.c2w.grad is not None and view.c2w.grad.abs().sum() > 0
    assert gaussians.means.grad is not None and gaussians.means.grad.abs().sum() > 0


def test_a_background_is_behind():
    shown = render_image(camera(), 0, ball(), torch.nn.Identity(), torch.tensor([0.2, 0.4, 0.6]))
    corner = shown.rgb.view(40, 48, 3)[0, 0]
    torch.testing.assert_close(corner, torch.tensor([0.2, 0.4, 0.6]))


@pytest.mark.parametrize("k1", [0.0, 0.08])
def test_a_lens_shows_points_where_its_camera_projects_them(k1: float):
    lens = torch.zeros(1, 9)
    lens[0, 0] = k1
    view = camera(distortion=lens, is_fisheye=torch.tensor([False]))
    position = [0.9, 0.6, 0.5]
    shown = one(position, [1.0, 1.0, 1.0], scale=0.05).render_view(view, 0)
    weights = shown.opacity.view(40, 48) / shown.opacity.sum()
    rows, columns = torch.arange(40) + 0.5, torch.arange(48) + 0.5
    middle = torch.stack([(weights.sum(dim=0) * columns).sum(), (weights.sum(dim=1) * rows).sum()])
    place, _ = view.project(torch.tensor([position]))
    wanted = (place[0, 0] + 1) / 2 * torch.tensor([48.0, 40.0])
    torch.testing.assert_close(middle, wanted, atol=0.1, rtol=0)


def test_a_lens_that_bends_nothing_shows_the_pinhole_image():
    plain = ball().render_view(camera(), 0)
    lens = camera(distortion=torch.zeros(1, 9), is_fisheye=torch.tensor([False]))
    torch.testing.assert_close(ball().render_view(lens, 0).rgb, plain.rgb, atol=1e-4, rtol=0)


def test_images_of_lenses_that_are_kept_have_a_limit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(model, "CANVAS_BYTES", 10_000)
    gaussians = ball()
    view = camera(distortion=torch.zeros(1, 9), is_fisheye=torch.tensor([False]))
    for i in range(40):
        gaussians.render_view(view.windowed(i / 10, 0, 20, 12), 0)
    sizes = [canvas.places.nbytes for canvas in gaussians._canvases.values()]
    assert len(sizes) > 2 and 8_000 < sum(sizes) <= 10_000


def test_a_lens_that_is_too_wide_is_refused():
    view = camera(distortion=torch.zeros(1, 9), is_fisheye=torch.tensor([True]))
    wide = view.resized(48, 40)
    wide.focal.fill_(22.0)
    with pytest.raises(UserError, match="this lens is too wide for one"):
        ball().render_view(wide, 0)
    with pytest.raises(UserError, match="this lens is too wide for one"):
        ball().prepare(wide)


@pytest.mark.parametrize("copies", [1, 2, 3, 10, 51])
def test_copies_of_one_let_as_much_light_pass(copies: int):
    opacity, scale = torch.tensor([0.7]), torch.tensor([[0.1, 0.2, 0.3]])
    each, size = split_opacity_and_scale(opacity, scale, torch.tensor([copies]))
    assert 1 - (1 - each.item()) ** copies == pytest.approx(0.7, abs=1e-5)
    # Along a line through all of them, the integral of what they stop stays (equation 9).
    x = torch.linspace(-3, 3, 20001).double()
    before = 0.7 * torch.exp(-(x**2) / (2 * 0.1**2))
    alpha = each.double() * torch.exp(-(x**2) / (2 * size[0, 0].double() ** 2))
    assert (1 - (1 - alpha) ** copies).sum().item() == pytest.approx(before.sum().item(), rel=1e-3)


def test_dead_ones_are_moved_and_their_number_grows_to_the_capacity():
    gaussians = ball(capacity=430, interval=10, growth=1.05, noise=0)
    before = gaussians.render_view(camera(), 0).rgb
    with torch.no_grad():
        gaussians.opacity_logits[:20] = math.log(DEAD / 2)
        gaussians.means[:20] = 100.0
    gaussians.update(10, 1000, torch.Generator().manual_seed(0))
    assert gaussians.n == 420
    assert (gaussians.opacity_logits[:420].sigmoid() >= DEAD).all()
    assert gaussians.means[:420].abs().max() < 2
    after = gaussians.render_view(camera(), 0).rgb
    assert (after - before).abs().mean() < 0.02
    gaussians.update(20, 1000, torch.Generator().manual_seed(0))
    assert gaussians.n == 430
    gaussians.update(30, 1000, torch.Generator().manual_seed(0))
    assert gaussians.n == 430


def test_few_grow_as_well():
    gaussians = ball(15, interval=10, noise=0)
    gaussians.update(10, 1000, torch.Generator().manual_seed(0))
    assert gaussians.n == 16


def test_nothing_is_relocated_between_intervals_and_at_the_end():
    gaussians = ball(interval=10, noise=0, growing=0.5)
    for step in (0, 5, 600):
        gaussians.update(step, 1000, torch.Generator())
        assert gaussians.n == 400


def test_noise_moves_those_alone_that_are_almost_transparent():
    gaussians = ball()
    with torch.no_grad():
        gaussians.opacity_logits[:10] = -8.0
    before = gaussians.means.detach().clone()
    gaussians.update(1, 1000, torch.Generator().manual_seed(0))
    moved = (gaussians.means.detach() - before).norm(dim=1)
    assert moved[:10].min() > 0 and moved[10:].max() == 0


def test_what_is_saved_shows_the_same_pixels_after_loading():
    gaussians = ball()
    loaded = Gaussians(500, 400, antialias=False)
    loaded.load_state_dict(gaussians.state_dict())
    assert torch.equal(loaded.render_view(camera(), 0).rgb, gaussians.render_view(camera(), 0).rgb)


@pytest.mark.parametrize("n", [-5, 0, 501, 10**12])
def test_a_number_that_there_cannot_be_is_refused(n: int):
    weights = ball().state_dict() | {"n_used": torch.tensor(n)}
    with pytest.raises(UserError, match=f"n_used is {n}; it must be a whole number from 1 to 500"):
        Gaussians(500, 400).load_state_dict(weights)


def test_rotations_turn_as_quaternions_do():
    half = math.sqrt(0.5)
    turn = rotations_of(torch.tensor([[half, 0.0, 0.0, half], [2.0, 0.0, 0.0, 0.0]]))
    torch.testing.assert_close(turn[0] @ torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1.0, 0.0]))
    torch.testing.assert_close(turn[1], torch.eye(3))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"capacity": 0}, "n_first is 10000 and capacity 0"),
        ({"capacity": 5, "n_first": 6}, "n_first not above capacity"),
        ({"capacity": 10**9}, "they must be from 1 to 16777215"),
        ({"sh_degree": 4}, "sh_degree is 4; it must be 0 to 3"),
        ({"growth": 0.9}, "growth 0.9"),
        ({"interval": 0}, "interval is 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], sentence: str):
    with pytest.raises(UserError, match=sentence):
        Gaussians(**options)  # type: ignore[arg-type]


def test_without_points_there_is_nothing_to_begin_at():
    with pytest.raises(UserError, match="no points to begin at"):
        Gaussians(10, 5).place(Points(torch.zeros(0, 3), torch.zeros(0, 3)))


def test_two_of_them_are_no_box(tmp_path: Path):
    """Whatever has two rows of three numbers was taken for a box when a file was checked."""
    weights = SceneModel(ball(2, capacity=2)).state_dict()
    check_weights({"field": Spec(Gaussians, {"capacity": 2, "n_first": 2})}, weights, tmp_path)
