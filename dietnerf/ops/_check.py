"""Checks of an op's floating arguments, made once, in the public function.

Ops are called several times a training step, so a message is composed only after a check failed.
"""

import torch
from torch import Tensor

from dietnerf.ops._shapes import check_shapes, shape_of

FLOATS = (torch.float32, torch.float64)
HALVES = (torch.float16, torch.bfloat16)


def check_floats(op: str, **tensors: Tensor) -> None:
    """Check that all have the dtype of the first, float32 or float64.

    Autocast converts everything to float32, so any floating dtype passes while it is on.
    """
    first, like = next(iter(tensors.items()))
    is_autocast = torch.is_autocast_enabled(like.device.type)
    for name, tensor in tensors.items():
        if is_autocast and tensor.is_floating_point():
            continue
        if like.dtype not in FLOATS:
            raise ValueError(f"{op}: {first} must be float32 or float64, got {like.dtype}")
        if tensor.dtype != like.dtype:
            raise ValueError(f"{op}: {name} must be {like.dtype} like {first}, got {tensor.dtype}")


def check_in_place(op: str, **tensors: Tensor) -> None:
    """Check that tensors that an op works on in place are contiguous and like the first one."""
    first, like = next(iter(tensors.items()))
    if like.dtype not in FLOATS:
        raise ValueError(f"{op}: {first} must be float32 or float64, got {like.dtype}")
    table = dict.fromkeys(tensors, shape_of(like))
    check_shapes(op, table, tensors)
    for name, tensor in tensors.items():
        if not tensor.is_contiguous():
            raise ValueError(f"{op}: {name} must be contiguous, got strides {tensor.stride()}")
        # torch would resolve it into a copy and then crash; a compiler cannot trace the check.
        if not torch.compiler.is_compiling() and tensor.is_neg():
            raise ValueError(f"{op}: {name} must not be a negated view; give it resolve_neg()")
