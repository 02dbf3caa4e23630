"""dietnerf: a scene to fly through, from a few photos."""

from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Rays, Rendering, Samples
from dietnerf.machine import name_user

__version__ = "0.1.0"
__all__ = ["Cameras", "Rays", "Rendering", "Samples", "UserError", "__version__"]

name_user()
