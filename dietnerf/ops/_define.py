"""Turns a PyTorch reference into a `torch.library` op: schema, fake, autograd, autocast.

The reference is the op: it runs on every device for which no compiled kernel is registered. The
gradient is a second op, `<name>_backward`, whose reference is the vector-Jacobian product of the
first one.
"""

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dietnerf.ops._autograd import (
    AutogradFormula,
    Gradients,
    Outputs,
    VjpReference,
    mark_all_constant,
    no_gradients,
)
from dietnerf.ops._register import argument_names, flattened, register
from dietnerf.ops._shapes import ShapeTable, empty_tensors, sizes_of

COMPILED_DEVICES = ("cpu", "cuda")
Sizes = Callable[[dict[str, Any]], Mapping[str, Any]]


def define(
    name: str,
    reference: Callable[..., Outputs],
    *,
    inputs: ShapeTable,
    outputs: ShapeTable,
    like: str,
    sizes: Sizes = lambda arguments: {},
    differentiable: Sequence[str] = (),
    saved: Sequence[str] = (),
) -> Callable[..., Any]:
    """Register `dietnerf::<name>`, and `dietnerf::<name>_backward` if it has gradients; return the
    first. Its arguments are those of `reference`, named tuples replaced by their fields.

    Args:
        name: of the op, the same in Python, C++ and the tests.
        reference: the op in PyTorch, its parameters annotated; the schema is read from it.
        inputs: shapes of the tensors among its arguments.
        outputs: shapes of what it returns.
        like: name of the input whose dtype and device the outputs have.
        sizes: sizes in `outputs` that follow neither from `inputs` nor are integer arguments, given
            all arguments by name.
        differentiable: names of the inputs that have a gradient; without any there is no backward
            op, and the outputs require no gradient.
        saved: names of the outputs that are saved for the backward op.
    """
    flat = flattened(reference)
    schema = torch.library.infer_schema(flat, mutates_args=())
    names = argument_names(schema)
    fake = _fake(names, inputs, outputs, like, sizes)
    op = register(name, schema, _warning_once(flat), fake)
    for device_type in COMPILED_DEVICES:
        op.register_autocast(device_type, torch.float32)
    if not differentiable:
        op.register_autograd(no_gradients, setup_context=mark_all_constant)
        return op
    gradients = Gradients(name, names, list(outputs), differentiable, saved)
    vjp = VjpReference(flat, gradients)
    parameters, _ = schema[1:].split(") -> ")
    backward_op = register(f"{name}_backward", gradients.schema(parameters), vjp.__call__, vjp.fake)
    formula = AutogradFormula(backward_op, gradients)
    op.register_autograd(formula.backward, setup_context=formula.setup_context)
    return op


def define_in_place(
    name: str, reference: Callable[..., None], *, mutated: Sequence[str]
) -> Callable[..., None]:
    """Register `dietnerf::<name>`, which returns nothing and has no gradient.

    Args:
        name: as for `define`.
        reference: as for `define`.
        mutated: names of the arguments that are written to.
    """
    schema = torch.library.infer_schema(reference, mutates_args=mutated)
    return register(name, schema, _warning_once(reference), lambda *args: None, mutated)


def _fake(
    names: Sequence[str], inputs: ShapeTable, outputs: ShapeTable, like: str, sizes: Sizes
) -> Callable[..., Outputs]:
    """The op without values: empty tensors of the shapes in `outputs`."""

    def fake(*args: Any) -> Outputs:
        arguments = dict(zip(names, args, strict=False))
        known = {**sizes_of(inputs, arguments), **sizes(arguments)}
        found = empty_tensors(outputs, known, arguments[like])
        return tuple(found) if len(found) > 1 else found[0]

    return fake


def _warning_once(reference: Callable[..., Any]) -> Callable[..., Any]:
    """The reference, which warns once a device if it runs where a compiled kernel could."""

    @functools.wraps(reference)
    def warned(*args: Any) -> Any:
        _warn_uncompiled(next(a.device.type for a in args if isinstance(a, Tensor)))
        return reference(*args)

    return warned


@functools.cache
def _warn_uncompiled(device_type: str) -> None:
    if device_type in COMPILED_DEVICES:
        warnings.warn(
            f"dietnerf has no compiled kernels for {device_type} here, so the slower PyTorch "
            "references run; `python -m dietnerf.ops` says why, and `pip install .` in the "
            "repository builds them",
            stacklevel=2,
        )
