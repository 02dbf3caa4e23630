"""Schedules: which frequency bands of a field count, and which part of a ray is sampled."""

from dietnerf.schedules.base import AbstractSchedule
from dietnerf.schedules.level_annealing import LevelAnnealing

__all__ = [
    "AbstractSchedule",
    "LevelAnnealing",
]
