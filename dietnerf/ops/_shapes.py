"""Tables of tensor shapes, "n_rays 3": the inputs of an op are checked against one, and its outputs
are allocated from one.

A dimension is a number, a name whose first use fixes its size, or a name plus one, "n_rays+1". A
dtype may precede them, "int64 n_rays+1"; without one a tensor has the floating dtype of the op.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

DTYPES = {"float64": torch.float64, "int64": torch.int64, "uint8": torch.uint8}


class Dim(NamedTuple):
    """The size of `name` plus a number; a mere number has the name "", which stands for 0."""

    name: str
    offset: int

    def __str__(self) -> str:
        parts = [self.name] if self.name else []
        return "+".join([*parts, str(self.offset)] if self.offset or not parts else parts)


class Shape(NamedTuple):
    dims: tuple[Dim, ...]
    dtype: torch.dtype | None = None

    def __str__(self) -> str:
        return "(" + ", ".join(map(str, self.dims)) + ("," if len(self.dims) == 1 else "") + ")"


ShapeTable = dict[str, Shape]


def shapes(**texts: str) -> ShapeTable:
    """The table of named tensors: `shapes(rgbs="n_samples 3", ray_offsets="int64 n_rays+1")`."""
    return {name: _parsed(text) for name, text in texts.items()}


def shape_of(tensor: Tensor) -> Shape:
    """The shape and dtype of a tensor."""
    return Shape(tuple(Dim("", size) for size in tensor.shape), tensor.dtype)


def _parsed(text: str) -> Shape:
    words = text.split()
    dtype = DTYPES[words.pop(0)] if words[:1] and words[0] in DTYPES else None
    return Shape(tuple(map(_parsed_dim, words)), dtype)


def _parsed_dim(word: str) -> Dim:
    if word.isdigit():
        return Dim("", int(word))
    name, _, offset = word.partition("+")
    return Dim(name, int(offset or 0))


def check_shapes(op: str, table: ShapeTable, arguments: Mapping[str, Any], /, **sizes: int) -> None:
    """Check that the tensors of a table have its shapes and dtypes, and lie on one device.

    None is passed over. `sizes` are sizes known beforehand. The message names the op:
    "composite: sigmas must be (n_samples,), got 2 dims".
    """
    sizes[""] = 0
    first, device = "", None
    for name, (dims, dtype) in table.items():
        tensor = arguments[name]
        if tensor is None:
            continue
        if len(tensor.shape) != len(dims):
            raise ValueError(f"{op}: {name} must be {table[name]}, got {len(tensor.shape)} dims")
        for (dim, offset), size in zip(dims, tensor.shape, strict=True):
            # The first use of a name fixes its size.
            if size < offset or sizes.setdefault(dim, size - offset) != size - offset:
                expected = f"{table[name]}{_known(sizes, table[name])}"
                raise ValueError(f"{op}: {name} must be {expected}, got {tuple(tensor.shape)}")
        if dtype is not None and tensor.dtype != dtype:
            expected = str(dtype).removeprefix("torch.")
            raise ValueError(f"{op}: {name} must be {expected}, got {tensor.dtype}")
        if device is None:
            first, device = name, tensor.device
        elif tensor.device != device:
            raise ValueError(f"{op}: {name} is on {tensor.device}, but {first} on {device}")


def sizes_of(table: ShapeTable, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes that tensors of valid shapes, and integer arguments, give to names."""
    sizes = {name: v for name, v in arguments.items() if isinstance(v, int | torch.SymInt)}
    for name, shape in table.items():
        if arguments[name] is not None:
            for dim, size in zip(shape.dims, arguments[name].shape, strict=True):
                sizes[dim.name] = size - dim.offset
    return sizes | {"": 0}


def empty_tensors(table: ShapeTable, sizes: Mapping[str, int], like: Tensor) -> list[Tensor]:
    """Tensors of these shapes without values, on the device of `like` and in its dtype."""
    return [
        like.new_empty(
            [sizes[dim.name] + dim.offset for dim in shape.dims], dtype=shape.dtype or like.dtype
        )
        for shape in table.values()
    ]


def _known(sizes: Mapping[str, int], shape: Shape) -> str:
    names = (dim.name for dim in shape.dims if dim.name)
    known = ", ".join(f"{name} = {sizes[name]}" for name in names if name in sizes)
    return f" with {known}" if known else ""
