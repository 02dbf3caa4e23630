"""Which devices the host must wait for before it reads a value."""

import torch

SYNC_FREE_DEVICES = ("cpu",)  # on which `.item()`, `nonzero` and the like do not wait for a queue


def is_sync_free(device: torch.device) -> bool:
    """Whether the host can read a value from a tensor on the device without waiting."""
    return device.type in SYNC_FREE_DEVICES
