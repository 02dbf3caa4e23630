"""Turns a PyTorch reference into a `torch.library` op: schema, fake, autograd, autocast.

The reference is the op: it runs on every device for which no compiled kernel is registered. The
gradient is a second op, `<name>_backward`, whose reference is the vector-Jacobian product of the
first one.
"""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Outputs = Tensor | tuple[Tensor, ...]
COMPILED_DEVICES = ("cpu", "cuda")


def define(
    name: str,
    reference: Callable[..., Outputs],
    *,
    fake: Callable[..., Outputs],
    outputs: Sequence[str],
    differentiable: Sequence[str],
) -> Callable[..., Any]:
    """Register `dietnerf::<name>` and `dietnerf::<name>_backward`, and return the first.

    Args:
        name: what the op is called, the same word in Python, C++ and the tests.
        reference: the op in PyTorch, its parameters annotated; the schema is read from it.
        fake: outputs without values, for the arguments of `reference`.
        outputs: names of the outputs; the backward op takes `grad_<output>`, None where no
            gradient arrives.
        differentiable: names of the inputs that receive a gradient. The backward op takes
            `wanted`, a bit mask over them, and returns one tensor for each, empty where the bit
            is not set.
    """
    name = f"dietnerf::{name}"
    schema = torch.library.infer_schema(reference, mutates_args=())
    parameters, _ = schema[1:].split(") -> ")
    names = [parameter.split("=")[0].split()[-1] for parameter in parameters.split(", ")]
    positions = [names.index(n) for n in differentiable]

    op = torch.library.custom_op(name, _saying_so(reference), mutates_args=(), schema=schema)
    op.register_fake(fake)

    grads = ", ".join(f"Tensor? grad_{output}" for output in outputs)
    results = ", ".join(["Tensor"] * len(positions))
    backward_op = torch.library.custom_op(
        f"{name}_backward",
        functools.partial(_vjp, reference, len(outputs), positions),
        mutates_args=(),
        schema=f"(int wanted, {grads}, {parameters}) -> ({results})",
    )
    backward_op.register_fake(functools.partial(_fake_vjp, len(outputs), positions))

    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if all(g is None for g in grads):
            return tuple(None for _ in ctx.needs_input_grad)
        wanted = sum(ctx.needs_input_grad[p] << bit for bit, p in enumerate(positions))
        contiguous = [None if g is None else g.contiguous() for g in grads]
        found = backward_op(wanted, *contiguous, *_inputs(ctx))
        by_position = dict(zip(positions, found, strict=True))
        return tuple(
            by_position[p] if needed else None for p, needed in enumerate(ctx.needs_input_grad)
        )

    op.register_autograd(backward, setup_context=_save_inputs)
    for device_type in COMPILED_DEVICES:
        op.register_autocast(device_type, torch.float32)
    return op


def _saying_so(reference: Callable[..., Outputs]) -> Callable[..., Outputs]:
    """The reference, announcing that it runs where a compiled kernel could."""

    @functools.wraps(reference)
    def announced(*args: Any) -> Outputs:
        _announce(next(a.device.type for a in args if isinstance(a, Tensor)))
        return reference(*args)

    return announced


@functools.cache
def _announce(device_type: str) -> None:
    if device_type in COMPILED_DEVICES:
        warnings.warn(
            f"dietnerf has no compiled kernels for {device_type} here, so the slower PyTorch "
            "references run; `python -m dietnerf.ops` says why, and `pip install .` in the "
            "repository builds them",
            stacklevel=2,
        )


def _save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Outputs) -> None:
    # An output that nothing uses then gives None instead of a tensor of zeros to fill and to read.
    ctx.set_materialize_grads(False)
    ctx.is_tensor = [isinstance(value, Tensor) for value in inputs]
    ctx.save_for_backward(*(value for value in inputs if isinstance(value, Tensor)))
    ctx.constants = [value for value in inputs if not isinstance(value, Tensor)]


def _inputs(ctx: Any) -> list[Any]:
    tensors, constants = iter(ctx.saved_tensors), iter(ctx.constants)
    return [next(tensors) if is_tensor else next(constants) for is_tensor in ctx.is_tensor]


def _split(
    args: Sequence[Any], n_outputs: int, positions: Sequence[int]
) -> tuple[list[int], Sequence[Tensor | None], Sequence[Any]]:
    """The positions that are wanted, the incoming gradients, and the inputs of the forward op."""
    wanted, grads, inputs = args[0], args[1 : 1 + n_outputs], args[1 + n_outputs :]
    return [p for bit, p in enumerate(positions) if wanted >> bit & 1], grads, inputs


def _vjp(
    reference: Callable[..., Outputs], n_outputs: int, positions: Sequence[int], *args: Any
) -> tuple[Tensor, ...]:
    picked, grads, inputs = _split(args, n_outputs, positions)

    def of_picked(*primals: Tensor) -> tuple[Tensor, ...]:
        full = list(inputs)
        for position, primal in zip(picked, primals, strict=True):
            full[position] = primal
        result = reference(*full)
        return result if isinstance(result, tuple) else (result,)

    primals = [inputs[p].detach() for p in picked]
    with torch.enable_grad():
        values, pullback, *_ = torch.func.vjp(of_picked, *primals)
    pairs = zip(values, grads, strict=True)
    cotangents = tuple(torch.zeros_like(v) if g is None else g for v, g in pairs)
    found = dict(zip(picked, pullback(cotangents), strict=True))
    return tuple(found[p].contiguous() if p in found else _nothing(inputs) for p in positions)


def _fake_vjp(n_outputs: int, positions: Sequence[int], *args: Any) -> tuple[Tensor, ...]:
    picked, _, inputs = _split(args, n_outputs, positions)
    return tuple(
        torch.empty_like(inputs[p], memory_format=torch.contiguous_format)
        if p in picked
        else _nothing(inputs)
        for p in positions
    )


def _nothing(inputs: Sequence[Any]) -> Tensor:
    return next(i for i in inputs if isinstance(i, Tensor) and i.is_floating_point()).new_empty(0)
