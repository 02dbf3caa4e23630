"""The networks behind a grid."""

import pytest
import torch

from dietnerf.errors import UserError
from dietnerf.fields.tiny_mlp import apply_network, check_networks, make_network


def test_a_network_is_its_layers_with_relu_between():
    layers = make_network([5, 16, 3])
    x = torch.randn(7, 5)
    expected = (x @ layers[0].weight.T).relu() @ layers[1].weight.T
    torch.testing.assert_close(apply_network(layers, x), expected)


def test_sizes_that_no_kernel_takes_are_refused():
    with pytest.raises(UserError, match="TriPlanes: width must be a multiple of 16"):
        check_networks("TriPlanes", 20, 15, 1)
