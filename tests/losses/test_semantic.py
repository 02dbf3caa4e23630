"""The semantic loss: its gradient, what it looks at, when it counts, and that it works."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.data import ImageDataset, Procedural
from dietnerf.errors import UserError
from dietnerf.fields import MLP, HashGrid
from dietnerf.geometry.viewpoints import SphereCap
from dietnerf.losses import SceneContext, SemanticConsistency
from dietnerf.losses import semantic as semantic_module
from dietnerf.sampling import Importance, Stratified
from dietnerf.semantics import AbstractImageEncoder, OpenCLIP
from tests.helpers import Ball, tiny_tower

CPU, WHITE = torch.device("cpu"), torch.ones(3)


class Colors(AbstractImageEncoder):
    """Knows the mean color of an image, and what it was shown."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def load(self, device: torch.device) -> None:
        pass

    def features(self, images: Tensor) -> Tensor:
        self.seen.append(images.detach())
        return images.mean(dim=(2, 3)) - 0.5


@pytest.fixture(scope="module")
def scene() -> ImageDataset:
    return Procedural(resolution=24, n_train=4).read("train")


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return tiny_tower(tmp_path_factory.mktemp("tower"))


def prepared(scene: ImageDataset, encoder: AbstractImageEncoder, **options) -> SemanticConsistency:
    loss = SemanticConsistency(encoder, **{"resolution": 12, **options})
    loss.prepare(scene, WHITE, CPU)
    return loss


def context(field, sampler, step: int = 0, seed: int = 0) -> SceneContext:
    return SceneContext(step, field, sampler, WHITE, torch.Generator().manual_seed(seed))


def small_mlp() -> MLP:
    return MLP(depth=2, width=16)


def test_gradient_is_the_finite_difference(scene: ImageDataset, tower):
    """Of a ball's brightness, through compositing, resize, normalization and the tower."""
    loss, ball = prepared(scene, OpenCLIP(**tower)), Ball(sigma=2.0)
    now = context(ball, Stratified(16))

    def value(brightness: float) -> float:
        ball.brightness.data.fill_(brightness)
        return float(loss(context(ball, Stratified(16))).detach())

    (found,) = torch.autograd.grad(loss(now), ball.brightness)
    step = 1e-2
    expected = (value(0.8 + step) - value(0.8 - step)) / (2 * step)
    assert abs(expected) > 1e-4
    assert float(found) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("make_sampler", [lambda: Stratified(8), lambda: Importance(small_mlp())])
def test_chunks_give_the_gradient_of_the_whole(
    scene: ImageDataset, tower, monkeypatch, make_sampler
):
    loss, field, sampler = prepared(scene, OpenCLIP(**tower)), small_mlp(), make_sampler()
    parameters = [*field.parameters(), *sampler.parameters()]
    values, gradients = [], []
    for n_samples in (1 << 20, 30 * sampler.n_samples):
        monkeypatch.setattr(semantic_module, "SAMPLES_WITH_GRAPH", n_samples)
        monkeypatch.setattr(semantic_module, "rays_per_chunk", lambda *args: 1 << 20)
        # With jitter each chunk draws its own.
        loss.jitter = False
        values.append(loss(context(field, sampler)))
        gradients.append(torch.autograd.grad(values[-1], parameters))
    torch.testing.assert_close(values[0], values[1])
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-3, atol=1e-3 * float(whole.abs().max()))


def test_with_jitter_both_passes_see_the_same_samples(scene: ImageDataset, monkeypatch):
    monkeypatch.setattr(semantic_module, "SAMPLES_WITH_GRAPH", 8 * 16)
    seen: list[Tensor] = []

    class Watching(Stratified):
        def sample(self, rays, field, generator, capacity=None):
            samples, coarse = super().sample(rays, field, generator)
            seen.append(samples.ts)
            return samples, coarse

    prepared(scene, Colors(), resolution=6)(context(Ball(), Watching(8))).backward()
    n = len(seen) // 2
    assert n > 1
    for first, second in zip(seen[:n], seen[n:], strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(seen[0], seen[1])


def test_coarse_and_fine_are_both_compared(scene: ImageDataset):
    encoder = Colors()
    loss = prepared(scene, encoder)
    sampler = Importance(small_mlp(), n_coarse=8, n_fine=8)
    both = loss(context(small_mlp(), sampler))
    assert len(encoder.seen[-1]) == 2
    gradients = torch.autograd.grad(both, list(sampler.parameters()))
    assert any(gradient.abs().max() > 0 for gradient in gradients)


def test_value_is_one_minus_the_cosine_to_the_photograph(scene: ImageDataset):
    encoder, ball = Colors(), Ball()
    loss = prepared(scene, encoder, target="mean")
    value = loss(context(ball, Stratified(16)))
    targets = [scene.image(i, WHITE).mean(dim=(0, 1)) - 0.5 for i in range(4)]
    target = sum(F.normalize(t, dim=0) for t in targets)
    rendered = encoder.seen[-1][0].mean(dim=(1, 2)) - 0.5
    cosine = F.cosine_similarity(rendered, target, dim=0)
    torch.testing.assert_close(value, 1 - cosine)
    torch.testing.assert_close(loss.scalars["cosine"], cosine)
    torch.testing.assert_close(loss.debug_image, encoder.seen[-1][0].permute(1, 2, 0))


def test_what_is_rendered_is_the_view_from_there(scene: ImageDataset):
    """At the photographs' own cameras the rendering lies over the photograph, pixel by pixel."""
    ball, encoder = Ball(), Colors()
    loss = prepared(scene, encoder, resolution=24)
    loss.viewpoints.poses = lambda n, generator: scene.cameras.c2w[:1]
    loss(context(ball, Stratified(64)))
    from dietnerf.renderer import render_image

    whole = render_image(scene.cameras, 0, ball, Stratified(64), WHITE).rgb.view(24, 24, 3)
    rendered, photograph = loss.debug_image.split(24, dim=1)
    assert (rendered - whole).abs().mean() < 0.01 and whole.std() > 0.1
    assert any(torch.equal(photograph, scene.image(i, WHITE)) for i in range(4))


def test_crop_is_a_part_of_the_view_and_of_the_photograph(scene: ImageDataset):
    encoder = Colors()
    loss = prepared(scene, encoder, crop=0.5, resolution=12, crop_target=True)
    loss.viewpoints.poses = lambda n, generator: scene.cameras.c2w[:1]
    corners = set()
    for seed in range(30):
        encoder.seen.clear()
        loss(context(Ball(), Stratified(8), seed=seed))
        target, rendered = encoder.seen
        assert target.shape == rendered.shape == (1, 3, 12, 12)
        for photograph in loss.photographs:
            for top in range(13):
                for left in range(13):
                    part = photograph[top : top + 12, left : left + 12]
                    if torch.equal(part.permute(2, 0, 1), target[0]):
                        corners.add((left, top))
    assert len({left for left, _ in corners}) > 5 and len({top for _, top in corners}) > 5


def test_each_photograph_in_turn(scene: ImageDataset):
    loss = prepared(scene, Colors(), target="in_turn", every=3)
    field = context(Ball(), Stratified(4))
    targets = [loss._targets(replace(field, index=3 * i), [])[0] for i in range(8)]
    ids = [int((loss.embeddings - target).abs().sum(dim=1).argmin()) for target in targets]
    assert sorted(ids[:4]) == sorted(ids[4:]) == [0, 1, 2, 3]


def test_augmented_views_differ_and_repeat(scene: ImageDataset):
    encoder = Colors()
    plain, changed = prepared(scene, encoder), prepared(scene, encoder, augment=True)
    global_state = torch.get_rng_state()
    views = [loss(context(Ball(), Stratified(8))) and encoder.seen[-1] for loss in (plain, changed)]
    changed(context(Ball(), Stratified(8)))
    assert not torch.allclose(views[0], views[1], atol=1e-3)
    assert torch.equal(views[1], encoder.seen[-1])
    assert torch.equal(global_state, torch.get_rng_state())


def test_weight_follows_its_schedule():
    loss = SemanticConsistency(Colors(), weight=1.0, every=10, start=20, stop=60, final_weight=0.0)
    weights = {step: loss.weight_at(step, 100) for step in (0, 10, 20, 25, 30, 40, 50, 60, 70)}
    expected = {20: 1.0, 30: 0.75, 40: 0.5, 50: 0.25}
    assert weights == {step: expected.get(step, 0.0) for step in weights}
    assert SemanticConsistency(Colors(), weight=0.3).weight_at(90, 100) == 0.3


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n_views": 0}, "n_views must be at least 1"),
        ({"resolution": 0}, "resolution must be at least 1"),
        ({"crop": 0.0}, r"crop must be in \(0, 1\]"),
        ({"every": 0}, "every must be at least 1"),
        ({"start": 5, "stop": 4}, "start and stop"),
        ({"crop_target": True, "target": "mean"}, "crop_target needs"),
    ],
)
def test_settings_that_mean_nothing(options, sentence):
    with pytest.raises(UserError, match=sentence):
        SemanticConsistency(Colors(), **options)


def test_the_term_alone_raises_the_cosine_of_views_that_it_never_saw(scene: ImageDataset, tower):
    """A fast field that sees no photograph, only what they mean."""
    loss = prepared(scene, OpenCLIP(**tower), target="mean", resolution=16, n_views=2)
    field = HashGrid(n_levels=4, log2_table_size=12, finest_resolution=32)
    field.prepare(scene.cameras)
    sampler = Stratified(32)
    others = SphereCap(elevation=[20, 50])
    optimizer = torch.optim.Adam(field.parameters(), lr=1e-2)

    def held_out() -> float:
        other_loss = prepared(scene, loss.encoder, viewpoints=others, target="mean", resolution=16)
        other_loss.n_views, other_loss.jitter = 8, False
        with torch.no_grad():
            return 1 - float(other_loss(context(field, sampler, seed=99)))

    before = held_out()
    for step in range(60):
        optimizer.zero_grad()
        loss(context(field, sampler, seed=step)).backward()
        optimizer.step()
    after = held_out()
    assert after > before + 0.3 * (1 - before)


def test_towers_are_not_in_checkpoints(scene: ImageDataset, tower, tmp_path: Path):
    loss = prepared(scene, OpenCLIP(**tower))
    assert not loss.state_dict() and not list(loss.parameters())
