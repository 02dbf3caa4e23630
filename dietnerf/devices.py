"""Devices of torch by the names that a user gives."""

import warnings
from typing import Any

import torch

from dietnerf.errors import UserError


def usable_device(name: Any, option: str) -> torch.device:
    """A device, once a number was put on it and read again.

    Args:
        name: as torch calls it, "cpu" or "cuda:1"; or the device.
        option: what names it, for the message.

    Raises:
        UserError: it is none, or not in this machine.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of names that torch had once
            device = torch.device(name)
    except (RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"{option} {name!s:.60} cannot be used here: it is no device of torch, so use "
            f"{_there()}"
        ) from error
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0]
        why = f" ({reason:.100})" if device.type == "cuda" else ""
        raise UserError(f"{option} {device} cannot be used here{why}: use {_there()}") from error
    return device


def _there() -> str:
    """The devices of this machine, as part of a sentence."""
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    mps = ["mps"] * torch.backends.mps.is_available()
    return " or ".join(["cpu", *gpus, *mps])
