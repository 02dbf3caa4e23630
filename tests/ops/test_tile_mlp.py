"""The networks in tiles, as tensor cores are given them, carried out on the CPU: equal to the
networks in float64 as far as half precision goes."""

import ctypes
from ctypes import POINTER, c_float, c_int32, c_int64, c_void_p
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.ops.harness import compiled

SHAPES = [
    {},
    {"width": 64, "n_encoded": 16, "n_directions": 9, "colour_layers": 1},
    {"width": 16, "n_geometry": 32, "n_encoded": 6, "n_directions": 1, "colour_layers": 3},
]


class Arguments(ctypes.Structure):
    _fields_ = [
        *((name, c_int64) for name in ["n_encoded", "width", "n_geometry", "n_directions"]),
        *((name, c_int64) for name in ["colour_layers", "n_samples", "n_blocks"]),
        *((name, POINTER(c_float)) for name in ["network", "encoded", "directions", "scales"]),
        ("rays", POINTER(c_int32)),
    ]


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return compiled("tiles", tmp_path_factory.mktemp("tiles"))


def pointer(tensor: Tensor, kind: Any = c_float) -> Any:
    assert tensor.is_contiguous()
    return ctypes.cast(c_void_p(tensor.data_ptr()), POINTER(kind))


class Networks:
    """Samples of a few rays, with what both sides need to know of them."""

    def __init__(
        self,
        n_samples: int = 150,
        n_encoded: int = 32,
        width: int = 32,
        n_geometry: int = 16,
        n_directions: int = 4,
        colour_layers: int = 2,
    ) -> None:
        torch.manual_seed(n_samples)
        n_inputs = n_geometry + n_directions
        sizes = [(width, n_encoded), (n_geometry, width), (width, n_inputs)]
        self.sizes = [*sizes, *[(width, width)] * (colour_layers - 1), (3, width)]
        self.network = torch.cat(
            [torch.randn(n, m).flatten() * (2 / m) ** 0.5 for n, m in self.sizes]
        )
        self.encoded = torch.randn(n_samples, n_encoded)
        self.directions = torch.randn(7, n_directions)
        self.rays = torch.randint(7, (n_samples,)).sort().values.int()
        self.rays[::9] = -1  # these belong to none
        self.scales = (torch.rand(n_samples) > 0.2).float()
        self.n_geometry = n_geometry
        floats = ("network", "encoded", "directions", "scales")
        self.arguments = Arguments(
            n_encoded,
            width,
            n_geometry,
            n_directions,
            colour_layers,
            n_samples,
            2,
            *(pointer(getattr(self, name)) for name in floats),
            pointer(self.rays, c_int32),
        )

    def reference(self, network: Tensor, encoded: Tensor, directions: Tensor):
        """Densities and colours in the dtype of the arguments."""
        parts = network.split([n * m for n, m in self.sizes])
        weights = [part.view(size) for part, size in zip(parts, self.sizes, strict=True)]
        geometry = F.linear(F.linear(encoded, weights[0]).relu(), weights[1])
        of_rays = torch.where(self.rays[:, None] < 0, 0.0, directions[self.rays.long()])
        told = torch.cat([geometry, of_rays], dim=1)
        for weight in weights[2:-1]:
            told = F.linear(told, weight).relu()
        colours = F.linear(told, weights[-1]).sigmoid()
        return self.scales * geometry[:, 0].exp(), colours


def close(found: Tensor, expected: Tensor) -> bool:
    """Half precision has 11 bits, some ReLUs open in one only, gradients of a ray cancel out."""
    return float((found - expected).norm() / expected.norm().clamp(min=1e-12)) < 3e-2


@pytest.mark.parametrize("n_samples", [0, 1, 64, 150])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_densities_and_colours(tiles: ctypes.CDLL, shape: dict[str, int], n_samples: int):
    given = Networks(n_samples, **shape)
    sigmas, rgbs = torch.full((n_samples,), torch.nan), torch.full((n_samples, 3), torch.nan)
    tiles.tile_forward(ctypes.byref(given.arguments), pointer(sigmas), pointer(rgbs))
    double = (t.double() for t in (given.network, given.encoded, given.directions))
    expected = given.reference(*double)
    assert close(sigmas, expected[0]) and close(rgbs, expected[1])


@pytest.mark.parametrize("size", [1.0, 1e-7], ids=["large", "small"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients(tiles: ctypes.CDLL, shape: dict[str, int], size: float):
    given = Networks(**shape)
    n = len(given.encoded)
    grads = size * torch.randn(n), size * torch.randn(n, 3)
    inputs = given.network, given.encoded, given.directions
    found = [torch.zeros_like(t) for t in inputs]
    of_network, of_encoded, of_directions = (pointer(t) for t in found)
    tiles.tile_backward.restype = c_int64
    n_weights = tiles.tile_backward(
        ctypes.byref(given.arguments),
        *(pointer(grad) for grad in grads),
        of_encoded,
        of_directions,
        of_network,
    )
    assert n_weights == len(given.network)
    double = [t.double().requires_grad_() for t in inputs]
    expected = torch.autograd.grad(
        given.reference(*double), double, [grad.double() for grad in grads]
    )
    for name, got, wanted in zip(
        ("network", "encoded", "directions"), found, expected, strict=True
    ):
        assert close(got, wanted), name


def test_the_widest_presets_fit_into_shared_memory(tiles: ctypes.CDLL):
    """99 KiB a block on GeForce cards; 48 KiB is what there is without asking."""
    tiles.tile_memory.restype = c_int64
    fast = Networks(width=32, colour_layers=1, n_directions=9).arguments
    dense = Networks(width=64, colour_layers=2, n_directions=16).arguments
    sizes = [tiles.tile_memory(ctypes.byref(a), b) for a in (fast, dense) for b in (False, True)]
    assert max(sizes) <= 99 * 1024, sizes
