"""Random numbers that depend on the step: a resumed run draws what an unbroken one would."""

import hashlib

import torch


def step_generator(
    purpose: str, step: int, rank: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator for one purpose in one step on one process, derived from the seed of the run."""
    return seeded(seed_of(purpose, step, rank), device)


def seed_of(purpose: str, step: int, rank: int) -> int:
    """What that generator is seeded with."""
    key = f"{torch.initial_seed()} {purpose} {step} {rank}"
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:7], "little")


def seeded(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for numbers that are wanted on a device; on the host for a TPU, which has none.

    What draws from it moves its numbers to where they are wanted.
    """
    own = torch.device(device).type in ("cpu", "cuda")
    return torch.Generator(device if own else "cpu").manual_seed(seed)


def moved(generator: torch.Generator, device: torch.device | str) -> torch.Generator:
    """A generator on a device, which a draw of the given one seeds."""
    return seeded(int(torch.randint(2**62, (1,), generator=generator)), device)
