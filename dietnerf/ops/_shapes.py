"""Tables of tensor shapes, "n_rays 3": the inputs of an op are checked against one, and its outputs
are allocated from one.

A dimension is a number, a name whose first use fixes its size, or a name plus one, "n_rays+1". A
dtype may precede them, "int64 n_rays+1"; without one a tensor has the floating dtype of the op.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

Dim = int | str
DTYPES = {"float64": torch.float64, "int64": torch.int64, "uint8": torch.uint8}


class Shape(NamedTuple):
    dims: tuple[Dim, ...]
    dtype: torch.dtype | None = None

    def __str__(self) -> str:
        return "(" + ", ".join(map(str, self.dims)) + ("," if len(self.dims) == 1 else "") + ")"


ShapeTable = dict[str, Shape]


def shapes(**texts: str) -> ShapeTable:
    """The table of named tensors: `shapes(rgbs="n_samples 3", ray_offsets="int64 n_rays+1")`."""
    return {name: _parsed(text) for name, text in texts.items()}


def _parsed(text: str) -> Shape:
    words = text.split()
    dtype = DTYPES[words.pop(0)] if words[:1] and words[0] in DTYPES else None
    return Shape(tuple(int(word) if word.isdigit() else word for word in words), dtype)


def check_shapes(op: str, table: ShapeTable, arguments: Mapping[str, Any], /, **sizes: int) -> None:
    """Check that the tensors of a table have its shapes and dtypes, and lie on one device.

    None is passed over. `sizes` are sizes known beforehand. The message names the op:
    "composite: sigmas must be (n_samples,), got 2 dims".
    """
    tensors = [(name, arguments[name]) for name in table if arguments[name] is not None]
    first, like = tensors[0]
    for name, tensor in tensors:
        shape = table[name]
        if len(tensor.shape) != len(shape.dims):
            raise ValueError(f"{op}: {name} must be {shape}, got {len(tensor.shape)} dims")
        if not all(_binds(sizes, dim, n) for dim, n in zip(shape.dims, tensor.shape, strict=True)):
            got = f"got {tuple(tensor.shape)}"
            raise ValueError(f"{op}: {name} must be {shape}{_known(sizes, shape)}, {got}")
        if shape.dtype is not None and tensor.dtype != shape.dtype:
            wanted = str(shape.dtype).removeprefix("torch.")
            raise ValueError(f"{op}: {name} must be {wanted}, got {tensor.dtype}")
        if tensor.device != like.device:
            raise ValueError(f"{op}: {name} is on {tensor.device}, but {first} on {like.device}")


def sizes_of(table: ShapeTable, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes that tensors of valid shapes, and integer arguments, give to names."""
    sizes = {name: v for name, v in arguments.items() if isinstance(v, int | torch.SymInt)}
    for name, shape in table.items():
        if arguments[name] is not None:
            for dim, size in zip(shape.dims, arguments[name].shape, strict=True):
                if isinstance(dim, str):
                    sizes[dim.removesuffix("+1")] = size - int(dim.endswith("+1"))
    return sizes


def empty_tensors(table: ShapeTable, sizes: Mapping[str, int], like: Tensor) -> list[Tensor]:
    """Tensors of these shapes without values, on the device of `like` and in its dtype."""
    return [
        like.new_empty([_size(dim, sizes) for dim in shape.dims], dtype=shape.dtype or like.dtype)
        for shape in table.values()
    ]


def _binds(sizes: dict[str, int], dim: Dim, size: int) -> bool:
    """Whether a dimension has the size that it must have; gives one to a name without."""
    if isinstance(dim, int):
        return size == dim
    if dim.endswith("+1"):
        return size >= 1 and sizes.setdefault(dim[:-2], size - 1) == size - 1
    return sizes.setdefault(dim, size) == size


def _size(dim: Dim, sizes: Mapping[str, int]) -> int:
    if isinstance(dim, int):
        return dim
    return sizes[dim[:-2]] + 1 if dim.endswith("+1") else sizes[dim]


def _known(sizes: Mapping[str, int], shape: Shape) -> str:
    names = (dim.removesuffix("+1") for dim in shape.dims if isinstance(dim, str))
    known = ", ".join(f"{name} = {sizes[name]}" for name in names if name in sizes)
    return f" with {known}" if known else ""
