"""Frozen image encoders, which embed what an image shows."""

from dietnerf.semantics.base import AbstractImageEncoder
from dietnerf.semantics.clip import OpenCLIP

__all__ = ["AbstractImageEncoder", "OpenCLIP"]
