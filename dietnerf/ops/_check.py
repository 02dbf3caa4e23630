"""The contract of an op's tensor arguments, checked once, at the public function.

Ops are called several times a training step, so what is said about a mistake is put together only
once there is one.
"""

import torch
from torch import Tensor

Dim = str | int
FLOATS = (torch.float32, torch.float64)


def check_shapes(op: str, **arguments: tuple[Tensor, tuple[Dim, ...]]) -> None:
    """Check that sizes agree.

    A dimension is a number, a name (its first use decides its value), or `name+1`. The message is
    that of the op's caller: "composite: sigmas must be (n_samples,), got 2 dims".
    """
    sizes: dict[str, int] = {}
    for name, (tensor, dims) in arguments.items():
        shape = tensor.shape
        if len(shape) != len(dims):
            raise ValueError(f"{op}: {name} must be {_text(dims)}, got {len(shape)} dims")
        for dim, size in zip(dims, shape, strict=True):
            if isinstance(dim, int):
                fits = size == dim
            elif dim.endswith("+1"):
                fits = size >= 1 and sizes.setdefault(dim[:-2], size - 1) == size - 1
            else:
                fits = sizes.setdefault(dim, size) == size
            if not fits:
                known = ", ".join(f"{key} = {value}" for key, value in sizes.items())
                given = f" with {known}" if known else ""
                raise ValueError(f"{op}: {name} must be {_text(dims)}{given}, got {tuple(shape)}")


def check_types(
    op: str, integers: Tensor, called: str = "ray_offsets", /, **floats: Tensor
) -> None:
    """Check that the integers are int64 and that the others share one dtype and device.

    Autocast makes everything float32, so any floating dtype passes while it is on.
    """
    if integers.dtype != torch.int64:
        raise ValueError(f"{op}: {called} must be int64, got {integers.dtype}")
    _check_floats(op, floats, called, integers.device)


def check_floats(op: str, **floats: Tensor) -> None:
    """As `check_types` where there are no integers: the device is that of the first."""
    first = next(iter(floats))
    _check_floats(op, floats, first, floats[first].device)


def _check_floats(op: str, floats: dict[str, Tensor], like: str, device: torch.device) -> None:
    is_autocast = torch.is_autocast_enabled(device.type)
    first = next(iter(floats))
    dtype = floats[first].dtype
    for name, tensor in floats.items():
        if tensor.device != device:
            raise ValueError(f"{op}: {name} is on {tensor.device}, but {like} on {device}")
        if is_autocast and tensor.is_floating_point():
            continue
        if dtype not in FLOATS:
            raise ValueError(f"{op}: {first} must be float32 or float64, got {dtype}")
        if tensor.dtype != dtype:
            raise ValueError(f"{op}: {name} must be {dtype} like {first}, got {tensor.dtype}")


def check_in_place(op: str, **tensors: Tensor) -> None:
    """Check that tensors that are worked on in place are contiguous and else like the first one."""
    first = next(iter(tensors))
    like = tensors[first]
    if like.dtype not in FLOATS:
        raise ValueError(f"{op}: {first} must be float32 or float64, got {like.dtype}")
    check_shapes(op, **{name: (tensor, like.shape) for name, tensor in tensors.items()})
    for name, tensor in tensors.items():
        if tensor.device != like.device:
            raise ValueError(f"{op}: {name} is on {tensor.device}, but {first} on {like.device}")
        if tensor.dtype != like.dtype:
            raise ValueError(f"{op}: {name} must be {like.dtype} like {first}, got {tensor.dtype}")
        if not tensor.is_contiguous():
            raise ValueError(f"{op}: {name} must be contiguous, got strides {tensor.stride()}")
        # Which torch resolves into a copy, and then crashes; a compiler cannot ask.
        if not torch.compiler.is_compiling() and tensor.is_neg():
            raise ValueError(f"{op}: {name} must not be a negated view; give it resolve_neg()")


def _text(dims: tuple[Dim, ...]) -> str:
    return "(" + ", ".join(map(str, dims)) + ("," if len(dims) == 1 else "") + ")"
