"""Compositing Gaussians: the contract of every op, closed forms, order, culling, what does not
count, and the by-products for densification."""

import ctypes
import itertools
import math
from ctypes import c_int64, c_void_p
from typing import Any

import pytest
import torch
from torch import Tensor

from dietnerf.ops import rasterize_gaussians
from dietnerf.ops.rasterize_gaussians import MIN_ALPHA, MIN_TRANS, reference
from tests.ops.contract import CHECKS, Op, gradients
from tests.ops.harness import compiled

WIDTH, HEIGHT = 19, 4  # gradcheck differentiates every pixel


def make(
    counts: list[int], dtype: torch.dtype, width: int = WIDTH, height: int = HEIGHT
) -> tuple[Any, ...]:
    """Gaussians of all sizes, the smaller the more there are."""
    n = sum(counts)
    size = torch.tensor([width, height], dtype=torch.float64)
    centers = torch.rand(n, 2, dtype=torch.float64) * (size + 10) - 5
    conics = random_conics(n, 12 / (1 + n / 50) ** 0.5)
    rest = (torch.rand(n) * 5 + 1, torch.ones(n), torch.rand(n), torch.rand(n, 3))
    return (*(v.to(dtype) for v in (centers, conics, *rest)), width, height)


def random_conics(n: int, largest: float) -> Tensor:
    """Of ellipses at all angles, from half a pixel on, (n, 3)."""
    angles = torch.rand(n, dtype=torch.float64) * math.pi
    turns = torch.stack([angles.cos(), angles.sin(), -angles.sin(), angles.cos()], dim=1)
    turns = turns.view(n, 2, 2)
    sigmas = 0.5 + torch.rand(n, 2, dtype=torch.float64) ** 2 * largest
    matrices = turns @ torch.diag_embed(sigmas**-2) @ turns.transpose(1, 2)
    return torch.stack([matrices[:, 0, 0], matrices[:, 0, 1], matrices[:, 1, 1]], dim=1)


def of_reference(*args: Any) -> tuple[Tensor, ...]:
    return reference(*args)[:5]


OP = Op(
    "rasterize_gaussians",
    rasterize_gaussians,
    of_reference,
    make,
    wrong=[
        (0, torch.rand(9, 3), "centers must be (n, 2) with n = 9, got (9, 3)"),
        (1, torch.rand(9, 4), "conics must be (n, 3) with n = 9, got (9, 4)"),
        (2, torch.rand(8), "depths must be (n,) with n = 9, got (8,)"),
        (4, torch.rand(9, 1), "opacities must be (n,), got 2 dims"),
        (5, torch.rand(9, 3), "colors must be torch.float64 like centers, got torch.float32"),
        (6, 0, "width and height must be from 1 to 16384, got 0 and 4"),
    ],
    raw=lambda *args: (*args, None),
    atol=1e-4,
    has_offsets=False,
    constants=(3,),
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Any, device: str) -> None:
    check(OP, device)


def test_opcheck_with_absgrad(device: str) -> None:
    args = OP.inputs([3, 0, 1, 5], device)
    absgrad = torch.zeros(9, 2, dtype=torch.float64, device=device)
    torch.library.opcheck(OP.overload, (*args, absgrad))


def by_loops(args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """The formula, pixel by pixel and Gaussian by Gaussian, with Python's numbers."""
    centers, conics, depths, radii, opacities, colors = (a.tolist() for a in args[:6])
    order = sorted(range(len(depths)), key=lambda i: depths[i])
    width, height = args[6:]
    shown = torch.zeros(height, width, 6, dtype=torch.float64)
    max_weights = [0.0] * len(depths)
    for row, column in itertools.product(range(height), range(width)):
        trans, sums, median = 1.0, [0.0] * 5, 0.0
        for i in (i for i in order if radii[i] > 0):
            dx, dy = column + 0.5 - centers[i][0], row + 0.5 - centers[i][1]
            xx, xy, yy = conics[i]
            power = 0.5 * (xx * dx * dx + yy * dy * dy) + xy * dx * dy
            alpha = min(0.999, opacities[i] * math.exp(-power))
            if alpha < MIN_ALPHA or trans < MIN_TRANS:
                continue
            weight = trans * alpha
            values = (*colors[i], 1.0, depths[i])
            sums = [s + weight * v for s, v in zip(sums, values, strict=True)]
            max_weights[i] = max(max_weights[i], weight)
            median = depths[i] if trans > 0.5 >= trans * (1 - alpha) else median
            trans *= 1 - alpha
        shown[row, column] = torch.tensor([*sums, median], dtype=torch.float64)
    rgb, *rest = shown.split([3, 1, 1, 1], dim=-1)
    return (rgb, *(v[..., 0] for v in rest), torch.tensor(max_weights, dtype=torch.float64))


@pytest.mark.parametrize("n", [1, 40, 300])
def test_is_the_formula(n: int, device: str) -> None:
    args = make([n], torch.float64, 37, 21)
    args[3][::7] = 0
    if n == 300:
        args[4][:] = 1 - args[4] * 0.05  # so opaque that most is hidden
    found = rasterize_gaussians(*(a.to(device) if isinstance(a, Tensor) else a for a in args))
    expected = by_loops(args)
    assert len(found) == len(expected) == 5
    for got, target in zip(found, expected, strict=True):
        torch.testing.assert_close(got.cpu(), target, rtol=1e-9, atol=1e-12)


def one(device: str, **changes: Any) -> tuple[Any, ...]:
    """Arguments of one Gaussian in the middle of the pixel (10, 8) of a 20x16 image."""
    values = {
        "centers": [[10.5, 8.5]],
        "conics": [[0.25, 0.0, 0.25]],
        "depths": [2.0],
        "radii": [1.0],
        "opacities": [0.8],
        "colors": [[1.0, 0.5, 0.25]],
    } | changes
    return (*(torch.tensor(v, device=device) for v in values.values()), 20, 16)


def test_one_gaussian_is_an_exponential(device: str) -> None:
    rgb, opacity, depth, median_depth, max_weights = rasterize_gaussians(*one(device))
    assert rgb.shape == (16, 20, 3)
    for offset in (0, 1, 3, 6):
        expected = 0.8 * math.exp(-0.5 * 0.25 * offset**2)
        for pixel in ((8, 10 + offset), (8 - offset, 10)):
            assert opacity[pixel].item() == pytest.approx(expected, rel=1e-6)
            assert depth[pixel].item() == pytest.approx(2 * expected, rel=1e-6)
            assert rgb[pixel].tolist() == pytest.approx(
                [expected, expected / 2, expected / 4], rel=1e-6
            )
    assert opacity[8, 17] == 0  # 0.8 exp(-0.5 * 0.25 * 49) is below 1/255
    assert median_depth[8, 10] == 2 and median_depth[8, 14] == 0
    assert max_weights.item() == pytest.approx(0.8, rel=1e-6)


@pytest.mark.parametrize("depths", [[1.0, 2.0, 3.0], [-2.0, -1e-30, 5.0], [-0.5, 0.0, 1e30]])
def test_the_order_is_that_of_the_depth(depths: list[float], device: str) -> None:
    colors = torch.eye(3, device=device)
    for order in itertools.permutations(range(3)):
        args = [*one(device)]
        args[:6] = (a.expand(3, *a.shape[1:]) for a in args[:6])
        args[2] = torch.tensor(depths, device=device)[list(order)]
        args[5] = colors[list(order)]
        rgb, *_ = rasterize_gaussians(*args)
        assert rgb[8, 10].tolist() == pytest.approx([0.8, 0.16, 0.032], rel=1e-5)


def test_at_one_depth_the_first_is_in_front(device: str) -> None:
    args = [*one(device)]
    args[:6] = (a.expand(3, *a.shape[1:]) for a in args[:6])
    args[5] = torch.eye(3, device=device)
    rgb, *_ = rasterize_gaussians(*args)
    assert rgb[8, 10].tolist() == pytest.approx([0.8, 0.16, 0.032], rel=1e-5)


def test_what_is_not_visible_neither_shows_nor_learns(device: str) -> None:
    nan, inf = math.nan, math.inf
    args = [*one(device)]
    args[:6] = (a.repeat(8, *[1] * (a.dim() - 1)) for a in args[:6])
    args[3][0] = 0
    args[0][1, 0] = nan
    args[1][2, 1] = nan
    args[2][3] = nan
    args[1][4] = torch.tensor([-1.0, 0.0, 1.0], device=device)
    args[4][5] = 0
    args[2][6] = inf
    args = [a.requires_grad_(p != 3) if isinstance(a, Tensor) else a for p, a in enumerate(args)]
    found = rasterize_gaussians(*args)
    for got, expected in zip(found[:4], rasterize_gaussians(*one(device))[:4], strict=True):
        assert torch.equal(got, expected)
    assert (found[4][:7] == 0).all() and found[4][7] > 0
    grads = torch.autograd.grad(sum(v.sum() for v in found[:3]), [*args[:3], *args[4:6]])
    assert all((g[:7] == 0).all() and g[7].abs().sum() > 0 for g in (*grads[:1], *grads[3:]))
    assert all(g.isfinite().all() for g in grads)


def test_no_gaussians_are_an_empty_picture(device: str) -> None:
    args = [a[:0] if isinstance(a, Tensor) else a for a in one(device)]
    found = rasterize_gaussians(*args)
    assert all((v == 0).all() for v in found) and found[0].shape == (16, 20, 3)


def test_one_that_covers_everything_is_opaque_everywhere(device: str) -> None:
    for conic in (1e-12, 1e-30):
        args = one(device, conics=[[conic, 0.0, conic]], opacities=[1.0], centers=[[4e3, -9e3]])
        _, opacity, *_ = rasterize_gaussians(*args)
        torch.testing.assert_close(opacity, torch.full_like(opacity, 0.999), rtol=1e-3, atol=0)


def test_thin_ones_at_any_angle_are_not_cut_off(device: str) -> None:
    """A needle through the whole image, whose determinant float32 hardly has."""
    for angle in torch.linspace(0, math.pi, 17).tolist():
        c, s = math.cos(angle), math.sin(angle)
        thin, long = 1 / 0.6**2, 1 / 400**2
        conic = [c * c * long + s * s * thin, c * s * (long - thin), s * s * long + c * c * thin]
        found, expected = (
            rasterize_gaussians(
                *(a.to(dtype) if isinstance(a, Tensor) else a for a in one(device, conics=[conic]))
            )[1]
            for dtype in (torch.float32, torch.float64)
        )
        torch.testing.assert_close(found, expected.float(), rtol=0, atol=0.01)


@pytest.mark.parametrize("opacity", [-0.1, 1.1, math.nan])
def test_opacities_that_are_none_are_refused(opacity: float) -> None:
    with pytest.raises((RuntimeError, ValueError), match="opacities must be from 0 to 1"):
        rasterize_gaussians(*one("cpu", opacities=[opacity]))


def test_absgrad_is_the_sum_of_what_each_pixel_contributes(device: str) -> None:
    inputs = OP.inputs([30], device)
    draw = torch.rand(HEIGHT, WIDTH, 3, dtype=torch.float64).to(device)
    absgrad = torch.zeros(30, 2, dtype=torch.float64, device=device, requires_grad=True)
    rgb, *_ = rasterize_gaussians(*inputs, absgrad)
    (rgb * draw).sum().backward()
    expected, total = torch.zeros_like(absgrad), torch.zeros_like(absgrad)
    rgb = rasterize_gaussians(*inputs)[0] * draw
    for pixel in rgb.sum(dim=-1).flatten():
        (grad,) = torch.autograd.grad(pixel, inputs[0], retain_graph=True)
        expected, total = expected + grad.abs(), total + grad
    torch.testing.assert_close(absgrad.grad, expected)
    torch.testing.assert_close(inputs[0].grad, total)


def test_by_products_have_no_gradient(device: str) -> None:
    found = rasterize_gaussians(*OP.inputs([9], device))
    assert [v.requires_grad for v in found] == [True, True, True, False, False]


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 15), (64, 3)])
def test_images_of_any_size(size: tuple[int, int], device: str) -> None:
    args = make([80], torch.float64, *size)
    args = [a.to(device).requires_grad_(p != 3) if p < 6 else a for p, a in enumerate(args)]
    found = rasterize_gaussians(*args)
    expected = of_reference(*args, None)
    assert found[0].shape == (size[1], size[0], 3)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(found, args), gradients(expected, args))


class Arguments(ctypes.Structure):
    _fields_ = [
        *((name, c_int64) for name in ("n", "width", "height")),
        *((name, c_void_p) for name in ("centers", "conics", "depths", "radii")),
        *((name, c_void_p) for name in ("opacities", "colors")),
    ]


def pointers(*tensors: Tensor) -> list[c_void_p]:
    assert all(t.is_contiguous() and t.dtype == torch.float32 for t in tensors)
    return [c_void_p(t.data_ptr()) for t in tensors]


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return compiled("splats", tmp_path_factory.mktemp("splats"))


@pytest.mark.parametrize("n", [0, 5, 900])
def test_blocks_of_a_gpu_find_the_same(n: int, blocks: ctypes.CDLL) -> None:
    """Carried out on the CPU; 900 Gaussians are several batches in a tile."""
    width, height = 37, 21
    args = make([n], torch.float32, width, height)
    args[3][::7] = 0
    args[4].mul_(0.2)  # so that many are seen
    outputs = [torch.zeros(height, width, 3), *(torch.zeros(height, width) for _ in range(3))]
    outputs += [torch.zeros(n), *(torch.zeros(height, width) for _ in range(2))]
    given = Arguments(n, width, height, *(t.data_ptr() for t in args[:6]))
    blocks.splats_forward(ctypes.byref(given), *pointers(*outputs))
    absgrad = torch.zeros(n, 2, requires_grad=True)
    inputs = [t.clone().requires_grad_(p != 3) for p, t in enumerate(args[:6])]
    expected = rasterize_gaussians(*inputs, width, height, absgrad)
    for got, target in zip(outputs, expected, strict=False):
        torch.testing.assert_close(got, target, rtol=1e-4, atol=1e-4)

    grads = [torch.rand_like(output) for output in outputs[:3]]
    found = [torch.zeros_like(t) for t in (*inputs[:3], *inputs[4:], absgrad)]
    saved = (outputs[5], outputs[6])
    blocks.splats_backward(ctypes.byref(given), *pointers(*grads, *saved, *found))
    wanted = torch.autograd.grad(expected[:3], (*inputs[:3], *inputs[4:], absgrad), grads)
    for got, target in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, target, rtol=1e-3, atol=1e-3)
