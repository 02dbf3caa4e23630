"""Adam in place: equals torch's, leaves alone what no gradient touches, says what is wrong.

The contract of the other ops does not fit: this one has neither rays nor gradients.
"""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from dietnerf.ops import adam_rule, adam_step
from dietnerf.ops.adam_step import reference

RATES = (0.9, 0.99, 1e-15)  # beta1, beta2, eps
# Around a cache line of 16, a job of 1024 and a part of 8192; empty; without dimensions.
SHAPES = [(), (0,), (1,), (15,), (16, 1), (17,), (1023,), (32, 32), (1025,), (3, 5, 7), (8192, 3)]
# The kernels fuse multiplications and additions and multiply by 1 / root: a few last places.
TOLERANCES = {torch.float32: (1e-5, 1e-7), torch.float64: (1e-13, 1e-15)}


def rule(step: int, device: str, weight_decay: float = 0.0) -> Tensor:
    return adam_rule(step, 1e-2, *RATES[:2], weight_decay).to(device)


def make(shape: tuple[int, ...], dtype: torch.dtype, device: str, fraction: float) -> list[Tensor]:
    """Parameter, gradient and two moments as after some steps."""
    parameter, grad, exp_avg, exp_avg_sq = torch.randn(4, *shape, dtype=dtype)
    grad = torch.where(torch.rand(shape) < fraction, grad, 0.0)
    return [t.to(device).clone() for t in (parameter, grad, exp_avg, exp_avg_sq.square())]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_equals_torch_where_no_gradient_is_zero(
    weight_decay: float, dtype: torch.dtype, device: str
) -> None:
    beta1, beta2, eps = RATES
    value, _, exp_avg, exp_avg_sq = make((37, 61), dtype, device, 1.0)
    twin = torch.nn.Parameter(value.clone())
    exp_avg.zero_()
    exp_avg_sq.zero_()
    options = {"lr": 1e-2, "betas": (beta1, beta2), "eps": eps}
    optimizer = (
        torch.optim.AdamW([twin], weight_decay=weight_decay, **options)
        if weight_decay
        else torch.optim.Adam([twin], **options)
    )
    for step in range(1, 8):
        twin.grad = torch.randn_like(value)
        assert (twin.grad != 0).all()
        optimizer.step()
        adam_step(value, twin.grad, exp_avg, exp_avg_sq, rule(step, device, weight_decay), *RATES)
    rtol, atol = TOLERANCES[dtype]
    state = optimizer.state[twin]
    pairs = [(value, twin.detach()), (exp_avg, state["exp_avg"])]
    for found, expected in [*pairs, (exp_avg_sq, state["exp_avg_sq"])]:
        # Seven steps of 1e-2, each right to the last places.
        torch.testing.assert_close(found, expected, rtol=rtol, atol=10 * atol)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("fraction", [0.0, 0.02, 0.5, 1.0])
def test_equals_reference(fraction: float, dtype: torch.dtype, device: str) -> None:
    for shape in SHAPES:
        for step, weight_decay in ((1, 0.0), (1000, 0.1)):
            found = make(shape, dtype, device, fraction)
            expected = [t.clone() for t in found]
            now = rule(step, device, weight_decay)
            adam_step(*found, now, *RATES)
            reference(*expected, now, *RATES)
            rtol, atol = TOLERANCES[dtype]
            for got, target in zip(found, expected, strict=True):
                torch.testing.assert_close(got, target, rtol=rtol, atol=atol)


@pytest.mark.parametrize("take", [adam_step, reference], ids=["op", "reference"])
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_what_has_no_gradient_keeps_its_bits(take: Any, dtype: torch.dtype, device: str) -> None:
    tensors = make((5000,), dtype, device, 0.05)
    tensors[1][::7] *= -1  # also -0.0
    before = [t.clone() for t in tensors]
    take(*tensors, rule(3, device, 0.1), *RATES)
    is_zero = before[1] == 0
    assert 0 < int(is_zero.sum()) < len(is_zero)
    assert torch.equal(tensors[1], before[1])
    for position in (0, 2, 3):
        assert torch.equal(tensors[position][is_zero], before[position][is_zero])
        assert (tensors[position][~is_zero] != before[position][~is_zero]).all()


def test_a_first_step_is_the_learning_rate_whatever_the_gradient(device: str) -> None:
    for scale in (1e-12, 1.0, 1e12):
        grad = torch.tensor([-2.0, 3.0], device=device) * scale
        value, exp_avg, exp_avg_sq = torch.zeros(3, 2, device=device)
        adam_step(value, grad, exp_avg, exp_avg_sq, rule(1, device), *RATES)
        # eps is 1e-15, a thousandth of the smallest gradient's.
        torch.testing.assert_close(value, -1e-2 * grad.sign(), rtol=1e-3, atol=0)


def test_a_gradient_that_is_not_a_number_shows(device: str) -> None:
    tensors = make((40,), torch.float32, device, 0.0)
    tensors[1][21] = torch.nan
    adam_step(*tensors, rule(1, device), *RATES)
    assert tensors[0].isnan().nonzero().tolist() == [[21]]


def test_is_deterministic(device: str) -> None:
    threads = torch.get_num_threads()
    start = make((100_003,), torch.float32, device, 0.3)
    runs = []
    try:
        for n_threads in (threads, threads, 1, 2):
            torch.set_num_threads(n_threads)
            tensors = [t.clone() for t in start]
            adam_step(*tensors, rule(5, device, 0.1), *RATES)
            runs.append(tensors)
    finally:
        torch.set_num_threads(threads)
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], run, strict=True))


def test_a_parameter_in_training_is_moved(device: str) -> None:
    value, *others = make((20,), torch.float32, device, 1.0)
    parameter = torch.nn.Parameter(value.clone())
    version = parameter._version
    adam_step(parameter, *others, rule(1, device), *RATES)
    assert not torch.equal(parameter, value)
    assert parameter.grad_fn is None
    assert parameter._version > version  # autograd notices if something saved it


def test_passes_opcheck(device: str) -> None:
    torch.library.opcheck(
        torch.ops.dietnerf.adam_step.default,
        (*make((70,), torch.float32, device, 0.5), rule(2, device, 0.1), *RATES),
    )


def test_compiles_without_graph_breaks(device: str) -> None:
    found = make((70,), torch.float32, device, 0.5)
    expected = [t.clone() for t in found]
    now = rule(2, device)
    torch.compile(adam_step, fullgraph=True, backend="aot_eager")(*found, now, *RATES)
    adam_step(*expected, now, *RATES)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (1, torch.ones(3), "grad must be (4, 3), got 1 dims"),
        (2, torch.ones(3, 4), "exp_avg must be (4, 3), got (3, 4)"),
        (0, torch.ones(4, 3).half(), "parameter must be float32 or float64, got torch.float16"),
        (
            3,
            torch.ones(4, 3).double(),
            "exp_avg_sq must be float32, got torch.float64",
        ),
        (0, torch.ones(3, 4).t(), "parameter must be contiguous, got strides (1, 4)"),
        (1, torch.ones(1, 3).expand(4, 3), "grad must be contiguous, got strides (0, 1)"),
        (
            2,
            torch._neg_view(torch.ones(4, 3)),
            "exp_avg must not be a negated view; give it resolve_neg()",
        ),
        (1, torch.ones(4, 3, device="meta"), "grad is on meta, but parameter on {device}"),
        (4, torch.ones(3), "rule must be float64, got torch.float32"),
        (4, torch.ones(2).double(), "rule must be (3,), got (2,)"),
        (5, 1.0, "beta1 must be in [0, 1), got 1.0"),
        (6, -0.1, "beta2 must be in [0, 1), got -0.1"),
    ],
)
def test_names_what_is_wrong(position: int, value: Any, message: str, device: str) -> None:
    args: list[Any] = [*make((4, 3), torch.float32, device, 1.0), rule(1, device), *RATES]
    message = message.format(device=args[0].device)
    args[position] = value.to(device) if isinstance(value, Tensor) and not value.is_meta else value
    with pytest.raises(ValueError, match=f"^{re.escape(f'adam_step: {message}')}$"):
        adam_step(*args)


def test_steps_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match="adam_rule: step must be at least 1, got 0"):
        adam_rule(0, 1e-2, 0.9, 0.99)


def test_kernels_check_for_themselves(device: str) -> None:
    args = [*make((4, 3), torch.float32, device, 1.0), rule(1, device), *RATES]
    args[1] = torch.ones(3, 4, device=device).t()
    if torch._C._dispatch_has_kernel_for_dispatch_key(
        "dietnerf::adam_step", args[1].device.type.upper()
    ):
        with pytest.raises(RuntimeError, match="adam_step: grad must be contiguous"):
            torch.ops.dietnerf.adam_step(*args)
