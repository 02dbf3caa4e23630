"""The fused op: equal to the composition of the others in values and gradients, and it says what is
wrong."""

import re
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from dietnerf.fields.hash_grid import level_rows
from dietnerf.ops import HashGridArgs, render_hash_grid
from dietnerf.ops.render_hash_grid import reference
from tests.conftest import needs_cuda
from tests.helpers import inward_rays
from tests.ops.contract import COUNTS, offsets

SHAPES: list[dict[str, Any]] = [
    {},
    {"width": 64, "color_layers": 1, "n_levels": 3, "n_features": 2, "n_directions": 9},
    {"width": 16, "n_geometry": 32, "color_layers": 3, "n_features": 1, "n_directions": 1},
    {"n_features": 8, "n_levels": 4, "is_unbounded": True},
]


def make(
    counts: list[int],
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    width: int = 32,
    n_geometry: int = 16,
    color_layers: int = 2,
    n_levels: int = 4,
    n_features: int = 4,
    n_directions: int = 4,
    is_unbounded: bool = False,
    early_stop: float = 1e-4,
) -> dict[str, Any]:
    """Arguments with samples from before to behind the box, dense enough that many are culled."""
    n_rays, n_samples, n_encoded = len(counts), sum(counts), n_levels * n_features
    levels = level_rows(n_levels, 10, 4, 64)
    n_weights = width * n_encoded + n_geometry * width + width * (n_geometry + n_directions)
    n_weights += (color_layers - 1) * width**2 + 3 * width
    rays = inward_rays(n_rays)
    ts = [torch.linspace(2.2, 5.8, n) + 0.01 * torch.rand(1) for n in counts]
    floats = {
        "table": torch.randn(int(levels[:, 2].sum()), n_features),
        "level_weights": torch.linspace(1, 0.2, n_levels),
        "network": torch.randn(n_weights) * (2 / width) ** 0.5,
        "directions": torch.randn(n_rays, n_directions),
        "rays_o": rays.rays_o,
        "rays_d": rays.rays_d,
        "ts": torch.cat([*ts, torch.empty(0)]),
        "deltas": 0.5 * torch.rand(n_samples),
        "aabb": torch.tensor([[-1.5, -1.4, -1.3], [1.5, 1.4, 1.6]]),
    }
    found = {name: value.to(device, dtype) for name, value in floats.items()}
    for name in ("table", "network", "directions"):
        found[name].requires_grad_()
    found |= {"levels": levels.to(device), "ray_offsets": offsets(counts).to(device)}
    found |= {"width": width, "n_geometry": n_geometry, "color_layers": color_layers}
    return found | {"is_unbounded": is_unbounded, "early_stop": early_stop}


INPUTS = ("table", "network", "directions")
SAMPLES = ("ts", "deltas", "ray_offsets")


def arguments(args: dict[str, Any]) -> tuple[Any, ...]:
    """Of the op and its reference, for those of `make`."""
    field = HashGridArgs(**{name: args[name] for name in HashGridArgs._fields})
    return field, *(args[name] for name in SAMPLES)


def render(args: dict[str, Any]) -> tuple[Tensor, ...]:
    return render_hash_grid(*arguments(args))


def raw(args: dict[str, Any]) -> tuple[Any, ...]:
    """Of torch.ops.dietnerf.render_hash_grid, but for the last."""
    field, *samples = arguments(args)
    return *field, *samples


def gradients(outputs: tuple[Tensor, ...], args: dict[str, Any]) -> tuple[Tensor, ...]:
    """Of a random combination of all outputs, the same one for every dtype."""
    draw = torch.Generator().manual_seed(2)
    grads = [torch.rand(o.shape, generator=draw).to(o) for o in outputs]
    return torch.autograd.grad(outputs, [args[name] for name in INPUTS], grads)


def composed(args: dict[str, Any]) -> tuple[Tensor, ...]:
    return reference(*arguments(args), saves_samples=False)[:4]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
def test_equals_the_composition(counts: list[int], shape: dict[str, Any], device: str) -> None:
    args = make(counts, device, **shape)
    equals_the_composition(render(args), args, is_half=device != "cpu")


def equals_the_composition(
    found: tuple[Tensor, ...], args: dict[str, Any], is_half: bool = False
) -> None:
    """Outputs of the op, or of what stands for it, and their gradients."""
    double = {
        name: value.detach().double().requires_grad_(value.requires_grad)
        if isinstance(value, Tensor) and value.is_floating_point()
        else value
        for name, value in args.items()
    }
    expected = composed(double)
    # float32 positions are off by 1e-7, times 64 cells, times weights of size one; a sample whose
    # transmittance is all but 1e-4 may fall on either side. On a GPU the networks are in half
    # precision; tests/ops/test_tile_mlp.py holds the same code to the same tolerances.
    for got, target in zip(found, expected, strict=True):
        close = {"rtol": 3e-2, "atol": 1e-2} if is_half else {"rtol": 1e-3, "atol": 2e-4}
        torch.testing.assert_close(got.double(), target, **close)
    if len(args["ts"]) == 0:
        return
    for got, target in zip(gradients(found, args), gradients(expected, double), strict=True):
        # A ReLU may open in one and not in the other: few elements differ, by little.
        error = (got - target).norm() / target.norm().clamp(min=1e-12)
        assert error < (5e-2 if is_half else 5e-3)


def test_samples_of_no_ray_count_for_nothing(device: str) -> None:
    args = make([3, 0, 70, 5], device)
    spare = {name: torch.cat([args[name], args[name][:20]]) for name in ("ts", "deltas")}
    expected = render(args)
    target_gradients = gradients(expected, args)
    for call in (render, composed):
        found = call(args | spare)
        assert (found[0][78:] == 0).all()
        weighted = (found[0][:78], *found[1:])
        close = {"rtol": 3e-2, "atol": 1e-2} if device != "cpu" else {"rtol": 1e-3, "atol": 2e-4}
        for got, target in zip(weighted, expected, strict=True):
            torch.testing.assert_close(got, target, **close)
        for got, target in zip(gradients(weighted, args), target_gradients, strict=True):
            assert (got - target).norm() < (5e-2 if device != "cpu" else 5e-3) * target.norm()


def test_culled_samples_have_no_weight_and_no_gradient() -> None:
    args = make([200] * 40)
    args["deltas"] = args["deltas"] * 20
    weights, _, opacity, _ = render(args)
    assert (weights == 0).float().mean() > 0.3
    assert (opacity <= 1 + 1e-5).all()


def test_the_end_does_not_depend_on_the_threads() -> None:
    args = make([64] * 500)
    threads, runs = torch.get_num_threads(), []
    try:
        for n_threads in (threads, threads, 1, 2):
            torch.set_num_threads(n_threads)
            found = render(args)
            runs.append([*found, *gradients(found, args)])
    finally:
        torch.set_num_threads(threads)
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], run, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_tables_of_half_precision(dtype: torch.dtype) -> None:
    args = make(COUNTS["ragged"])
    rounded = args["table"].detach().to(dtype)
    half = render(args | {"table": rounded.requires_grad_()})
    full = render(args | {"table": rounded.detach().float().requires_grad_()})
    for got, target in zip(half, full, strict=True):
        assert torch.equal(got, target), "sums are float32 in both"
    (grad,) = torch.autograd.grad(half[1].sum(), [rounded])
    assert grad.dtype == dtype and grad.abs().sum() > 0


def test_opcheck(device: str) -> None:
    args = make([3, 0, 1, 5], device)
    torch.library.opcheck(torch.ops.dietnerf.render_hash_grid.default, (*raw(args), True))


def test_compiles_without_graph_breaks() -> None:
    args = make([3, 0, 1, 5])
    compiled = torch.compile(render_hash_grid, fullgraph=True, backend="aot_eager")
    for got, target in zip(compiled(*arguments(args)), render(args), strict=True):
        assert torch.equal(got, target)


def test_without_gradients_nothing_is_kept() -> None:
    args = make([8] * 4)
    with torch.no_grad():
        outputs = torch.ops.dietnerf.render_hash_grid(*raw(args), False)
    assert outputs[5].numel() == outputs[6].numel() == 0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ts", torch.rand(9, 1), "ts must be (n_samples,), got 2 dims"),
        ("rays_d", torch.rand(4, 2), "rays_d must be (n_rays, 3) with n_rays = 4, got (4, 2)"),
        ("aabb", torch.rand(6), "aabb must be (2, 3), got 1 dims"),
    ],
)
def test_names_what_is_wrong(name: str, value: Tensor, message: str) -> None:
    args = make([3, 0, 1, 5])
    with pytest.raises(ValueError, match=re.escape(f"render_hash_grid: {message}")):
        render(args | {name: value})


def test_counts_the_weights_of_the_networks() -> None:
    args = make([3, 0, 1, 5])
    with pytest.raises(RuntimeError, match="network must hold"):
        render(args | {"network": torch.rand(10)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda args: args["table"].double(), "table must be float32, float16 or bfloat16"),
        (lambda args: args["table"][:, :3], "n_features must be 1, 2, 4 or 8, got 3"),
        (lambda args: args["table"][:100], "levels must be slices of the table"),
    ],
)
def test_refuses_tables_that_it_cannot_read(change: Any, message: str) -> None:
    args = make([3, 0, 1, 5])
    with pytest.raises((RuntimeError, ValueError), match=message):
        render(args | {"table": change(args)})


def test_gradient_that_there_is_not_is_refused_by_name():
    args = make([3])
    args["ts"].requires_grad_()
    with pytest.raises(NotImplementedError, match="render_hash_grid has no gradient in ts: detach"):
        render(args)[1].sum().backward()


def test_a_broken_table_is_seen(device: str) -> None:
    """In what the loss is made of and in the gradients, which is where the guard looks."""
    args = make([40] * 20, device)
    with torch.no_grad():
        args["table"][::3] = torch.nan
    found = render(args)
    assert found[1].isnan().any()
    assert gradients(found, args)[1].isnan().any()


BEYOND = """
import torch
from dietnerf.ops import composite
ones, ray_offsets = torch.ones(3, device="cuda"), torch.tensor([0, 70], device="cuda")
try:
    composite(ones, torch.ones(3, 3, device="cuda"), ones, ones, ray_offsets)
    torch.cuda.synchronize()
except RuntimeError as error:
    raise SystemExit("device-side assert" not in str(error))
raise SystemExit(1)
"""


@needs_cuda
def test_offsets_beyond_the_samples_are_noticed_on_cuda() -> None:
    """In a process of its own, which cannot use the GPU afterwards."""
    subprocess.run([sys.executable, "-c", BEYOND], check=True, capture_output=True)
