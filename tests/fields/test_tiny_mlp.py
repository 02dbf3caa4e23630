"""The networks behind a grid: what a bounded layer may stretch, and that bounding changes nothing
at first."""

import pytest
import torch

from dietnerf.errors import UserError
from dietnerf.fields.tiny_mlp import BoundedLinear, apply_network, check_networks, make_network


def test_a_bounded_layer_starts_as_it_was_drawn():
    layer = BoundedLinear(8, 4)
    torch.testing.assert_close(layer.weight, layer.raw_weight)


def test_it_stretches_no_more_than_its_bound():
    layer = BoundedLinear(8, 4)
    layer.raw_bound.data.fill_(-2.0)
    a, b = torch.randn(2, 50, 8)
    moved = (layer(a) - layer(b)).abs().amax(dim=1)
    assert (moved <= layer.bound * (a - b).abs().amax(dim=1) * (1 + 1e-5)).all()
    assert layer.weight.abs().sum(dim=1).max() <= layer.bound * (1 + 1e-5)


@pytest.mark.parametrize("is_bounded", [False, True])
def test_a_network_is_its_layers_with_relu_between(is_bounded: bool):
    layers = make_network([5, 16, 3], is_bounded)
    x = torch.randn(7, 5)
    expected = (x @ layers[0].weight.T).relu() @ layers[1].weight.T
    torch.testing.assert_close(apply_network(layers, x), expected)


def test_sizes_that_no_kernel_takes_are_refused():
    with pytest.raises(UserError, match="TriPlanes: width must be a multiple of 16"):
        check_networks("TriPlanes", 20, 15, 1)
