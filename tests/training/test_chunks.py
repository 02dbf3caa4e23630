import torch
from torch import nn

from dietnerf.training.chunks import sum_in_chunks


def gradients(n_chunks: int) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor | None]]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    module.register_parameter("unused", nn.Parameter(torch.zeros(2)))
    data = torch.randn(12, 3).double()

    def loss_and_stats(chunk):
        squares = module(chunk).square()
        return squares.sum(), torch.stack([squares.sum(), torch.tensor(float(len(chunk)))])

    loss, stats = sum_in_chunks(loss_and_stats, data.chunk(n_chunks), module)
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
