"""The contract of an op's tensor arguments, checked once, at the public function."""

import torch
from torch import Tensor

Dim = str | int


def check_shapes(op: str, **arguments: tuple[Tensor, tuple[Dim, ...]]) -> dict[str, int]:
    """Check that sizes agree, and return what each name stands for.

    A dimension is a number, a name (its first use decides its value), or `name+1`. The message is
    that of the op's caller: "composite: sigmas must be (n_samples,), got 2 dims".
    """
    sizes: dict[str, int] = {}
    for name, (tensor, dims) in arguments.items():
        wanted = "(" + ", ".join(map(str, dims)) + ("," if len(dims) == 1 else "") + ")"
        if tensor.dim() != len(dims):
            raise ValueError(f"{op}: {name} must be {wanted}, got {tensor.dim()} dims")
        for dim, size in zip(dims, tensor.shape, strict=True):
            if size != _expected(dim, size, sizes):
                shape = tuple(tensor.shape)
                known = ", ".join(f"{key} = {value}" for key, value in sizes.items())
                raise ValueError(f"{op}: {name} must be {wanted} with {known}, got {shape}")
    return sizes


def _expected(dim: Dim, size: int, sizes: dict[str, int]) -> int:
    if isinstance(dim, int):
        return dim
    name, _, plus = dim.partition("+")
    return sizes.setdefault(name, max(size - int(plus or 0), 0)) + int(plus or 0)


def check_types(op: str, ray_offsets: Tensor, **floats: Tensor) -> None:
    """Check that the offsets are int64 and that the others share one dtype and device.

    Autocast makes everything float32, so any floating dtype passes while it is on.
    """
    if ray_offsets.dtype != torch.int64:
        raise ValueError(f"{op}: ray_offsets must be int64, got {ray_offsets.dtype}")
    device = ray_offsets.device
    is_autocast = torch.is_autocast_enabled(device.type)
    first, dtype = next((name, tensor.dtype) for name, tensor in floats.items())
    if not is_autocast and dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{op}: {first} must be float32 or float64, got {dtype}")
    for name, tensor in floats.items():
        if tensor.device != device:
            raise ValueError(f"{op}: {name} is on {tensor.device}, but ray_offsets on {device}")
        if not tensor.is_floating_point() or (tensor.dtype != dtype and not is_autocast):
            raise ValueError(f"{op}: {name} must be {dtype} like {first}, got {tensor.dtype}")
