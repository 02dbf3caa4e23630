"""Tracing: the kernel, carried out on the CPU, shows what marching and rendering show, and so does
the op, wherever it runs; pictures are made by it where it is there."""

import ctypes
from ctypes import POINTER, c_double, c_float, c_int64, c_uint8
from typing import Any

import pytest
import torch
from torch import Tensor

from dietnerf.data import Procedural
from dietnerf.fields import HashGrid
from dietnerf.fields.hash_grid import level_rows
from dietnerf.ops import HashGridArgs, OccupancyGrid, trace_hash_grid
from dietnerf.ops.trace_hash_grid import reference
from dietnerf.renderer import inference_autocast, render_image
from dietnerf.sampling import Occupancy
from tests.helpers import inward_rays
from tests.ops.harness import compiled
from tests.ops.test_march_rays import random_bits
from tests.ops.test_tile_mlp import close, pointer

INTEGERS = (
    *("width", "n_geometry", "n_directions", "color_layers", "n_rays", "n_blocks", "n_entries"),
    *("n_features", "n_levels", "resolution", "n_grids"),
)
FLOATS = (
    *("table", "level_weights", "network", "directions", "rays_o", "rays_d", "near", "far"),
    *("aabb", "grid_aabb"),
)
KINDS: dict[str, dict[str, Any]] = {
    "one box": {},
    "wide": {"width": 64, "n_features": 2, "n_levels": 3, "n_directions": 9},
    "narrow": {"width": 16, "n_geometry": 32, "n_features": 1, "color_layers": 3},
    "one color layer": {"color_layers": 1, "n_features": 8, "n_directions": 1},
    "unbounded": {"is_unbounded": True, "n_grids": 3, "cone_angle": 0.02},
    "nested": {"n_grids": 2},
    "opaque": {"density": 200.0},
    "empty": {"fraction": 0.0},
}


class Arguments(ctypes.Structure):
    _fields_ = [
        *((name, c_int64) for name in INTEGERS),
        *((name, c_double) for name in ("step", "cone_angle", "early_stop")),
        ("is_unbounded", c_int64),
        *((name, POINTER(c_float)) for name in FLOATS),
        ("levels", POINTER(c_int64)),
        ("occupied", POINTER(c_uint8)),
    ]


def make(
    n_rays: int = 200,
    width: int = 32,
    n_geometry: int = 16,
    color_layers: int = 2,
    n_levels: int = 4,
    n_features: int = 4,
    n_directions: int = 4,
    n_grids: int = 1,
    cone_angle: float = 0.0,
    is_unbounded: bool = False,
    fraction: float = 0.3,
    density: float = 1.0,
) -> dict[str, Any]:
    """Arguments of the op: rays inwards and a few past everything, in a grid of blobs."""
    torch.manual_seed(n_rays + width)
    levels = level_rows(n_levels, 10, 4, 64)
    sizes = [(width, n_levels * n_features), (n_geometry, width)]
    sizes += [(width, n_geometry + n_directions), *[(width, width)] * (color_layers - 1)]
    layers = [torch.randn(n, m) * (2 / m) ** 0.5 for n, m in [*sizes, (3, width)]]
    layers[1][0] *= density**0.5
    rays = inward_rays(n_rays)
    rays.rays_d[::9] *= -1
    box = torch.tensor([[-1.5, -1.4, -1.3], [1.5, 1.4, 1.6]])
    return {
        "table": torch.randn(int(levels[:, 2].sum()), n_features),
        "levels": levels,
        "level_weights": torch.linspace(1, 0.2, n_levels),
        "network": torch.cat([layer.flatten() for layer in layers]),
        "directions": torch.randn(n_rays, n_directions),
        "rays_o": rays.rays_o,
        "rays_d": rays.rays_d,
        "near": rays.near,
        "far": rays.far,
        "aabb": box,
        "grid_aabb": box * 0.9,
        "occupied": random_bits(16, n_grids, fraction)
        if fraction
        else torch.zeros(n_grids, 512).byte(),
        "resolution": 16,
        "step": 0.05,
        "cone_angle": cone_angle,
        "width": width,
        "n_geometry": n_geometry,
        "color_layers": color_layers,
        "is_unbounded": is_unbounded,
        "early_stop": 1e-4,
    }


def arguments(args: dict[str, Any]) -> tuple[HashGridArgs, Tensor, Tensor, OccupancyGrid]:
    """Of the op and its reference, for those of `make`."""
    field = HashGridArgs(**{name: args[name] for name in HashGridArgs._fields})
    grid = {name: args[name] for name in OccupancyGrid._fields}
    return field, args["near"], args["far"], OccupancyGrid(**grid | {"aabb": args["grid_aabb"]})


def in_double(args: dict[str, Any]) -> tuple[Tensor, ...]:
    wide = {
        name: value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in args.items()
    }
    return reference(*arguments(wide))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return compiled("trace", tmp_path_factory.mktemp("trace"))


def traced(library: ctypes.CDLL, args: dict[str, Any], n_blocks: int) -> tuple[Tensor, ...]:
    n_rays, n_directions = args["directions"].shape
    n_entries, n_features = args["table"].shape
    sizes = {
        "n_rays": n_rays, "n_directions": n_directions, "n_entries": n_entries,
        "n_features": n_features, "n_levels": len(args["levels"]),
        "n_grids": len(args["occupied"]), "n_blocks": n_blocks,
    }  # fmt: skip
    given = Arguments()
    for name, kind in Arguments._fields_:
        value = sizes.get(name, args.get(name))
        if isinstance(value, Tensor):
            value = pointer(value, kind._type_)
        setattr(given, name, value)
    found = (torch.full((n_rays, 3), torch.nan), *torch.full((2, n_rays), torch.nan))
    library.trace(ctypes.byref(given), *(pointer(tensor) for tensor in found))
    return found


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(("n_rays", "n_blocks"), [(200, 1), (200, 3), (10, 2), (0, 1)])
def test_the_kernel_shows_what_marching_and_rendering_show(
    library: ctypes.CDLL, kind: dict[str, Any], n_rays: int, n_blocks: int
):
    args = make(n_rays, **kind)
    found, expected = traced(library, args, n_blocks), in_double(args)
    assert not any(value.isnan().any() for value in found)
    for got, target in zip(found, expected, strict=True):
        assert close(got, target)
    if n_rays == 200 and kind != KINDS["empty"]:
        assert 0.1 < (found[1] > 0.1).float().mean() < 0.95  # some see something


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_op_shows_the_same(kind: dict[str, Any], device: str):
    args = make(**kind)
    there = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in args.items()}
    for got, target in zip(trace_hash_grid(*arguments(there)), in_double(args), strict=True):
        assert close(got.cpu(), target)


def test_opcheck(device: str):
    args = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in make(20).items()}
    field, near, far, grid = arguments(args)
    torch.library.opcheck(torch.ops.dietnerf.trace_hash_grid.default, (*field, near, far, *grid))


def test_says_what_is_wrong():
    args = make(20)
    with pytest.raises(ValueError, match=r"trace_hash_grid: near must be \(n_rays,\) with"):
        trace_hash_grid(*arguments(args | {"near": torch.ones(3)}))
    with pytest.raises(ValueError, match="trace_hash_grid: occupied must be"):
        trace_hash_grid(*arguments(args | {"occupied": torch.zeros(1, 9).byte()}))


@pytest.mark.parametrize("options", [{}, {"n_levels": 2, "cone_angle": 0.01}], ids=str)
def test_pictures_are_made_by_it(
    options: dict[str, Any], device: str, monkeypatch: pytest.MonkeyPatch
):
    scene = Procedural(resolution=24, n_test=2).read("test")
    field, sampler = HashGrid(log2_table_size=11, n_levels=4), Occupancy(resolution=32, **options)
    field.prepare(scene.cameras)
    sampler.prepare(scene.cameras, field)
    torch.nn.init.normal_(field.table, std=0.5)
    generator = torch.Generator().manual_seed(0)
    for step in range(32):
        sampler.update(step, field, generator)
    expected = render_image(scene.cameras, 1, field, sampler, torch.ones(3))
    n_traced = []

    def counting(rays, grid):
        n_traced.append(len(rays))
        return HashGrid.trace(field, rays, grid)

    monkeypatch.setattr(field, "trace", counting)
    if device == "cpu":
        monkeypatch.setattr(field, "can_trace", lambda device: True)
    field, sampler = field.to(device), sampler.to(device)
    with inference_autocast(torch.device(device)):
        found = render_image(scene.cameras, 1, field, sampler, torch.ones(3, device=device))
    assert n_traced == [24 * 24]
    for name in ("rgb", "opacity", "depth"):
        got, target = getattr(found, name).cpu(), getattr(expected, name)
        assert close(got, target, within=1e-3 if device == "cpu" else 3e-2)
    assert 0.05 < found.opacity.mean() < 0.95
