"""Gradients of ops: the backward op in PyTorch, and how autograd calls it."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Outputs = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class Gradients:
    """Which values of an op its gradients concern.

    Args:
        op: name of the op.
        inputs: names of all inputs.
        outputs: names of all outputs.
        differentiable: names of the inputs that have a gradient.
        saved: names of the outputs that are saved for the backward op.
    """

    op: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    differentiable: Sequence[str]
    saved: Sequence[str]

    @functools.cached_property
    def positions(self) -> list[int]:
        """Of the differentiable inputs among all."""
        return [self.inputs.index(name) for name in self.differentiable]

    def schema(self, parameters: str) -> str:
        """Of the backward op, for the parameters in the schema of the forward one."""
        grads = [f"Tensor? grad_{name}" for name in self.outputs]
        saved = [f"Tensor {name}" for name in self.saved]
        results = ", ".join("Tensor" for _ in self.differentiable)
        return f"(int output_mask, {', '.join(grads + saved)}, {parameters}) -> ({results})"


@dataclass(frozen=True)
class VjpReference:
    """The backward op in PyTorch: the vector-Jacobian product of the reference.

    Its arguments are `output_mask`, a bit mask over the differentiable inputs; the gradient of each
    output, or None; the saved outputs; the inputs. It returns a gradient for each differentiable
    input, an empty tensor where the bit is not set.
    """

    reference: Callable[..., Outputs]
    gradients: Gradients

    def __call__(self, *args: Any) -> tuple[Tensor, ...]:
        selected, inputs = self._read(args)
        with torch.enable_grad():
            values, pullback, *_ = torch.func.vjp(
                functools.partial(self._of_selected, selected, inputs),
                *(inputs[p].detach() for p in selected),
            )
        pairs = zip(values, args[1:], strict=False)
        cotangents = tuple(torch.zeros_like(v) if g is None else g for v, g in pairs)
        grads = dict(zip(selected, pullback(cotangents), strict=True))
        return self._collect(inputs, lambda p: grads[p].contiguous() if p in grads else None)

    def fake(self, *args: Any) -> tuple[Tensor, ...]:
        selected, inputs = self._read(args)
        return self._collect(inputs, lambda p: _empty_like(inputs[p]) if p in selected else None)

    def _read(self, args: tuple[Any, ...]) -> tuple[list[int], list[Any]]:
        selected = [p for bit, p in enumerate(self.gradients.positions) if args[0] >> bit & 1]
        first = 1 + len(self.gradients.outputs) + len(self.gradients.saved)
        return selected, list(args[first:])

    def _of_selected(
        self, selected: list[int], inputs: list[Any], *primals: Tensor
    ) -> tuple[Tensor, ...]:
        changed = dict(zip(selected, primals, strict=True))
        outputs = self.reference(*(changed.get(p, value) for p, value in enumerate(inputs)))
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def _collect(
        self, inputs: list[Any], find: Callable[[int], Tensor | None]
    ) -> tuple[Tensor, ...]:
        first = next(i for i in inputs if isinstance(i, Tensor) and i.is_floating_point())
        grads = [find(p) for p in self.gradients.positions]
        return tuple(first.new_empty(0) if grad is None else grad for grad in grads)


@dataclass(frozen=True)
class AutogradFormula:
    """`setup_context` and `backward` as `register_autograd` takes them."""

    backward_op: Callable[..., tuple[Tensor, ...]]
    gradients: Gradients

    def setup_context(self, ctx: Any, inputs: tuple[Any, ...], output: Outputs) -> None:
        # An unused output gives None, not a tensor of zeros to fill and to read.
        ctx.set_materialize_grads(False)
        outputs = output if isinstance(output, tuple) else (output,)
        saved = [outputs[self.gradients.outputs.index(name)] for name in self.gradients.saved]
        ctx.save_for_backward(*saved, *(v if isinstance(v, Tensor) else None for v in inputs))
        ctx.constants = [None if isinstance(value, Tensor) else value for value in inputs]

    def backward(self, ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad
        if all(g is None for g in grads):
            return tuple(None for _ in needed)
        self._refuse_missing(needed)
        positions, n_saved = self.gradients.positions, len(self.gradients.saved)
        output_mask = sum(needed[p] << bit for bit, p in enumerate(positions))
        saved, tensors = ctx.saved_tensors[:n_saved], ctx.saved_tensors[n_saved:]
        inputs = [c if t is None else t for t, c in zip(tensors, ctx.constants, strict=True)]
        contiguous = [None if g is None else g.contiguous() for g in grads]
        found = self.backward_op(output_mask, *contiguous, *saved, *inputs)
        by_position = dict(zip(positions, found, strict=True))
        return tuple(by_position[p] if is_needed else None for p, is_needed in enumerate(needed))

    def _refuse_missing(self, needed: Sequence[bool]) -> None:
        names = self.gradients.inputs
        missing = [n for n, is_needed in zip(names, needed, strict=False) if is_needed]
        missing = [name for name in missing if name not in self.gradients.differentiable]
        if missing:
            raise NotImplementedError(
                f"dietnerf::{self.gradients.op} has no gradient in {', '.join(missing)}: detach it"
            )


def mark_all_constant(ctx: Any, inputs: tuple[Any, ...], output: Outputs) -> None:
    """`setup_context` of an op without gradients."""
    ctx.mark_non_differentiable(*(output if isinstance(output, tuple) else (output,)))


def no_gradients(ctx: Any, *grads: Tensor | None) -> tuple[None, ...]:
    """`backward` of an op without gradients."""
    return tuple(None for _ in ctx.needs_input_grad)


def _empty_like(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)
