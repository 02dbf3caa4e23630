"""SkippingAdam as an optimizer: against torch's, over groups, reloads, schedules and Lightning."""

import copy
import io
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from dietnerf.training.adam import SkippingAdam


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 16), nn.Softplus(), nn.Linear(16, 3))


def fit(module: nn.Module, optimizer: torch.optim.Optimizer, n_steps: int, start: int = 0) -> None:
    for step in range(start, start + n_steps):
        draw = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        module(torch.randn(8, 5, generator=draw)).square().mean().backward()
        optimizer.step()


def assert_same(a: nn.Module, b: nn.Module) -> None:
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    assert all(torch.equal(p, q) for p, q in pairs)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_is_torchs_where_no_gradient_is_zero(weight_decay: float) -> None:
    found = network()
    expected = copy.deepcopy(found)
    options: dict[str, Any] = {"lr": 1e-2, "betas": (0.8, 0.95), "eps": 1e-8}
    fit(found, SkippingAdam(found.parameters(), weight_decay=weight_decay, **options), 10)
    fit(
        expected, torch.optim.AdamW(expected.parameters(), weight_decay=weight_decay, **options), 10
    )
    for p, q in zip(found.parameters(), expected.parameters(), strict=True):
        # Ten steps of 1e-2, whose last places also come back through the gradients.
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


def test_rows_that_are_not_looked_up_stay() -> None:
    table = nn.Embedding(100, 2)
    optimizer = SkippingAdam(table.parameters(), lr=0.1, weight_decay=0.1)
    for rows in ([3, 4], [5], [3, 99]):
        before = table.weight.detach().clone()
        optimizer.zero_grad()
        table(torch.tensor(rows)).square().sum().backward()
        optimizer.step()
        has_moved = (table.weight != before).all(dim=1)
        assert has_moved.nonzero().flatten().tolist() == rows
        assert torch.equal(table.weight[~has_moved], before[~has_moved])


def test_a_reload_goes_on_to_the_same_bits() -> None:
    first = network()
    optimizer = SkippingAdam(first.parameters(), lr=1e-2)
    fit(first, optimizer, 3)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    second = copy.deepcopy(first)
    file.seek(0)
    reloaded = SkippingAdam(second.parameters(), lr=1.0)
    reloaded.load_state_dict(torch.load(file, weights_only=True))
    fit(first, optimizer, 3, start=3)
    fit(second, reloaded, 3, start=3)
    assert_same(first, second)
    assert reloaded.state[next(second.parameters())]["step"] == 6


def test_groups_have_their_own_options_and_what_has_no_gradient_is_left_out() -> None:
    slow, fast, idle = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    optimizer = SkippingAdam([{"params": [slow, idle]}, {"params": [fast], "lr": 0.1}], lr=0.01)
    (slow.sum() + fast.sum()).backward()
    optimizer.step()
    # The first step is the learning rate.
    torch.testing.assert_close(slow.detach(), torch.full((2,), -0.01))
    torch.testing.assert_close(fast.detach(), torch.full((2,), -0.1))
    assert torch.equal(idle, torch.zeros(2))
    assert idle not in optimizer.state


def test_a_closure_is_called_with_gradients_on() -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = SkippingAdam([parameter], lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3
    torch.testing.assert_close(parameter.detach(), torch.full((3,), 0.9))


def test_strides_do_not_matter() -> None:
    straight = nn.Parameter(torch.randn(6, 4))
    turned = nn.Parameter(straight.detach().t().contiguous().t())
    assert not turned.is_contiguous()
    for parameter in (straight, turned):
        optimizer = SkippingAdam([parameter], lr=0.1)
        for power in (2, 3, 4):
            optimizer.zero_grad()
            parameter.pow(power).sum().backward()
            optimizer.step()
    assert torch.equal(straight, turned)


def test_refuses_what_it_cannot_do() -> None:
    table = nn.Embedding(10, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="SkippingAdam: gradients must be dense"):
        SkippingAdam(table.parameters(), lr=0.1).step()
    for dtype in (torch.complex64, torch.bfloat16):
        parameter = nn.Parameter(torch.ones(2, dtype=dtype))
        parameter.grad = torch.ones(2, dtype=dtype)
        with pytest.raises(ValueError, match=f"parameter must be float32 or float64, got {dtype}"):
            SkippingAdam([parameter], lr=0.1).step()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr must be at least 0, got -1.0"),
        ({"eps": float("nan")}, "eps must be at least 0, got nan"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0, got -0.1"),
        ({"betas": (0.9, 1.0)}, r"betas must be in \[0, 1\), got \(0.9, 1.0\)"),
    ],
)
def test_refuses_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^SkippingAdam: {message}$"):
        SkippingAdam([nn.Parameter(torch.ones(1))], **{"lr": 0.1, **options})


class Fit(pl.LightningModule):
    """The network in Lightning, with a learning rate that halves every step."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()
        self.rates: list[float] = []

    def configure_optimizers(self) -> Any:
        optimizer = SkippingAdam(self.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.rates.append(self.optimizers().param_groups[0]["lr"])
        return self.network(batch).square().mean()

    def on_train_batch_end(self, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        norms = [p.grad.norm() for p in self.parameters()]
        assert torch.stack(norms).norm() <= 1e-3 * (1 + 1e-5)


def test_lightning_clips_and_schedules() -> None:
    module = Fit()
    before = copy.deepcopy(module.network)
    trainer = pl.Trainer(
        max_steps=4, accelerator="cpu", gradient_clip_val=1e-3, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(torch.randn(32, 5), batch_size=8))
    assert module.rates == pytest.approx([0.1, 0.05, 0.025, 0.0125])
    for p, q in zip(module.network.parameters(), before.parameters(), strict=True):
        assert not torch.equal(p, q)
