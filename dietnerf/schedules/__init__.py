"""What changes by the step: which details a field may show, and what of a ray is looked at."""

from dietnerf.schedules.base import AbstractSchedule
from dietnerf.schedules.level_annealing import LevelAnnealing

__all__ = [
    "AbstractSchedule",
    "LevelAnnealing",
]
