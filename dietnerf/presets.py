"""Which preset suits a capture."""

from dataclasses import dataclass

from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.poses import face_one_way

FEW = 9  # photos from one side, up to which detail must be held back


@dataclass(frozen=True)
class Preset:
    """Files of `configs`, each an overlay of those before it.

    Args:
        configs: their names.
        reason: why they suit, as part of a sentence.
    """

    configs: tuple[str, ...]
    reason: str

    @property
    def options(self) -> str:
        """The preset on the command line."""
        return " ".join(f"--config configs/{name}.yaml" for name in self.configs)


def preset_for(cameras: Cameras) -> Preset:
    """The preset for photos of a scene with what lies behind it, by how they were taken.

    Where the field's box lies follows from the cameras in any of them (`surroundings_of`).
    """
    n = len(cameras)
    if not face_one_way(cameras):
        return Preset(("photos",), f"{n} photos that look in different directions")
    if n > FEW:
        return Preset(("photos",), f"{n} photos from one side")
    return Preset(("photos", "forward-few"), f"only {n} photos, all from one side")
