"""dietnerf: a scene to fly through, from a few photos."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dietnerf.errors import UserError
from dietnerf.machine import name_user

if TYPE_CHECKING:
    from dietnerf.geometry.cameras import Cameras
    from dietnerf.geometry.rays import Rays, Rendering, Samples
    from dietnerf.scene_model import SceneModel

__version__ = "0.1.0"
__all__ = [
    "Cameras",
    "Rays",
    "Rendering",
    "Samples",
    "SceneModel",
    "UserError",
    "__version__",
    "load",
]

_HOMES = {
    "Cameras": "geometry.cameras",
    "Rays": "geometry.rays",
    "Rendering": "geometry.rays",
    "Samples": "geometry.rays",
    "SceneModel": "scene_model",
}

name_user()


def __getattr__(name: str) -> Any:
    """Lazy imports of what needs torch, which takes a second to import and which `dietnerf --help`
    does not need."""
    if name not in _HOMES:
        raise AttributeError(f"module 'dietnerf' has no attribute {name!r}")
    return getattr(import_module(f"dietnerf.{_HOMES[name]}"), name)


def load(path: Path | str, device: str = "cpu") -> "SceneModel":
    """A trained scene, ready to render.

    Args:
        path: folder of a run, a checkpoint file, a file of splats, or `hf://owner/name` of the
            model hub.
        device: where it renders.

    Raises:
        UserError: there is no checkpoint, it cannot be read, or there is no such device.
    """
    from dietnerf.devices import usable_device
    from dietnerf.runs.checkpoints import find_checkpoint, load_scene

    to = usable_device(device, "load: device")
    return load_scene(find_checkpoint(path)).to(to)
