"""Scenes that need no download: solids in closed form, and the reader that traces them."""

from dietnerf.data.procedural.reader import Procedural

__all__ = ["Procedural"]
