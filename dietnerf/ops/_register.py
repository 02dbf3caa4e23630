"""Registers ops with torch, so that a raw call, `torch.ops.dietnerf.<name>`, refuses in a sentence
what neither a kernel nor a reference is for; `csrc/common.h` refuses what a kernel sees."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

_LIBRARY = torch.library.Library("dietnerf", "FRAGMENT")


def register(
    name: str,
    schema: str,
    reference: Callable[..., Any],
    fake: Callable[..., Any],
    written: Sequence[str] = (),
) -> torch.library.CustomOpDef:
    """Register `dietnerf::<name>`.

    Args:
        name: of the op.
        schema: its arguments and results.
        reference: what it does, in PyTorch.
        fake: its results without values.
        written: names of the arguments that are written to.
    """
    names = argument_names(schema)
    op = torch.library.custom_op(
        f"dietnerf::{name}",
        _of_plain_tensors(name, names, reference),
        mutates_args=written,
        schema=schema,
    )
    op.register_fake(_on_one_device(name, names, fake))
    if written:
        for key in ("Negative", "Conjugate"):
            _LIBRARY.impl(name, _of_resolved_tensors(name, names, op, written), key)
    return op


def argument_names(schema: str) -> list[str]:
    """The names in a schema such as "(Tensor x, float y=1.0) -> Tensor"."""
    arguments, _ = schema[1:].split(") -> ")
    return [argument.split("=")[0].split()[-1] for argument in arguments.split(", ")]


def _tensors(names: Sequence[str], args: Sequence[Any]) -> list[tuple[str, Tensor]]:
    # torch leaves out last arguments that have their default.
    pairs = zip(names, args, strict=False)
    return [(name, value) for name, value in pairs if isinstance(value, Tensor)]


def _of_plain_tensors(
    op: str, names: Sequence[str], reference: Callable[..., Any]
) -> Callable[..., Any]:
    """The reference, which torch takes for any layout that has no kernel, as sparse ones."""

    @functools.wraps(reference)
    def checked(*args: Any) -> Any:
        for name, tensor in _tensors(names, args):
            if tensor.layout != torch.strided or tensor.is_quantized:
                layout = "quantized" if tensor.is_quantized else tensor.layout
                raise ValueError(f"{op}: {name} must be a plain tensor, got one that is {layout}")
        return reference(*args)

    return checked


def _on_one_device(op: str, names: Sequence[str], fake: Callable[..., Any]) -> Callable[..., Any]:
    """The fake, which torch takes where a single tensor is on the device meta."""

    @functools.wraps(fake)
    def checked(*args: Any) -> Any:
        (first, like), *others = _tensors(names, args)
        for name, tensor in others:
            if tensor.device != like.device:
                raise ValueError(
                    f"{op}: {name} is on {tensor.device}, but {first} on {like.device}"
                )
        return fake(*args)

    return checked


def _of_resolved_tensors(
    op: str, names: Sequence[str], call: Callable[..., Any], written: Sequence[str]
) -> Callable[..., Any]:
    """The op where some arguments are views whose numbers are negated or conjugated when read.

    Left to itself, torch copies the result back into one that is written to, and aborts if the op
    has no result.
    """

    def resolved(*args: Any) -> Any:
        for name, tensor in _tensors(names, args):
            if name in written and (tensor.is_neg() or tensor.is_conj()):
                raise ValueError(f"{op}: {name} must not be a negated or conjugate view")
        return call(*(a.resolve_neg().resolve_conj() if isinstance(a, Tensor) else a for a in args))

    return resolved
