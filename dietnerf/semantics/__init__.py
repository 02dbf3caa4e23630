"""What two images have in common: frozen image encoders."""

from dietnerf.semantics.base import AbstractImageEncoder
from dietnerf.semantics.clip import OpenCLIP

__all__ = ["AbstractImageEncoder", "OpenCLIP"]
