"""A step of Adam on one tensor, as an op that works in place."""

import math

import torch
from torch import Tensor

from dietnerf.ops._check import check_in_place
from dietnerf.ops._define import define_in_place
from dietnerf.ops._shapes import check_shapes, shape_of, shapes

RULE = shapes(rule="float64 3")


def adam_step(
    parameter: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    rule: Tensor,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    """Update a parameter and its two moments, except elements whose gradient is exactly zero.

    With m = beta1 m + (1 - beta1) g and v = beta2 v + (1 - beta2) g^2, the element becomes
    p (1 - lr weight_decay) - lr m' / (sqrt(v') + eps), where m' = m / (1 - beta1^step) and v' =
    v / (1 - beta2^step) (Kingma & Ba 2015, algorithm 1; decay as in Loshchilov & Hutter 2019,
    algorithm 2). Where g = 0, p, m and v keep their bits: most entries of a hash table are
    touched by no ray of a step (Mueller et al. 2022, section 4).

    In place, not differentiable; deterministic.

    Args:
        parameter: float32 or float64, contiguous, of any shape; updated.
        grad: its gradient. This and the moments: of the same shape, dtype and device, contiguous.
        exp_avg: the first moment m; updated.
        exp_avg_sq: the second moment v; updated.
        rule: the factors that change from step to step, `adam_rule` on the device of the parameter,
            so that a step in a CUDA graph can be given new ones.
        beta1: decay of the first moment, in [0, 1).
        beta2: decay of the second moment, in [0, 1).
        eps: added to the root.
    """
    check_in_place(
        "adam_step", parameter=parameter, grad=grad, exp_avg=exp_avg, exp_avg_sq=exp_avg_sq
    )
    own = {"parameter": shape_of(parameter)}
    check_shapes("adam_step", own | RULE, {"parameter": parameter, "rule": rule})
    for name, beta in (("beta1", beta1), ("beta2", beta2)):
        if not 0 <= beta < 1:
            raise ValueError(f"adam_step: {name} must be in [0, 1), got {beta}")
    with torch.no_grad():
        _op(parameter, grad, exp_avg, exp_avg_sq, rule, beta1, beta2, eps)


def adam_rule(
    step: int, lr: float, beta1: float, beta2: float, weight_decay: float = 0.0
) -> Tensor:
    """The factors that all elements share in step number `step`, counted from 1: lr / (1 -
    beta1^step), 1 / sqrt(1 - beta2^step), 1 - lr weight_decay; float64, (3,)."""
    if step < 1:
        raise ValueError(f"adam_rule: step must be at least 1, got {step}")
    scale = 1 / math.sqrt(1 - beta2**step)
    values = [lr / (1 - beta1**step), scale, 1 - lr * weight_decay]
    return torch.tensor(values, dtype=torch.float64)


def reference(
    parameter: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    rule: Tensor,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    rate, scale, decay = rule.to(parameter.dtype)
    mean = beta1 * exp_avg + (1 - beta1) * grad
    square = beta2 * exp_avg_sq + (1 - beta2) * grad.square()
    value = decay * parameter - rate * mean / (square.sqrt() * scale + eps)
    is_touched = grad != 0
    for old, new in ((parameter, value), (exp_avg, mean), (exp_avg_sq, square)):
        old.copy_(torch.where(is_touched, new, old))


_op = define_in_place("adam_step", reference, mutated=("parameter", "exp_avg", "exp_avg_sq"))
