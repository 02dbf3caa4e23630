"""Mapping to the unit cube, and the density activation of a hash-grid field: csrc/hash_grid.h in
PyTorch."""

from typing import Any

import torch
from torch import Tensor

LARGEST_EXPONENT = 15.0


def unit_cube(positions: Tensor, box: Tensor, is_contracted: bool) -> tuple[Tensor, Tensor]:
    """Positions (n, 3) mapped to the unit cube, and which of them lie outside of the field, (n,).

    Contracted, the box (2, 3) is mapped to the middle half along each axis, and space outside of it
    to the rest (mip-NeRF 360, eq. 10, in the maximum norm). Otherwise positions outside of the box
    are clamped.
    """
    in_box = (positions - box.sum(dim=0) / 2) * (2 / (box[1] - box[0]))  # the box is [-1, 1]
    largest = in_box.abs().amax(dim=1)
    if not is_contracted:
        return (in_box * 0.5 + 0.5).clamp(0, 1), largest > 1
    size = largest.clamp(min=1)
    scale = 0.25 * (2 - 1 / size) / size
    return (in_box * scale[:, None] + 0.5).clamp(0, 1), torch.zeros_like(largest, dtype=torch.bool)


def density_of_logits(logits: Tensor, box: Tensor, is_outside: Tensor) -> Tensor:
    """exp(logit) per longest half side of the box, and 0 outside, (n,)."""
    half_side = (box[1] - box[0]).amax() / 2
    return (_TruncatedExp.apply(logits) / half_side).masked_fill(is_outside, 0.0)


class _TruncatedExp(torch.autograd.Function):
    """exp, clamped above, with a gradient clamped on both sides (instant-ngp)."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clamp(max=LARGEST_EXPONENT).exp()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * x.clamp(-LARGEST_EXPONENT, LARGEST_EXPONENT).exp()
