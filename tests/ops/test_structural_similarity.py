"""Structural similarity: the contract of every op, closed forms, torchmetrics, and images of any
size."""

import ctypes
import math
from ctypes import c_int64, c_void_p
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from dietnerf.ops import structural_similarity
from dietnerf.ops.structural_similarity import C1, reference
from tests.ops.contract import CHECKS, Op
from tests.ops.harness import compiled


def images(
    height: int, width: int, dtype: torch.dtype = torch.float64, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Two that are alike, colors from 0 to 1."""
    x, noise = torch.rand(2, height, width, 3, dtype=torch.float64)
    y = (x + 0.4 * (noise - 0.5)).clamp(0, 1)
    return x.to(device, dtype), y.to(device, dtype)


def make(counts: list[int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The more counts, the higher, and the larger, the wider."""
    return images(11 + min(len(counts), 60), 11 + min(sum(counts), 300), dtype)


def of_reference(*args: Any) -> Tensor:
    return reference(*args)[0]


OP = Op(
    "structural_similarity",
    structural_similarity,
    of_reference,
    make,
    [
        (0, torch.rand(15, 20), "x must be (height, width, 3), got 2 dims"),
        (0, torch.rand(15, 20, 4), "x must be (height, width, 3) with height = 15, width = 20, "
            "got (15, 20, 4)"),
        (1, torch.rand(14, 20, 3), "y must be (height, width, 3) with height = 15, width = 20, "
            "got (14, 20, 3)"),
        (1, torch.rand(15, 20, 3), "y must be torch.float64 like x, got torch.float32"),
    ],
    has_offsets=False,
)  # fmt: skip


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Any, device: str) -> None:
    check(OP, device)


def test_equal_images_have_a_similarity_of_one_and_no_gradient(device: str) -> None:
    x, _ = images(24, 31, device=device)
    y = x.clone().requires_grad_()
    found = structural_similarity(x, y)
    torch.testing.assert_close(found, torch.ones_like(found))
    (grad,) = torch.autograd.grad(found, y)
    assert grad.abs().max() < 1e-12


def test_images_of_one_color_differ_in_luminance_alone(device: str) -> None:
    x, y = (torch.full((13, 12, 3), c, dtype=torch.float64, device=device) for c in (0.25, 0.75))
    expected = (2 * 0.25 * 0.75 + C1) / (0.25**2 + 0.75**2 + C1)
    assert structural_similarity(x, y).item() == pytest.approx(expected, rel=1e-9)


def test_an_image_and_its_negative_are_unlike(device: str) -> None:
    x, _ = images(40, 30, device=device)
    assert structural_similarity(x, 1 - x) < -0.8


def test_is_that_of_torchmetrics(device: str) -> None:
    """Which reflects the border; inside, its windows are ours."""
    x, y = images(40, 57, device=device)
    _, maps = structural_similarity_index_measure(
        *(v.permute(2, 0, 1)[None] for v in (x, y)), data_range=1.0, return_full_image=True
    )
    expected = maps[..., 5:-5, 5:-5].mean()
    torch.testing.assert_close(structural_similarity(x, y), expected)


def test_is_symmetric(device: str) -> None:
    x, y = (v.requires_grad_() for v in images(17, 23, device=device))
    grads = torch.autograd.grad(structural_similarity(x, y), [x, y])
    swapped = torch.autograd.grad(structural_similarity(y, x), [x, y])
    torch.testing.assert_close(grads, swapped)


@pytest.mark.parametrize("size", [(11, 11), (11, 300), (300, 11), (31, 257), (12, 500)])
def test_images_of_any_size(size: tuple[int, int], device: str) -> None:
    x, y = images(*size, device=device)
    found, expected = (v.clone().requires_grad_() for v in (x, x))
    similarity, target = structural_similarity(found, y), of_reference(expected, y)
    torch.testing.assert_close(similarity, target)
    (3 * similarity).backward()
    (3 * target).backward()
    torch.testing.assert_close(found.grad, expected.grad)


@pytest.mark.parametrize("size", [(10, 40), (40, 10), (0, 11)])
def test_images_smaller_than_the_window_are_refused(size: tuple[int, int], device: str) -> None:
    image = torch.rand(*size, 3, device=device)
    with pytest.raises(ValueError, match=r"x and y must be at least 11 pixels high and wide, got"):
        structural_similarity(image, image)


def test_flat_images_keep_their_digits_in_float32(device: str) -> None:
    """Variances are small differences of squares."""
    x, y = images(24, 31, device=device)
    x, y = 0.7 + 0.05 * x, 0.7 + 0.05 * y
    expected = structural_similarity(x, y).float()
    found = structural_similarity(x.float(), y.float())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_what_is_no_number_shows(device: str) -> None:
    x, y = images(30, 40, device=device)
    x[20, 30, 1] = math.nan
    x.requires_grad_()
    found = structural_similarity(x, y)
    (grad,) = torch.autograd.grad(found, x)
    assert found.isnan() and grad[20, 30, 1].isnan()
    assert grad[:, :, ::2].isfinite().all()  # the other channels


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return compiled("similarity", tmp_path_factory.mktemp("similarity"))


@pytest.mark.parametrize("size", [(11, 11), (37, 90)])
def test_blocks_of_a_gpu_find_the_same(size: tuple[int, int], blocks: ctypes.CDLL) -> None:
    """Carried out on the CPU."""

    def call(name: str, *tensors: Tensor) -> None:
        assert all(t.is_contiguous() and t.dtype == torch.float32 for t in tensors)
        pointers = [c_void_p(t.data_ptr()) for t in tensors]
        getattr(blocks, name)(*map(c_int64, size), *pointers)

    x, y = images(*size, torch.float32)
    sums = torch.zeros(blocks.similarity_tiles(*map(c_int64, size)))
    derivatives = torch.zeros(3, size[0] + 10, size[1] + 10, 3)
    grad, grad_x = torch.tensor(2.0), torch.zeros_like(x)
    call("similarity_forward", x, y, derivatives, sums)
    call("similarity_backward", grad, derivatives, x, y, grad_x)
    expected = structural_similarity(x.requires_grad_(), y)
    torch.testing.assert_close(sums.sum(), expected)
    torch.testing.assert_close(grad_x, torch.autograd.grad(expected, x, grad)[0])
