"""Parameters in groups, each with its learning rate and weight decay."""

from itertools import chain
from typing import Any, Literal

import torch

from dietnerf.training.adam import SkippingAdam
from dietnerf.training.objective import Objective
from dietnerf.training.optimizer_state import checked_state

Kind = Literal["adam", "skipping_adam"]


def make_optimizer(
    kind: Kind, objective: Objective, rate: float, table_decay: float, fused: bool = False
) -> torch.optim.Optimizer:
    """An optimizer of the parameters of an objective. Weight decay applies to tables; corrections
    of cameras and photographs have learning rates and decays of their own.

    Args:
        rate: the learning rate at step 0.
        table_decay: decoupled weight decay of the field's tables.
        fused: let `adam` make one pass over each parameter, on a CPU or a GPU. It would unscale
            gradients by itself, so that callbacks saw them scaled: not with a loss scale.
    """
    tables = objective.field.grid_parameters()
    parts: list[Any] = [objective.refinement, objective.exposure]
    corrections = [part for part in parts if part is not None]
    learned = [[p for p in part.parameters() if p.requires_grad] for part in corrections]
    apart = {id(p) for p in (*tables, *chain(*learned))}
    factors = objective.field.learning_rates()
    named = dict(objective.field.named_parameters())
    own_rates = [{"params": [named[n]], "lr": x * rate} for n, x in factors.items()]
    apart |= {id(named[name]) for name in factors}
    others = [p for p in objective.parameters() if id(p) not in apart]
    groups: list[dict[str, Any]] = [{"params": others, "weight_decay": 0.0}] if others else []
    groups += [{**group, "weight_decay": 0.0} for group in own_rates]
    if tables:
        groups.append({"params": list(tables), "weight_decay": table_decay})
    for part, own in zip(corrections, learned, strict=True):
        groups.append({"params": own, "lr": part.rate * rate, "weight_decay": part.decay})
    optimizer: torch.optim.Optimizer
    if kind == "skipping_adam":
        optimizer = SkippingAdam(groups, lr=rate)
    else:  # AdamW without decay is Adam
        optimizer = torch.optim.AdamW(groups, lr=rate, fused=fused)
    optimizer.register_load_state_dict_pre_hook(checked_state)
    return optimizer
