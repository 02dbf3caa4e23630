"""Checks of an optimizer's state in a checkpoint before it is loaded."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dietnerf.errors import UserError


def checked_state(optimizer: Optimizer, saved: Any) -> dict[str, Any]:
    """The saved state with the optimizer's own options: a hook for `load_state_dict`.

    Args:
        optimizer: it is to be loaded into.
        saved: result of `state_dict`; of its options only the learning rate is used.

    Raises:
        UserError: it does not fit the parameters.
    """
    own = optimizer.param_groups
    parameters = [p for group in own for p in group["params"]]
    try:
        groups, states = saved["param_groups"], saved["state"]
        numbers = [n for group in groups for n in group["params"]]
        rates = [group["lr"] for group in groups]
        sizes = [len(group["params"]) for group in groups]
        moments = [(n, name, value) for n, state in states.items() for name, value in state.items()]
    except (TypeError, LookupError, AttributeError) as error:
        raise UserError("the checkpoint's optimizer state is of another form") from error
    if sizes != [len(group["params"]) for group in own] or numbers != list(range(len(parameters))):
        raise UserError("the checkpoint's optimizer state is that of other parameters")
    if not all(isinstance(rate, float) and 0 <= rate < math.inf for rate in rates):
        raise UserError(f"the checkpoint's optimizer state has learning rates {rates!r:.60}")
    for number, name, value in moments:
        if number not in range(len(parameters)) or not _fits(name, value, parameters[number]):
            raise UserError(f"the checkpoint's optimizer state has an impossible {name!r:.30}")
    kept = [
        {**group, "lr": rate, "params": there["params"]}
        for group, rate, there in zip(own, rates, groups, strict=True)
    ]
    return {"state": states, "param_groups": kept}


def _fits(name: Any, value: Any, parameter: Tensor) -> bool:
    if name == "step":
        count = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
        return isinstance(count, int | float) and 0 <= count < 2**53 and count == int(count)
    return (
        isinstance(value, Tensor)
        and value.shape == parameter.shape
        and value.dtype == parameter.dtype
        and value.layout == torch.strided
        and value.is_contiguous()
        and bool(value.isfinite().all())
    )
