"""Schedules: what changes with the training step."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from dietnerf.errors import UserError
from dietnerf.fields.base import AbstractField
from dietnerf.geometry.rays import Rays


@dataclass(frozen=True)
class Progress:
    """Progress of a run.

    Args:
        step: optimization steps taken so far.
        n_steps: steps of the whole run.
    """

    step: int
    n_steps: int

    def within(self, share: float) -> float:
        """Progress within the first `share` of the run, 0 to 1."""
        return 1.0 if share == 0 else min(1.0, self.step / (share * self.n_steps))


class AbstractSchedule(ABC):
    """Something that depends on the step alone. To add one, write one file with one final subclass.

    What is set on a field stays with it in checkpoints.
    """

    def check(self, field: AbstractField) -> None:  # noqa: B027  (not all have to)
        """Called before anything is written.

        Raises:
            UserError: the field lacks what the schedule changes.
        """

    @abstractmethod
    def apply(self, progress: Progress, field: AbstractField, rays: Rays) -> Rays:
        """Called before every training step, with its rays.

        Returns:
            The rays of this step, with near and far as they are to be sampled.
        """


def checked_share(name: str, share: float) -> float:
    """A share of the run.

    Raises:
        UserError: it is not from 0 to 1.
    """
    if not 0 <= share <= 1:
        raise UserError(f"{name} is {share}; it must be a share of the run, from 0 to 1")
    return share


def require_levels(field: AbstractField, name: str) -> None:
    """Refuse a field without levels of detail for a schedule that needs them.

    Raises:
        UserError: it has none.
    """
    if not field.frequency_bands():
        raise UserError(f"{name}: {type(field).__name__} has no levels of detail to anneal")
