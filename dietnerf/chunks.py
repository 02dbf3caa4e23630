"""Backward passes in chunks of rays, so that activations stay small."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Chunk = TypeVar("Chunk")
TINY = 1e-30  # a gradient that counts as zero
LARGEST = 2.0**-6  # of a gradient in half precision: sums over many rays must stay below 2^16


class _AttachGradients(torch.autograd.Function):
    """The identity on a value whose gradients were computed before."""

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


def attach_gradients(
    value: Tensor, gradients: Sequence[Tensor], parameters: Sequence[Tensor]
) -> Tensor:
    """A value, differentiable in parameters, whose gradients were computed before."""
    attached: Tensor = _AttachGradients.apply(value, gradients, *parameters)
    return attached


def chunked_backward(
    loss_and_stats: Callable[[Chunk], tuple[Tensor, Tensor]],
    chunks: Sequence[Chunk],
    parameters: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    """Sum a loss over chunks, keeping the activations of one chunk only.

    On a CPU this keeps them in the cache: the step of the paper's MLP takes about half as long
    (benchmarks/bm_step.py).

    Args:
        loss_and_stats: the loss of one chunk as its share of the sum, a scalar with gradients, and
            stats to be summed, (n_stats,).
        chunks: at least one.
        parameters: all that the loss depends on.

    Returns:
        The loss, a scalar, differentiable in the parameters and in nothing else; and the sum of the
        stats, (n_stats,), without gradients.
    """
    if len(chunks) == 1:
        loss, stats = loss_and_stats(chunks[0])
        return loss, stats.detach()
    gradients = _Gradients(parameters)
    losses, all_stats = [], []
    for chunk in chunks:
        loss, stats = loss_and_stats(chunk)
        losses.append(loss.detach())
        all_stats.append(stats.detach())
        gradients.add(loss)
    return gradients.attached_to(torch.stack(losses).sum()), torch.stack(all_stats).sum(dim=0)


def deferred_backprop(
    render: Callable[[Chunk], Tensor],
    chunks: Sequence[Chunk],
    loss_of: Callable[[Tensor], Tensor],
    module: nn.Module,
) -> Tensor:
    """A loss of many rays together, as of a whole image, keeping the activations of one chunk only.

    Deferred back-propagation (Zhang et al., ARF, 2022, section 3.4): everything is rendered without
    a graph, the loss is differentiated in the colors, and then chunk after chunk is rendered again
    with a graph to take that gradient on to the parameters. A single chunk is rendered once, with
    its graph.

    Args:
        render: the colors of a chunk, (n_rays, n_channels), the same at every call.
        chunks: at least one.
        loss_of: of all colors, (sum of n_rays, n_channels), a scalar.
        module: owns every parameter that the colors depend on.

    Returns:
        The loss, a scalar, differentiable in the parameters of `module` and in nothing else;
        under `torch.no_grad` the value alone.
    """
    is_single = len(chunks) == 1
    with torch.set_grad_enabled(is_single and torch.is_grad_enabled()):
        parts = [render(chunk) for chunk in chunks]
    if not torch.is_grad_enabled():
        return loss_of(torch.cat(parts))
    colors = torch.cat(parts).detach().requires_grad_()
    loss = loss_of(colors)
    (gradient,) = torch.autograd.grad(loss, colors)
    # Gradients of an image are tiny: a field in half precision would lose them.
    scale = torch.exp2(-gradient.abs().amax().clamp_min(TINY).log2().floor()) * LARGEST
    gradients = _Gradients([p for p in module.parameters() if p.requires_grad])
    shares = (gradient * scale).split([len(part) for part in parts])
    for chunk, part, share in zip(chunks, parts, shares, strict=True):
        gradients.add(part if is_single else render(chunk), share)
    return gradients.attached_to(loss.detach(), 1 / scale)


class _Gradients:
    """Gradients of parameters, accumulated chunk by chunk."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = parameters
        self.values = [torch.zeros_like(p) for p in self.parameters]

    def add(self, output: Tensor, grad_output: Tensor | None = None) -> None:
        found = torch.autograd.grad(output, self.parameters, grad_output, allow_unused=True)
        for value, more in zip(self.values, found, strict=True):
            if more is not None:
                value.add_(more)

    def attached_to(self, loss: Tensor, scale: Tensor | float = 1.0) -> Tensor:
        """The value of a loss, whose gradients are these times `scale`."""
        for value in self.values:
            value.mul_(scale)
        return attach_gradients(loss, self.values, self.parameters)
