"""Schedules of the learning rate."""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch

from dietnerf.errors import UserError


class AbstractLearningRate(ABC):
    """A schedule of the learning rate. To add one, write one final subclass here.

    Args:
        initial: learning rate at step 0.
    """

    def __init__(self, initial: float = 5e-4) -> None:
        if not 0 < initial < math.inf:
            raise UserError(f"the learning rate's initial is {initial}; it must be positive")
        self.initial = initial

    @abstractmethod
    def __call__(self, step: int, max_steps: int) -> float:
        """Learning rate at a step of a run of `max_steps`."""


class Schedule(torch.optim.lr_scheduler.LambdaLR):
    """LambdaLR that restores the step alone from a checkpoint; torch's restores any attribute."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the step.

        Raises:
            UserError: the state has none.
        """
        step = state_dict.get("last_epoch") if isinstance(state_dict, dict) else None
        if type(step) is not int or not 0 <= step < 2**53:
            raise UserError(f"the checkpoint's learning-rate schedule is at step {step!r:.60}")
        rates = [group["lr"] for group in self.optimizer.param_groups]
        state = {"last_epoch": step, "_step_count": step + 1, "_last_lr": rates}
        super().load_state_dict(self.state_dict() | state)


class Exponential(AbstractLearningRate):
    """initial * rate^(step / decay_steps): the DietNeRF authors' schedule, 2.0e-4 after their
    200,000 steps.

    Args:
        initial: learning rate at step 0.
        rate: factor after `decay_steps`.
        decay_steps: in steps, whatever the length of the run.
    """

    def __init__(
        self, initial: float = 5e-4, rate: float = 0.1, decay_steps: int = 500_000
    ) -> None:
        super().__init__(initial)
        self.rate = rate
        self.decay_steps = decay_steps

    def __call__(self, step: int, max_steps: int) -> float:
        return self.initial * self.rate ** (step / self.decay_steps)


class LogLinear(AbstractLearningRate):
    """Straight in the logarithm from `initial` to `final` over the run: JaxNeRF's schedule.

    Args:
        initial: learning rate at step 0 (but for the delay).
        final: learning rate at the last step.
        delay_steps: length of a warm-up along a quarter of a sine.
        delay_factor: factor at the start of the warm-up.
    """

    def __init__(
        self,
        initial: float = 5e-4,
        final: float = 5e-6,
        delay_steps: int = 0,
        delay_factor: float = 1.0,
    ) -> None:
        super().__init__(initial)
        if not 0 < final < math.inf:
            raise UserError(f"the learning rate's final is {final}; it must be positive")
        self.final = final
        self.delay_steps = delay_steps
        self.delay_factor = delay_factor

    def __call__(self, step: int, max_steps: int) -> float:
        share = min(step / max_steps, 1.0)
        value = math.exp((1 - share) * math.log(self.initial) + share * math.log(self.final))
        if self.delay_steps > 0:
            progress = min(step / self.delay_steps, 1.0)
            rise = math.sin(math.pi / 2 * progress)
            value *= self.delay_factor + (1 - self.delay_factor) * rise
        return value
