import pytest
import torch
from torch import nn

from dietnerf.chunks import chunked_backward, deferred_backprop


def gradients(n_chunks: int) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor | None]]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    module.register_parameter("unused", nn.Parameter(torch.zeros(2)))
    data = torch.randn(12, 3).double()

    def loss_and_stats(chunk):
        squares = module(chunk).square()
        return squares.sum(), torch.stack([squares.sum(), torch.tensor(float(len(chunk)))])

    loss, stats = chunked_backward(loss_and_stats, data.chunk(n_chunks), list(module.parameters()))
    (0.5 * loss).backward()
    return loss.detach(), stats, [p.grad for p in module.parameters()]


def test_chunks_change_neither_value_nor_gradient():
    whole_loss, whole_stats, whole = gradients(1)
    loss, stats, found = gradients(4)
    torch.testing.assert_close(loss, whole_loss)
    torch.testing.assert_close(stats, whole_stats)
    for gradient, expected in zip(found, whole, strict=True):
        # Every parameter gets a gradient, as distributed training needs; the unused one gets zeros.
        expected = torch.zeros(2) if expected is None else expected
        torch.testing.assert_close(gradient, expected)


def test_stats_carry_no_gradient():
    assert not gradients(3)[1].requires_grad


def loss_and_gradients(n_chunks: int, scale: float = 1.0, is_half: bool = False):
    """A loss of an image that is no sum over its pixels; without chunks as autograd has it."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3))

    def render(places: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.float16, enabled=is_half):
            return module(places).float()

    def loss_of(colors: torch.Tensor) -> torch.Tensor:
        return scale * (colors @ colors.T).square().mean().sqrt()

    places = torch.randn(12, 3)
    if n_chunks == 0:  # what it is to be the same as
        loss = loss_of(render(places))
    else:
        loss = deferred_backprop(render, places.chunk(n_chunks), loss_of, module)
    (0.5 * loss).backward()
    return loss.detach(), [p.grad for p in module.parameters()]


@pytest.mark.parametrize("n_chunks", [1, 2, 5])
def test_deferred_back_propagation_is_the_direct_gradient(n_chunks: int):
    (whole_loss, whole), (loss, found) = loss_and_gradients(0), loss_and_gradients(n_chunks)
    torch.testing.assert_close(loss, whole_loss)
    torch.testing.assert_close(found, whole)


@pytest.mark.parametrize("n_chunks", [1, 4])
def test_tiny_gradients_of_an_image_survive_half_precision(n_chunks: int):
    """Unscaled they would fall below what float16 holds."""
    _, exact = loss_and_gradients(0, scale=1e-8)
    _, found = loss_and_gradients(n_chunks, scale=1e-8, is_half=True)
    for gradient, expected in zip(found, exact, strict=True):
        torch.testing.assert_close(gradient / 1e-8, expected / 1e-8, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("n_chunks", [1, 3])
def test_without_gradients_there_is_the_value(n_chunks: int):
    module, places = nn.Linear(3, 3), torch.randn(12, 3)
    with torch.no_grad():
        loss = deferred_backprop(
            module, places.chunk(n_chunks), lambda x: x.square().mean(), module
        )
        torch.testing.assert_close(loss, module(places).square().mean())
    assert not loss.requires_grad
