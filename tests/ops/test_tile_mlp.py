"""The networks in tiles, as tensor cores are given them, carried out on the CPU: equal to the
networks in float64 as far as half precision goes."""

import ctypes
from ctypes import POINTER, c_float, c_int32, c_int64, c_void_p
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.ops import composite, hash_encode
from dietnerf.ops._hash_grid import unit_cube
from dietnerf.ops._tiles import shared_memory
from tests.ops import test_render_hash_grid
from tests.ops.contract import COUNTS
from tests.ops.harness import compiled

SHAPES = [
    {},
    {"width": 64, "n_encoded": 16, "n_directions": 9, "color_layers": 1},
    {"width": 16, "n_geometry": 32, "n_encoded": 6, "n_directions": 1, "color_layers": 3},
]


INPUTS = ("network", "encoded", "directions")


class Arguments(ctypes.Structure):
    _fields_ = [
        *((name, c_int64) for name in ["n_encoded", "width", "n_geometry", "n_directions"]),
        *((name, c_int64) for name in ["color_layers", "n_samples", "n_blocks"]),
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
        color_layers: int = 2,
        size: float = 1.0,
    ) -> None:
        """Weights that keep the size of what goes through them, times `size`."""
        torch.manual_seed(n_samples)
        n_inputs = n_geometry + n_directions
        sizes = [(width, n_encoded), (n_geometry, width), (width, n_inputs)]
        self.sizes = [*sizes, *[(width, width)] * (color_layers - 1), (3, width)]
        self.network = torch.cat(
            [size * torch.randn(n, m).flatten() * (2 / m) ** 0.5 for n, m in self.sizes]
        )
        self.encoded = torch.randn(n_samples, n_encoded)
        self.directions = torch.randn(7, n_directions)
        self.rays = torch.randint(7, (n_samples,)).sort().values.int()
        self.rays[::9] = -1  # these belong to none
        self.scales = (torch.rand(n_samples) > 0.2).float()
        self.n_geometry = n_geometry
        shape = (n_encoded, width, n_geometry, n_directions, color_layers)
        self.arguments = Arguments(*shape, n_samples, 2)
        self.set()

    def set(self, **values: Tensor) -> None:
        """Take these values instead of random ones."""
        vars(self).update({name: value.detach().contiguous() for name, value in values.items()})
        for name, kind in Arguments._fields_[-5:]:
            setattr(self.arguments, name, pointer(getattr(self, name), kind._type_))

    def reference(self, network: Tensor, encoded: Tensor, directions: Tensor):
        """Densities and colors in the dtype of the arguments."""
        parts = network.split([n * m for n, m in self.sizes])
        weights = [part.view(size) for part, size in zip(parts, self.sizes, strict=True)]
        geometry = F.linear(F.linear(encoded, weights[0]).relu(), weights[1])
        of_rays = torch.where(self.rays[:, None] < 0, 0.0, directions[self.rays.long()])
        inputs = torch.cat([geometry, of_rays], dim=1)
        for weight in weights[2:-1]:
            inputs = F.linear(inputs, weight).relu()
        colors = F.linear(inputs, weights[-1]).sigmoid()
        return self.scales * geometry[:, 0].exp(), colors

    def gradients(self, grads: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        """Of INPUTS, in float64."""
        double = [getattr(self, name).double().requires_grad_() for name in INPUTS]
        return torch.autograd.grad(self.reference(*double), double, [g.double() for g in grads])


def forward(tiles: ctypes.CDLL, given: Networks) -> tuple[Tensor, Tensor]:
    """Densities and colors of the tiles."""
    n = len(given.encoded)
    sigmas, rgbs = torch.full((n,), torch.nan), torch.full((n, 3), torch.nan)
    tiles.tile_forward(ctypes.byref(given.arguments), pointer(sigmas), pointer(rgbs))
    return sigmas, rgbs


def backward(tiles: ctypes.CDLL, given: Networks, grads: tuple[Tensor, Tensor]) -> list[Tensor]:
    """The tiles' gradients of INPUTS."""
    found = [torch.zeros_like(getattr(given, name)) for name in INPUTS]
    of_network, *of_inputs = (pointer(t) for t in found)
    tiles.tile_backward.restype = c_int64
    arguments = ctypes.byref(given.arguments)
    n_weights = tiles.tile_backward(arguments, *map(pointer, grads), *of_inputs, of_network)
    assert n_weights == len(given.network)
    return found


class TileNetworks(torch.autograd.Function):
    """Densities and colors of the tiles, differentiable in INPUTS."""

    @staticmethod
    def forward(ctx: Any, tiles: ctypes.CDLL, given: Networks, *_: Tensor) -> tuple[Tensor, Tensor]:
        ctx.tiles, ctx.given = tiles, given
        return forward(tiles, given)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return None, None, *backward(ctx.tiles, ctx.given, tuple(g.contiguous() for g in grads))


def rendered(tiles: ctypes.CDLL, args: dict[str, Any]) -> tuple[Tensor, ...]:
    """What render_hash_grid does on a GPU, whose arguments are given."""
    rays_d, ray_offsets = args["rays_d"], args["ray_offsets"]
    rays = torch.arange(len(rays_d)).repeat_interleave(ray_offsets.diff())
    positions = args["rays_o"][rays] + args["ts"][:, None] * rays_d[rays]
    unit, is_outside = unit_cube(positions, args["aabb"], args["is_unbounded"])
    encoded = hash_encode(args["table"], unit, args["levels"], args["level_weights"])
    given = Networks(
        len(encoded),
        encoded.shape[1],
        *(args[name] for name in ("width", "n_geometry")),
        args["directions"].shape[1],
        args["color_layers"],
    )
    density_scale = (2 / args["aabb"].diff(dim=0)).amin()
    given.set(
        network=args["network"],
        encoded=encoded,
        directions=args["directions"],
        rays=rays.int(),
        scales=torch.where(is_outside, 0.0, density_scale),
    )
    inputs = args["network"], encoded, args["directions"]
    sigmas, rgbs = TileNetworks.apply(tiles, given, *inputs)
    lengths = args["deltas"] * rays_d.norm(dim=1)[rays]
    return composite(sigmas, rgbs, lengths, args["ts"], ray_offsets, args["early_stop"])


def close(found: Tensor, expected: Tensor, within: float = 3e-2) -> bool:
    """Half precision has 11 bits, some ReLUs open in one only, gradients of a ray cancel out."""
    return float((found - expected).norm() / expected.norm().clamp(min=1e-12)) < within


@pytest.mark.parametrize("n_samples", [0, 1, 64, 150])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_densities_and_colors(tiles: ctypes.CDLL, shape: dict[str, int], n_samples: int):
    given = Networks(n_samples, **shape)
    sigmas, rgbs = forward(tiles, given)
    double = (t.double() for t in (given.network, given.encoded, given.directions))
    expected = given.reference(*double)
    assert close(sigmas, expected[0]) and close(rgbs, expected[1])


@pytest.mark.parametrize("size", [1.0, 1e-7], ids=["large", "small"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients(tiles: ctypes.CDLL, shape: dict[str, int], size: float):
    given = Networks(**shape)
    n = len(given.encoded)
    grads = size * torch.randn(n), size * torch.randn(n, 3)
    found, expected = backward(tiles, given, grads), given.gradients(grads)
    for name, got, target in zip(INPUTS, found, expected, strict=True):
        assert close(got, target), name


@pytest.mark.parametrize("shape", SHAPES[:2], ids=str)
def test_weights_eight_times_as_large(tiles: ctypes.CDLL, shape: dict[str, int]):
    """Each layer makes what comes back eight times as large: where that begins high, half precision
    has no room for it. Inputs are so small that colors are neither black nor white, and so are
    rounded to fewer bits."""
    given = Networks(**shape, size=8.0)
    given.encoded *= 8.0 ** -(len(given.sizes) - 1)
    given.directions *= 8.0 ** (3 - len(given.sizes))
    n = len(given.encoded)
    grads = torch.randn(n), torch.randn(n, 3)
    found, expected = backward(tiles, given, grads), given.gradients(grads)
    for name, got, target in zip(INPUTS, found, expected, strict=True):
        assert close(got, target, within=0.1), name


def test_weights_so_large_that_sums_leave_half_precision(tiles: ctypes.CDLL):
    given = Networks(size=64.0)
    n = len(given.encoded)
    sigmas, rgbs = forward(tiles, given)
    assert sigmas.isfinite().all() and rgbs.isfinite().all()
    assert all(g.isfinite().all() for g in backward(tiles, given, (sigmas, torch.randn(n, 3))))


@pytest.mark.parametrize("broken", [torch.nan, torch.inf], ids=str)
def test_what_is_not_finite_stays_so(tiles: ctypes.CDLL, broken: float):
    """The guard must hear of it: a ReLU that takes it for nothing would hide a broken table."""
    given = Networks()
    given.encoded[100] = broken
    n = len(given.encoded)
    sigmas, rgbs = forward(tiles, given)
    is_sound = torch.arange(n) != 100
    assert sigmas[is_sound].isfinite().all() and rgbs[is_sound].isfinite().all()
    assert not rgbs[100].isfinite().all()
    grads = torch.randn(n), torch.randn(n, 3)
    assert not backward(tiles, given, grads)[0].isfinite().all()


@pytest.mark.parametrize("shape", [*SHAPES, {"width": 64, "n_encoded": 128}], ids=str)
def test_python_knows_how_much_memory_a_block_takes(tiles: ctypes.CDLL, shape: dict[str, int]):
    arguments = Networks(1, **shape).arguments
    tiles.tile_memory.restype = c_int64
    sizes = ("n_encoded", "width", "n_geometry", "n_directions", "color_layers")
    found = shared_memory(*(getattr(arguments, name) for name in sizes))
    assert found == tiles.tile_memory(ctypes.byref(arguments), True)
    assert found >= tiles.tile_memory(ctypes.byref(arguments), False)


@pytest.mark.parametrize("shape", test_render_hash_grid.SHAPES, ids=str)
@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
def test_the_fused_op_in_half_precision_equals_the_composition(
    tiles: ctypes.CDLL, counts: list[int], shape: dict[str, Any]
):
    args = test_render_hash_grid.make(counts, **shape)
    test_render_hash_grid.equals_the_composition(rendered(tiles, args), args, is_half=True)


def test_the_widest_presets_fit_into_shared_memory(tiles: ctypes.CDLL):
    """99 KiB a block on GeForce cards; 48 KiB is what there is without asking."""
    tiles.tile_memory.restype = c_int64
    fast = Networks(width=32, color_layers=1, n_directions=9).arguments
    dense = Networks(width=64, color_layers=2, n_directions=16).arguments
    sizes = [tiles.tile_memory(ctypes.byref(a), b) for a in (fast, dense) for b in (False, True)]
    assert max(sizes) <= 99 * 1024, sizes
