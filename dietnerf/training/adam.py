"""Adam for parameters of which few elements have a gradient in a step, such as hash tables."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from dietnerf.ops import adam_rule, adam_step


class SkippingAdam(torch.optim.Optimizer):
    """Adam that leaves elements whose gradient is exactly zero, and their moments, as they are.

    See `dietnerf.ops.adam_step` for the formula. Where no gradient is zero, this is
    `torch.optim.Adam`, or `AdamW` with weight decay. Takes dense float32 and float64 parameters;
    those that are not contiguous go through a copy.

    Args:
        params: parameters or groups of them, as for any optimizer.
        lr: learning rate.
        betas: decays of the first and the second moment, in [0, 1).
        eps: added to the root; instant-ngp's value, small as the gradients of a hash table are.
        weight_decay: decoupled from the gradient, times `lr`.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-15,
        weight_decay: float = 0.0,
    ) -> None:
        for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
            if not value >= 0:
                raise ValueError(f"SkippingAdam: {name} must be at least 0, got {value}")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"SkippingAdam: betas must be in [0, 1), got {betas}")
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)
        self._clock = 0  # steps since this was made
        self._rules: dict[tuple[int, int], Tensor] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step, and return what `closure` returns, which is called first if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.count([p for group in self.param_groups for p in group["params"]])
        self.move()
        return loss

    def count(self, parameters: Sequence[Tensor], has_gradients: bool = False) -> None:
        """The first half of a step: advances the counts of steps, and sets the rates of the
        parameters.

        Args:
            parameters: of this step; those without a gradient are skipped unless `has_gradients`.
        """
        self._clock += 1
        wanted = {p for p in parameters if has_gradients or p.grad is not None}
        for number, group in enumerate(self.param_groups):
            taken: dict[int, Tensor] = {}  # steps, each with a parameter that takes it
            for parameter in group["params"]:
                if parameter in wanted:
                    state = self._begun(parameter)
                    state["step"] += 1
                    taken[state["step"]] = parameter
            for step, parameter in taken.items():
                self._write(self._key(number, step), step, group, parameter.device)

    def _begun(self, parameter: Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self.state[parameter]
        if not state:
            state["step"] = 0
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
        return state

    def _key(self, group: int, step: int) -> tuple[int, int]:
        """Of parameters that move alike from step to step."""
        return group, self._clock - step

    def _write(
        self, key: tuple[int, int], step: int, group: dict[str, Any], device: torch.device
    ) -> None:
        beta1, beta2 = group["betas"]
        rule = adam_rule(step, group["lr"], beta1, beta2, group["weight_decay"])
        if key in self._rules:
            self._rules[key].copy_(rule, non_blocking=True)  # or it would wait for the GPU
        else:
            self._rules[key] = rule.to(device)

    @torch.no_grad()
    def move(self) -> None:
        """The second half: updates the parameters. It can be part of a CUDA graph, as all that
        changes from step to step is read from the device."""
        for number, group in enumerate(self.param_groups):
            for parameter in group["params"]:
                if parameter.grad is not None:
                    rule = self._rules[self._key(number, self.state[parameter]["step"])]
                    self._move(parameter, parameter.grad, rule, group)

    def _move(self, parameter: Tensor, grad: Tensor, rule: Tensor, group: dict[str, Any]) -> None:
        if grad.layout != torch.strided:
            raise ValueError(f"SkippingAdam: gradients must be dense, got {grad.layout}")
        state = self.state[parameter]
        beta1, beta2 = group["betas"]
        value = parameter.contiguous()
        adam_step(
            value,
            grad.contiguous(),
            state["exp_avg"],
            state["exp_avg_sq"],
            rule,
            beta1,
            beta2,
            group["eps"],
        )
        if not parameter.is_contiguous():
            parameter.copy_(value)
