"""Hash encoding: the contract of every op, the hash by hand, slopes, half tables, annealing."""

from typing import Any

import pytest
import torch
from torch import Tensor

from dietnerf.ops import hash_encode
from dietnerf.ops.hash_encode import reference
from tests.ops.contract import CHECKS, Op, gradients

# Two dense levels, both longer than they need to be; then two that are hashed.
LEVELS = torch.tensor([[2, 0, 32], [3, 32, 72], [5, 104, 128], [40, 232, 128]])
N_ENTRIES = 360


def make(counts: list[int], dtype: torch.dtype, n_features: int = 4) -> tuple[Tensor, ...]:
    return (
        torch.rand(N_ENTRIES, n_features, dtype=dtype) - 0.5,
        torch.rand(sum(counts), 3, dtype=dtype),
        LEVELS,
        torch.rand(len(LEVELS), dtype=dtype) + 0.5,
    )


DOUBLE = torch.float64
OP = Op(
    "hash_encode",
    hash_encode,
    reference,
    make,
    wrong=[
        (0, torch.rand(4), "table must be (n_entries, n_features), got 1 dims"),
        (0, torch.rand(8, 3).double(), "n_features must be 1, 2, 4 or 8, got 3"),
        (0, torch.rand(8, 4), f"table must be {DOUBLE} like positions, got torch.float32"),
        (0, torch.rand(8, 4).half(), f"table must be {DOUBLE} like positions, got torch.float16"),
        (1, torch.rand(9), "positions must be (n, 3), got 1 dims"),
        (1, torch.rand(9, 3).half(), "positions must be float32 or float64, got torch.float16"),
        (2, LEVELS.int(), "levels must be int64, got torch.int32"),
        (2, LEVELS[:, :2], "levels must be (n_levels, 3) with n_levels = 4, got (4, 2)"),
        (3, torch.rand(4, 1), "level_weights must be (n_levels,), got 2 dims"),
    ],
    has_offsets=False,
    has_atomics=True,
)  # fmt: skip


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Any, device: str) -> None:
    check(OP, device)


@pytest.mark.parametrize("n_features", [1, 2, 8])
def test_other_numbers_of_features(n_features: int, device: str) -> None:
    args = [a.to(device) for a in make([150], torch.float64, n_features)]
    args = [a.requires_grad_(a.is_floating_point()) for a in args]
    found, expected = hash_encode(*args), reference(*args)
    pairs = [(found, expected)]
    pairs += zip(gradients((found,), args), gradients((expected,), args), strict=True)
    for got, target in pairs:
        torch.testing.assert_close(got, target, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("encode", [hash_encode, reference], ids=["op", "reference"])
def test_a_vertex_gives_its_entry(encode: Any, device: str) -> None:
    resolution, n_entries = 16, 1024
    vertices = torch.randint(0, resolution + 1, (200, 3))
    table = torch.rand(2 * n_entries, 1)
    levels = torch.tensor([[resolution, 1024, n_entries]])
    uint32 = 2**32
    ids = [
        ((x ^ (y * 2654435761 % uint32) ^ (z * 805459861 % uint32)) & (n_entries - 1)) + 1024
        for x, y, z in vertices.tolist()
    ]
    # At the upper faces of the cube too: they belong to the last cell.
    positions = vertices / resolution
    args = [a.to(device) for a in (table, positions, levels, torch.ones(1))]
    assert torch.equal(encode(*args).cpu(), table[ids])


def test_a_linear_function_comes_out_with_its_slope(device: str) -> None:
    resolution = 7
    axis = torch.arange(resolution + 1, dtype=torch.float64) / resolution
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    slope = torch.tensor([2.0, -3.0, 0.5], dtype=torch.float64, device=device)
    table = (torch.stack([x, y, z], -1).reshape(-1, 3).to(device) @ slope)[:, None]
    positions = torch.rand(100, 3, dtype=torch.float64, device=device, requires_grad=True)
    levels = torch.tensor([[resolution, 0, len(table)]], device=device)
    features = hash_encode(table, positions, levels, torch.ones_like(slope[:1]))
    torch.testing.assert_close(features[:, 0], positions @ slope)
    (grad,) = torch.autograd.grad(features.sum(), positions)
    torch.testing.assert_close(grad, slope.expand(100, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_table_is_summed_in_float32(dtype: torch.dtype, device: str) -> None:
    table, positions, levels, level_weights = (a.to(device) for a in make([500], torch.float32))
    half = table.to(dtype).requires_grad_()
    full = half.detach().float().requires_grad_()
    rest = (positions.requires_grad_(), levels, level_weights)
    found, expected = hash_encode(half, *rest), hash_encode(full, *rest)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
    grads = [gradients((out,), (t, *rest)) for out, t in ((found, half), (expected, full))]
    assert grads[0][0].dtype == dtype
    # One rounding of the sum; 500 samples added in half precision would be off by far more. Where
    # sums of other order are rounded on the GPU, it may be by one unit more.
    torch.testing.assert_close(grads[0][0].float(), grads[1][0], rtol=0.01, atol=1e-3)
    torch.testing.assert_close(grads[0][1], grads[1][1], rtol=1e-5, atol=1e-5)


def test_autocast_leaves_a_half_table_alone(device: str) -> None:
    args = [a.to(device) for a in make([20], torch.float32)]
    half = args[0].half()
    expected = hash_encode(half, *args[1:])
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        assert torch.equal(hash_encode(half, *args[1:]), expected)


def test_a_table_that_is_a_slice_reads_the_same(device: str) -> None:
    # On a GPU it does not begin where whole entries can be loaded at once.
    table, *rest = (a.to(device) for a in make([500], torch.float32))
    larger = torch.cat([torch.zeros(1, device=device), table.flatten()])
    assert torch.equal(hash_encode(larger[1:].view_as(table), *rest), hash_encode(table, *rest))


def test_a_level_of_weight_zero_is_not_read(device: str) -> None:
    args = OP.inputs([100], device, torch.float32)
    table, positions, levels, _ = args
    changed = table.detach().clone()
    changed[232:] = 1000.0
    changed.requires_grad_()
    level_weights = torch.tensor([1.0, 0.3, 0.5, 0.0], device=device)
    features = hash_encode(changed, positions, levels, level_weights)
    assert torch.equal(features, hash_encode(table, positions, levels, level_weights))
    grads = torch.autograd.grad(features.sum(), (changed, positions))
    assert (grads[0][232:] == 0).all() and (grads[0][:232] != 0).any()
    expected = hash_encode(table, positions, levels, level_weights).sum()
    assert torch.equal(grads[1], torch.autograd.grad(expected, positions)[0])


def test_a_level_of_weight_zero_can_come_back(device: str) -> None:
    """Its weight has a gradient, although its entries have none."""
    table, positions, levels, _ = OP.inputs([100], device)
    level_weights = torch.zeros(4, dtype=torch.float64, device=device, requires_grad=True)
    pairs = [
        torch.autograd.grad(encode(table, positions, levels, level_weights).sum(), level_weights)
        for encode in (hash_encode, reference)
    ]
    torch.testing.assert_close(*pairs)


@pytest.mark.parametrize(
    "row",
    [[40, 232, 129], [40, 200, 128], [40, 232, 64 + 32], [0, 232, 128], [40, 232, 0]],
    ids=["too long", "overlapping", "no power of two", "no cells", "no entries"],
)
def test_levels_that_do_not_fit_are_refused(row: list[int]) -> None:
    table, positions, levels, level_weights = make([5], torch.float32)
    levels = torch.cat([levels[:3], torch.tensor([row])])
    for encode in (hash_encode, reference):
        with pytest.raises((RuntimeError, ValueError), match="levels must be slices of the table"):
            encode(table, positions, levels, level_weights)


@pytest.mark.parametrize("output_mask", range(8))
def test_only_gradients_in_the_mask_are_computed(output_mask: int, device: str) -> None:
    table, *rest = (a.to(device) for a in make([9], torch.float32))
    args = (output_mask, torch.rand(9, 16, device=device), table.half(), *rest)
    found = torch.ops.dietnerf.hash_encode_backward(*args)
    # As its fake has it, which compiled graphs rely on.
    for bit, (grad, value) in enumerate(zip(found, (args[2], args[3], args[5]), strict=True)):
        is_set = output_mask >> bit & 1
        assert grad.shape == (value.shape if is_set else (0,))
        assert grad.dtype == (value.dtype if is_set else torch.float16)


def test_a_second_derivative_is_an_error(device: str) -> None:
    table, *rest = OP.inputs([5], device)
    (grad,) = torch.autograd.grad(hash_encode(table, *rest).sum(), table, create_graph=True)
    with pytest.raises(RuntimeError, match="hash_encode_backward"):
        grad.sum().backward()
