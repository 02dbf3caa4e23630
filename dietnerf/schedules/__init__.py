"""What changes by the step: which details a field may show, and what of a ray is looked at."""

from dietnerf.schedules.base import AbstractSchedule
from dietnerf.schedules.details import DirectionAnnealing, LevelAnnealing, RadiusAnnealing
from dietnerf.schedules.near_far import NearFarAnnealing

__all__ = [
    "AbstractSchedule",
    "DirectionAnnealing",
    "LevelAnnealing",
    "NearFarAnnealing",
    "RadiusAnnealing",
]
