"""Registers ops with torch, and makes a raw call, `torch.ops.dietnerf.<name>`, raise a clear error
for tensors that neither a kernel nor a reference supports. Kernels check the rest:
`csrc/common.h`."""

import functools
import inspect
import itertools
import typing
from collections.abc import Callable, Iterator, Sequence
from inspect import Parameter
from typing import Any

import torch
from torch import Tensor

_LIBRARY = torch.library.Library("dietnerf", "FRAGMENT")


def register(
    name: str,
    schema: str,
    reference: Callable[..., Any],
    fake: Callable[..., Any],
    mutated: Sequence[str] = (),
) -> torch.library.CustomOpDef:
    """Register `dietnerf::<name>`.

    Args:
        name: of the op.
        schema: its arguments and results.
        reference: the implementation in PyTorch.
        fake: its results without values.
        mutated: names of the arguments that are written to.
    """
    names = argument_names(schema)
    op = torch.library.custom_op(
        f"dietnerf::{name}",
        _for_strided_tensors(name, names, reference),
        mutates_args=mutated,
        schema=schema,
    )
    op.register_fake(_on_one_device(name, names, fake))
    if mutated:
        for key in ("Negative", "Conjugate"):
            _LIBRARY.impl(name, _with_resolved_views(name, names, op, mutated), key)
    return op


def argument_names(schema: str) -> list[str]:
    """The names in a schema such as "(Tensor x, float y=1.0) -> Tensor"."""
    arguments, _ = schema[1:].split(") -> ")
    return [argument.split("=")[0].split()[-1] for argument in arguments.split(", ")]


def flattened(reference: Callable[..., Any]) -> Callable[..., Any]:
    """A function that takes the fields of named tuples in their place, as a schema needs it.

    A field whose name is taken already is prefixed with that of its parameter.
    """
    hints = typing.get_type_hints(reference)
    kinds = [hints[name] for name in inspect.signature(reference).parameters]
    if not any(map(_is_named_tuple, kinds)):
        return reference

    @functools.wraps(reference)
    def flat(*args: Any) -> Any:
        values = iter(args)
        return reference(*(_take(kind, values) for kind in kinds))

    flat.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        _flat_parameters(reference, hints), return_annotation=hints["return"]
    )
    return flat


def _is_named_tuple(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def _take(kind: Any, values: Iterator[Any]) -> Any:
    if _is_named_tuple(kind):
        return kind(*itertools.islice(values, len(kind._fields)))
    return next(values)


def _flat_parameters(reference: Callable[..., Any], hints: dict[str, Any]) -> list[Parameter]:
    found: dict[str, Any] = {}
    for parameter in inspect.signature(reference).parameters:
        kind = hints[parameter]
        fields = typing.get_type_hints(kind) if _is_named_tuple(kind) else {parameter: kind}
        for name, annotation in fields.items():
            found[f"{parameter}_{name}" if name in found else name] = annotation
    return [
        Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation)
        for name, annotation in found.items()
    ]


def _tensors(names: Sequence[str], args: Sequence[Any]) -> list[tuple[str, Tensor]]:
    # torch leaves out last arguments that have their default.
    pairs = zip(names, args, strict=False)
    return [(name, value) for name, value in pairs if isinstance(value, Tensor)]


def _for_strided_tensors(
    op: str, names: Sequence[str], reference: Callable[..., Any]
) -> Callable[..., Any]:
    """The reference, which torch also calls for layouts without a kernel, such as sparse ones."""

    @functools.wraps(reference)
    def checked(*args: Any) -> Any:
        for name, tensor in _tensors(names, args):
            if tensor.layout != torch.strided or tensor.is_quantized:
                layout = "quantized" if tensor.is_quantized else tensor.layout
                raise ValueError(f"{op}: {name} must be a plain tensor, got one that is {layout}")
        return reference(*args)

    return checked


def _on_one_device(op: str, names: Sequence[str], fake: Callable[..., Any]) -> Callable[..., Any]:
    """The fake, which torch calls as soon as a single tensor is on the device meta."""

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


def _with_resolved_views(
    op: str, names: Sequence[str], call: Callable[..., Any], mutated: Sequence[str]
) -> Callable[..., Any]:
    """The op for views that are negated or conjugated when they are read.

    By default torch copies the result back into a mutated argument, and aborts if the op has no
    result.
    """

    def resolved(*args: Any) -> Any:
        for name, tensor in _tensors(names, args):
            if name in mutated and (tensor.is_neg() or tensor.is_conj()):
                raise ValueError(f"{op}: {name} must not be a negated or conjugate view")
        return call(*(a.resolve_neg().resolve_conj() if isinstance(a, Tensor) else a for a in args))

    return resolved
