"""The history of a trained field, as its checkpoints hold it."""

from dataclasses import dataclass, fields
from typing import Any, Self

from dietnerf.errors import UserError

MOST = 2**64  # of what a history counts


@dataclass
class History:
    """How a field came to be.

    Args:
        seed: of the run; initial weights, rays and jitter follow from it.
        steps: optimization steps taken.
        seconds: spent in those steps.
        rate_factor: of the learning rate, below 1 once training went back from numbers that were
            not finite.
        has_restarted: whether it began anew, with that seed, after a field had collapsed.
    """

    seed: int
    steps: int = 0
    seconds: float = 0.0
    rate_factor: float = 1.0
    has_restarted: bool = False

    @classmethod
    def from_dict(cls, saved: Any) -> Self:
        """What `asdict` made of one.

        Raises:
            UserError: it is of another form, or a number is out of its range.
        """
        kinds = {field.name: field.type for field in fields(cls)}
        if not isinstance(saved, dict) or saved.keys() != kinds.keys():
            raise UserError("the checkpoint's history has other entries than those of a run")
        for name, value in saved.items():
            is_number = type(value) is kinds[name] and 0 <= value <= MOST
            if not is_number:
                raise UserError(f"the checkpoint's history has {name} {value!r:.60}")
        return cls(**saved)
