"""Checks that a checkpoint holds what it declares, before memory or time is spent."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from dietnerf.errors import UserError
from dietnerf.scene_model import SceneModel
from dietnerf.specs import built

MOST_VALUES = 1_000_000
BOXES = ("box", "bounds")  # buffers that are two corners


def check_weights(parts: dict[str, Any], weights: dict[str, Tensor], path: Path) -> None:
    """Check that weights have the shapes that the options declare, before memory is allocated.

    Args:
        parts: specs of field, sampler and refinement.
        weights: by their names in the scene.
        path: the file that they come from.

    Raises:
        UserError: they do not fit each other, or a weight is not finite.
    """
    with torch.device("meta"), _at_most(4 * len(weights) + 64, path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing is copied there
        scene = build_scene(parts)
        scene.load_state_dict(weights)
    for name, expected in scene.state_dict().items():
        found = weights[name]
        is_float = expected.is_floating_point()
        # Weights trained in bfloat16, as on TPUs, are loaded into float32.
        kinds = (expected.dtype, torch.bfloat16) if is_float else (expected.dtype,)
        if found.layout != torch.strided or found.dtype not in kinds:
            raise UserError(f"{name} is of {found.dtype}, {found.layout}; wanted {expected.dtype}")
        if is_float and (found.isnan() | (found == torch.inf)).any():
            raise UserError(f"{name} holds numbers that are not finite")
        if name.rsplit(".", 1)[-1] not in BOXES:
            continue
        if found.shape == (2, 3) and not (found[0] < found[1]).all():
            raise UserError(f"{name} is no box: its lowest corner must come first")
        if found.shape == (2, 3) and not (found[1] - found[0]).isfinite().all():
            raise UserError(f"{name} is larger than any box: its sides are not finite")


def build_scene(parts: dict[str, Any]) -> SceneModel:
    """A scene of specs by the names of its options."""
    return SceneModel(**{name: built(part) for name, part in parts.items()})


@contextmanager
def _at_most(n_tensors: int, path: Path) -> Iterator[None]:
    """Refuse to build modules with more parameters and buffers than that."""
    n_built = 0

    def count(*_: Any) -> None:
        nonlocal n_built
        n_built += 1
        if n_built > n_tensors:
            raise UserError(f"{path} declares more layers than it holds weights for")

    handles = [
        register_module_parameter_registration_hook(count),
        register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def check_values(checkpoint: Any, path: Path) -> None:
    """Refuse tensors that are larger than the bytes behind them, and too many values."""
    found, n_values = [checkpoint], 0
    while found:
        value = found.pop()
        n_values += 1
        if n_values > MOST_VALUES:
            raise UserError(f"{path} holds more values than any checkpoint of dietnerf")
        if isinstance(value, dict):
            found += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set):
            found += value
        elif isinstance(value, Tensor) and not _is_backed(value):
            raise UserError(
                f"{path} declares a tensor of {tuple(value.shape)} that it does not hold"
            )


def _is_backed(tensor: Tensor) -> bool:
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
