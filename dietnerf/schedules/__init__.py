"""What changes by the step: which details a field may show, and what of a ray is looked at."""

from dietnerf.schedules.base import AbstractSchedule
from dietnerf.schedules.direction_annealing import DirectionAnnealing
from dietnerf.schedules.level_annealing import LevelAnnealing
from dietnerf.schedules.near_far_annealing import NearFarAnnealing
from dietnerf.schedules.radius_annealing import RadiusAnnealing

__all__ = [
    "AbstractSchedule",
    "DirectionAnnealing",
    "LevelAnnealing",
    "NearFarAnnealing",
    "RadiusAnnealing",
]
