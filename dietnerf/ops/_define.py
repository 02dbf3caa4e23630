"""Turns a PyTorch reference into a `torch.library` op: schema, fake, autograd, autocast.

The reference is the op: it runs on every device for which no compiled kernel is registered. The
gradient is a second op, `<name>_backward`, whose reference is the vector-Jacobian product of the
first one.
"""

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dietnerf.ops._register import argument_names, register

Outputs = Tensor | tuple[Tensor, ...]
COMPILED_DEVICES = ("cpu", "cuda")


def define(
    name: str,
    reference: Callable[..., Outputs],
    *,
    fake: Callable[..., Outputs],
    outputs: Sequence[str],
    differentiable: Sequence[str],
    kept: Sequence[str] = (),
) -> Callable[..., Any]:
    """Register `dietnerf::<name>`, and `dietnerf::<name>_backward` if it has gradients; return the
    first.

    Args:
        name: what the op is called, the same word in Python, C++ and the tests.
        reference: the op in PyTorch, its parameters annotated; the schema is read from it.
        fake: outputs without values, for the arguments of `reference`.
        outputs: names of the outputs.
        differentiable: names of the inputs that receive a gradient; without any there is no
            backward op, and the outputs require no gradient.
        kept: outputs that the backward op is handed as well, so that kernels need not redo them.
    """
    schema = torch.library.infer_schema(reference, mutates_args=())
    parameters, _ = schema[1:].split(") -> ")
    names = argument_names(schema)
    op = register(name, schema, _announcing(reference), fake)
    for device_type in COMPILED_DEVICES:
        op.register_autocast(device_type, torch.float32)
    if not differentiable:
        op.register_autograd(_no_gradients, setup_context=_mark_all_constant)
        return op

    vjp = _Vjp(
        reference,
        n_outputs=len(outputs),
        n_kept=len(kept),
        positions=[names.index(n) for n in differentiable],
    )
    grads = [f"Tensor? grad_{n}" for n in outputs] + [f"Tensor {n}" for n in kept]
    results = ", ".join("Tensor" for _ in differentiable)
    backward_op = register(
        f"{name}_backward",
        f"(int wanted, {', '.join(grads)}, {parameters}) -> ({results})",
        vjp.__call__,
        vjp.fake,
    )

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Outputs) -> None:
        # An output that nobody uses gives None, not a tensor of zeros to fill and to read.
        ctx.set_materialize_grads(False)
        tensors = [value if isinstance(value, Tensor) else None for value in inputs]
        ctx.save_for_backward(*(output[outputs.index(n)] for n in kept), *tensors)
        ctx.constants = [None if isinstance(value, Tensor) else value for value in inputs]

    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if all(g is None for g in grads):
            return tuple(None for _ in ctx.needs_input_grad)
        needed = ctx.needs_input_grad
        missing = [
            names[p] for p, is_needed in enumerate(needed) if is_needed and p not in vjp.positions
        ]
        if missing:
            raise NotImplementedError(
                f"dietnerf::{name} has no gradient in {', '.join(missing)}: detach it"
            )
        wanted = sum(needed[p] << bit for bit, p in enumerate(vjp.positions))
        saved, tensors = ctx.saved_tensors[: len(kept)], ctx.saved_tensors[len(kept) :]
        inputs = [c if t is None else t for t, c in zip(tensors, ctx.constants, strict=True)]
        contiguous = [None if g is None else g.contiguous() for g in grads]
        found = backward_op(wanted, *contiguous, *saved, *inputs)
        by_position = dict(zip(vjp.positions, found, strict=True))
        return tuple(by_position[p] if is_needed else None for p, is_needed in enumerate(needed))

    op.register_autograd(backward, setup_context=setup_context)
    return op


def define_in_place(
    name: str, reference: Callable[..., None], *, written: Sequence[str]
) -> Callable[..., None]:
    """Register `dietnerf::<name>`, which returns nothing and has no gradient.

    Args:
        name: as for `define`.
        reference: as for `define`.
        written: names of the arguments that are written to.
    """
    schema = torch.library.infer_schema(reference, mutates_args=written)
    return register(name, schema, _announcing(reference), lambda *args: None, written)


def _mark_all_constant(ctx: Any, inputs: tuple[Any, ...], output: Outputs) -> None:
    ctx.mark_non_differentiable(*(output if isinstance(output, tuple) else (output,)))


def _no_gradients(ctx: Any, *grads: Tensor | None) -> tuple[None, ...]:
    return tuple(None for _ in ctx.needs_input_grad)


@dataclass(frozen=True)
class _Vjp:
    """The reference of a backward op, whose arguments are

    `wanted`, a bit mask over the differentiable inputs; the gradient of each output, None where
    none arrives; the outputs that are kept; the inputs. It returns a gradient for each
    differentiable input, an empty tensor where the bit is not set.
    """

    reference: Callable[..., Outputs]
    n_outputs: int
    n_kept: int
    positions: Sequence[int]

    def __call__(self, *args: Any) -> tuple[Tensor, ...]:
        picked, inputs = self._read(args)
        with torch.enable_grad():
            values, pullback, *_ = torch.func.vjp(
                functools.partial(self._of_picked, picked, inputs),
                *(inputs[p].detach() for p in picked),
            )
        pairs = zip(values, args[1 : 1 + self.n_outputs], strict=True)
        cotangents = tuple(torch.zeros_like(v) if g is None else g for v, g in pairs)
        found = dict(zip(picked, pullback(cotangents), strict=True))
        return self._collect(inputs, lambda p: found[p].contiguous() if p in found else None)

    def fake(self, *args: Any) -> tuple[Tensor, ...]:
        picked, inputs = self._read(args)
        return self._collect(inputs, lambda p: _empty_like(inputs[p]) if p in picked else None)

    def _read(self, args: tuple[Any, ...]) -> tuple[list[int], list[Any]]:
        picked = [p for bit, p in enumerate(self.positions) if args[0] >> bit & 1]
        return picked, list(args[1 + self.n_outputs + self.n_kept :])

    def _of_picked(
        self, picked: list[int], inputs: list[Any], *primals: Tensor
    ) -> tuple[Tensor, ...]:
        changed = dict(zip(picked, primals, strict=True))
        outputs = self.reference(*(changed.get(p, value) for p, value in enumerate(inputs)))
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def _collect(
        self, inputs: list[Any], find: Callable[[int], Tensor | None]
    ) -> tuple[Tensor, ...]:
        found = [find(p) for p in self.positions]
        floats = (i for i in inputs if isinstance(i, Tensor) and i.is_floating_point())
        first = next(floats)
        return tuple(first.new_empty(0) if grad is None else grad for grad in found)


def _empty_like(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


def _announcing(reference: Callable[..., Any]) -> Callable[..., Any]:
    """The reference, saying once a device that it runs where a compiled kernel could."""

    @functools.wraps(reference)
    def announced(*args: Any) -> Any:
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
