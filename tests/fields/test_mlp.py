import pytest
import torch

from dietnerf.errors import UserError
from dietnerf.fields import MLP
from dietnerf.geometry.rays import Samples
from tests.helpers import inward_rays


def samples(n_rays: int = 4, n_per_ray: int = 8) -> Samples:
    rays = inward_rays(n_rays)
    return Samples.dense(rays, torch.linspace(2, 6, n_per_ray).expand(n_rays, n_per_ray))


def test_paper_size():
    assert sum(p.numel() for p in MLP().parameters()) == 595_844


def test_simplified_nerf_is_the_same_from_everywhere():
    field = MLP(width=16, position_octaves=6, direction_octaves=None)
    placed = samples()
    rgbs = field.color(field.density(placed)[1], placed)
    assert rgbs.shape == (32, 3)
    assert field.encode_direction is None


@pytest.mark.parametrize("activation", ["softplus", "relu"])
def test_density_is_never_negative_and_colors_are_colors(activation):
    field = MLP(width=16, density_activation=activation)
    placed = samples()
    sigmas, features = field.density(placed)
    rgbs = field.color(features, placed)
    assert sigmas.shape == (32,) and (sigmas >= 0).all()
    assert ((rgbs >= 0) & (rgbs <= 1)).all()


def test_softplus_has_a_gradient_where_relu_has_none():
    """A field that starts out empty everywhere: the collapse to white that few views invite."""
    found = {}
    for activation in ("softplus", "relu"):
        field = MLP(width=16, density_activation=activation)
        torch.nn.init.constant_(field.sigma_head.bias, -5.0)
        field.render(samples()).opacity.sum().backward()
        found[activation] = field.sigma_head.bias.grad.abs().item()
    assert found["relu"] == 0 and found["softplus"] > 0


def test_half_precision_leaves_positions_and_compositing_in_float32():
    field = MLP(width=16)
    placed = samples()
    exact = field.render(placed)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = field.render(placed)
    assert rounded.rgb.dtype == torch.float32
    # bfloat16 has 8 bits: a few percent through ten layers. Octave 9 of a rounded position would be
    # pure noise.
    torch.testing.assert_close(rounded.rgb, exact.rgb, atol=0.03, rtol=0)


def test_skip_after_the_last_layer_does_nothing():
    placed = samples()
    assert MLP(depth=4, width=16, skip=3).render(placed).rgb.shape == (4, 3)


def test_impossible_sizes_are_refused():
    for sizes in ({"depth": 0}, {"width": 0}, {"depth": 10**9}, {"width": 10**9}):
        with pytest.raises(UserError, match="MLP: depth must be 1 to 64 and width 1 to 16384"):
            MLP(**sizes)
    for octaves in (-1, 10**9):
        with pytest.raises(UserError, match="octaves must be 0 to 32"):
            MLP(position_octaves=octaves)
