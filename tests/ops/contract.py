"""What holds for every op. A test file describes its op as `Op` and runs all `CHECKS` on it."""

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from dietnerf.ops._load import has_kernels

COUNTS = {
    "dense": [64] * 9,
    "ragged": torch.randint(0, 40, (50,), generator=torch.Generator().manual_seed(1)).tolist(),
    "around the block of 64": [63, 64, 65, 127, 128, 129, 200],
    "one sample": [1] * 5,
    "empty rays": [0, 3, 0, 0, 2, 0],
    "no samples": [0, 0, 0],
    "no rays": [],
}


@dataclass(frozen=True)
class Op:
    """An op and how to call it.

    Args:
        name: as in torch.ops.dietnerf.
        public: the function that users call.
        reference: the PyTorch reference, with the arguments of `torch.ops.dietnerf.<name>`.
        make: (counts per ray, dtype) -> arguments of `public` on the CPU.
        raw: arguments of `public` -> arguments of `reference`.
        atol: by how much a float32 kernel may differ from a float32 reference.
        has_offsets: whether `ray_offsets` is among the arguments of `public`.
        has_spare: whether samples may lie behind the last ray's.
        has_atomics: whether gradients are summed in any order, but by the CPU's kernel.
        wrong: (position of an argument, its wrong value, message).
        is_differentiable: whether any output has a gradient.
        constants: positions of the floating tensors that have no gradient.
    """

    name: str
    public: Callable[..., Any]
    reference: Callable[..., Any]
    make: Callable[[list[int], torch.dtype], tuple[Any, ...]]
    wrong: Sequence[tuple[int, Any, str]]
    raw: Callable[..., tuple[Any, ...]] = lambda *args: args
    atol: float = 2e-5
    has_offsets: bool = True
    has_spare: bool = False
    has_atomics: bool = False
    is_differentiable: bool = True
    constants: Sequence[int] = ()

    @property
    def overload(self) -> Any:
        return getattr(torch.ops.dietnerf, self.name).default

    def inputs(
        self, counts: list[int], device: str, dtype: torch.dtype = torch.float64
    ) -> tuple[Any, ...]:
        return tuple(
            value.to(device).requires_grad_(value.is_floating_point() and p not in self.constants)
            if isinstance(value, Tensor)
            else value
            for p, value in enumerate(self.make(counts, dtype))
        )


def offsets(counts: list[int]) -> Tensor:
    return torch.tensor([0, *counts]).cumsum(0)


def position_of_offsets(args: tuple[Any, ...]) -> int:
    return next(i for i, a in enumerate(args) if isinstance(a, Tensor) and a.dtype == torch.int64)


def as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def has_one_order(op: Op, device: str) -> bool:
    """Whether the gradients are summed the same way at every call."""
    return not op.has_atomics or (torch.device(device).type == "cpu" and has_kernels("CPU"))


def gradients(outputs: tuple[Tensor, ...], args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """Of a random combination of all outputs, the same one at every call; none without a graph."""
    if not any(o.requires_grad for o in outputs):
        return ()
    draw = torch.Generator().manual_seed(2)
    grads = [torch.rand(o.shape, dtype=o.dtype, generator=draw).to(o.device) for o in outputs]
    pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if o.requires_grad]
    return torch.autograd.grad(
        [o for o, _ in pairs], _differentiable(args), [g for _, g in pairs], materialize_grads=True
    )


def equals_reference(op: Op, device: str) -> None:
    # Sums of up to 200 terms in another order; the exp of the float32 kernels is off by 3e-8.
    tolerances = {torch.float32: (1e-4, op.atol), torch.float64: (1e-9, 1e-11)}
    for dtype, (rtol, atol) in tolerances.items():
        for name, counts in COUNTS.items():
            args = op.inputs(counts, device, dtype)
            found = as_tuple(op.public(*args))
            expected = as_tuple(op.reference(*op.raw(*args)))
            where = f"{op.name}, {name}, {dtype}"
            pairs = [*zip(found, expected, strict=True)]
            if op.is_differentiable:
                pairs += zip(gradients(found, args), gradients(expected, args), strict=True)
            for got, target in pairs:
                torch.testing.assert_close(
                    got, target, rtol=rtol, atol=atol, msg=lambda m, where=where: f"{where}: {m}"
                )


def passes_gradcheck(op: Op, device: str) -> None:
    if not op.is_differentiable:
        assert not any(o.requires_grad for o in as_tuple(op.public(*op.inputs([3, 1], device))))
        return
    # Two backwards must be alike: as far as sums in any order are.
    nondet_tol = 0.0 if has_one_order(op, device) else 1e-10

    def with_gradients(*args: Any) -> tuple[Tensor, ...]:
        return tuple(o for o in as_tuple(op.public(*args)) if o.requires_grad)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gradcheck announces one of its own features
        for counts in ([3, 0, 1, 5], [70]):
            args, is_fast = op.inputs(counts, device), len(counts) == 1
            assert torch.autograd.gradcheck(
                with_gradients, args, fast_mode=is_fast, nondet_tol=nondet_tol
            )


def passes_opcheck(op: Op, device: str) -> None:
    args = op.raw(*op.inputs([3, 0, 1, 5], device))
    torch.library.opcheck(op.overload, args)


def is_deterministic(op: Op, device: str) -> None:
    args = op.inputs([64] * 1000, device, torch.float32)
    threads = torch.get_num_threads()
    runs = []
    try:
        for n_threads in (threads, threads, 1, 2):
            torch.set_num_threads(n_threads)
            found = as_tuple(op.public(*args))
            runs.append([*found, *(gradients(found, args) if has_one_order(op, device) else ())])
    finally:
        torch.set_num_threads(threads)
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], run, strict=True))


def takes_other_strides(op: Op, device: str) -> None:
    args = op.inputs(COUNTS["ragged"], device)

    def spread(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return torch.stack([value, value], dim=-1)[..., 0]

    for found, expected in zip(
        as_tuple(op.public(*map(spread, args))), as_tuple(op.public(*args)), strict=True
    ):
        assert torch.equal(found, expected)


def runs_in_float32_under_autocast(op: Op, device: str) -> None:
    args = op.inputs(COUNTS["ragged"], device, torch.bfloat16)
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        found = as_tuple(op.public(*args))
    full = [a.float() if isinstance(a, Tensor) and a.is_floating_point() else a for a in args]
    for got, expected in zip(found, as_tuple(op.public(*full)), strict=True):
        assert got.dtype == torch.float32 or not got.is_floating_point()
        assert torch.equal(got, expected)
    assert all(g.dtype == torch.bfloat16 for g in gradients(found, args))


def compiles_without_graph_breaks(op: Op, device: str) -> None:
    args = op.inputs(COUNTS["ragged"], device)
    compiled = torch.compile(op.public, fullgraph=True, backend="aot_eager")
    # By default Dynamo breaks the graph at an output of data-dependent size.
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        found, expected = as_tuple(compiled(*args)), as_tuple(op.public(*args))
    if has_one_order(op, device):
        found += gradients(found, args)
        expected += gradients(expected, args)
    for got, target in zip(found, expected, strict=True):
        assert torch.equal(got, target)


def names_what_is_wrong(op: Op, device: str) -> None:
    args = op.inputs([3, 0, 1, 5], device)
    wrong = [*op.wrong]
    if op.has_offsets:
        at = position_of_offsets(args)
        wrong.append((at, args[at].int(), "ray_offsets must be int64, got torch.int32"))
    for position, value, message in wrong:
        if isinstance(value, Tensor):
            value = value.to(device)
        changed = (*args[:position], value, *args[position + 1 :])
        with pytest.raises(ValueError, match=f"^{re.escape(f'{op.name}: {message}')}$"):
            op.public(*changed)


def refuses_offsets_that_do_not_fit(op: Op, device: str) -> None:
    if not op.has_offsets or torch.device(device).type == "cuda":
        return  # looking at them would wait for the GPU; its kernels assert
    args = op.inputs([3, 0, 1, 5], device)
    at = position_of_offsets(args)
    wrong_ends = [[0, 3, 2, 4, 9], [1, 3, 3, 4, 9], [0, 3, 3, 4, 10]]
    message = "ray_offsets must ascend from 0 to at most n_samples = 9"
    if not op.has_spare:
        wrong_ends.append([0, 3, 3, 4, 8])
        message = "ray_offsets must ascend from 0 to n_samples = 9"
    for wrong in wrong_ends:
        changed = (*args[:at], torch.tensor(wrong), *args[at + 1 :])
        for call in (op.public, lambda *a: op.reference(*op.raw(*a))):
            with pytest.raises((RuntimeError, ValueError), match=message):
                call(*changed)


def passes_over_samples_of_no_ray(op: Op, device: str) -> None:
    if not op.has_spare:
        return
    short, long = op.inputs([3, 0, 1, 5], device), op.inputs([3, 0, 1, 5, 4], device)
    at = position_of_offsets(long)
    args = [a.detach().clone() if isinstance(a, Tensor) else a for a in long]
    args[at] = short[at]
    for own, few in zip(args, short, strict=True):
        if isinstance(own, Tensor) and own.is_floating_point():
            own[: len(few)] = few.detach()
            own.requires_grad_()
    for call in (op.public, lambda *a: op.reference(*op.raw(*a))):
        found, expected = as_tuple(call(*args)), as_tuple(op.public(*short))
        for got, target in zip(found, expected, strict=True):
            is_alike = len(got) == len(target)
            torch.testing.assert_close(got[: len(target)], target)
            assert is_alike or (len(got) == 13 and got[9:].abs().sum() == 0)
        grads = torch.autograd.grad(
            found, _differentiable(args), [torch.ones_like(o) for o in found]
        )
        ones = [torch.ones_like(o) for o in expected]
        for got, target in zip(
            grads, torch.autograd.grad(expected, _differentiable(short), ones), strict=True
        ):
            torch.testing.assert_close(got[:9], target)
            assert got[9:].abs().sum() == 0


def _differentiable(args: Sequence[Any]) -> list[Tensor]:
    return [a for a in args if isinstance(a, Tensor) and a.requires_grad]


CHECKS = [
    equals_reference,
    passes_gradcheck,
    passes_opcheck,
    is_deterministic,
    takes_other_strides,
    runs_in_float32_under_autocast,
    compiles_without_graph_breaks,
    names_what_is_wrong,
    refuses_offsets_that_do_not_fit,
    passes_over_samples_of_no_ray,
]
