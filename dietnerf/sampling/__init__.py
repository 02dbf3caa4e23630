"""Samplers."""

from dietnerf.sampling.base import AbstractSampler
from dietnerf.sampling.importance import Importance
from dietnerf.sampling.occupancy import Occupancy
from dietnerf.sampling.proposal import Proposal
from dietnerf.sampling.stratified import Stratified

__all__ = ["AbstractSampler", "Importance", "Occupancy", "Proposal", "Stratified"]
