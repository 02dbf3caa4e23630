"""A step worked through in chunks of rays, so that the activations stay small."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Chunk = TypeVar("Chunk")


class _AttachGradients(torch.autograd.Function):
    """The identity on a value whose gradients are known already."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, gradients: Sequence[Tensor], *parameters: Tensor
    ) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        (grad_value,) = grad_outputs
        return None, None, *(grad_value * gradient for gradient in ctx.gradients)


def sum_in_chunks(
    loss_and_stats: Callable[[Chunk], tuple[Tensor, Tensor]],
    chunks: Sequence[Chunk],
    module: nn.Module,
) -> tuple[Tensor, Tensor]:
    """Sum a loss over chunks, keeping the activations of one chunk only.

    On a CPU this keeps them in the cache: the step of the paper's MLP takes about half as long
    (benchmarks/bm_step.py).

    Args:
        loss_and_stats: the share of one chunk in the loss, a scalar with gradients to the
            parameters of `module`, and in whatever is reported beside it, (n_stats,).
        chunks: at least one.
        module: owns every parameter that the loss depends on.

    Returns:
        The loss, a scalar, differentiable in the parameters of `module` and in nothing else; and
        the sum of the stats, (n_stats,), without gradients.
    """
    if len(chunks) == 1:
        loss, stats = loss_and_stats(chunks[0])
        return loss, stats.detach()
    parameters = [p for p in module.parameters() if p.requires_grad]
    gradients = [torch.zeros_like(p) for p in parameters]
    losses, all_stats = [], []
    for chunk in chunks:
        loss, stats = loss_and_stats(chunk)
        losses.append(loss.detach())
        all_stats.append(stats.detach())
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        for gradient, more in zip(gradients, found, strict=True):
            if more is not None:
                gradient.add_(more)
    loss = _AttachGradients.apply(torch.stack(losses).sum(), gradients, *parameters)
    return loss, torch.stack(all_stats).sum(dim=0)
