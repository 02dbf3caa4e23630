"""dietnerf: a scene to fly through, from a few photos."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dietnerf.errors import UserError
from dietnerf.machine import name_user

if TYPE_CHECKING:
    from dietnerf.geometry.cameras import Cameras
    from dietnerf.geometry.rays import Rays, Rendering, Samples

__version__ = "0.1.0"
__all__ = ["Cameras", "Rays", "Rendering", "Samples", "UserError", "__version__"]

_HOMES = {"Cameras": "cameras", "Rays": "rays", "Rendering": "rays", "Samples": "rays"}

name_user()


def __getattr__(name: str) -> Any:
    """What needs torch, which takes a second to import, where it is asked for: `dietnerf --help`
    does without."""
    if name not in _HOMES:
        raise AttributeError(f"module 'dietnerf' has no attribute {name!r}")
    return getattr(import_module(f"dietnerf.geometry.{_HOMES[name]}"), name)
