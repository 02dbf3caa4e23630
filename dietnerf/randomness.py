"""Random numbers that depend on the step: a resumed run draws what an unbroken one would."""

import hashlib

import torch


def step_generator(
    purpose: str, step: int, rank: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator for one purpose in one step on one process, derived from the seed of the run."""
    key = f"{torch.initial_seed()} {purpose} {step} {rank}"
    digest = hashlib.sha256(key.encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "little"))
