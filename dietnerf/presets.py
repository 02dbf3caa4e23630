"""Which preset suits a capture."""

from dataclasses import dataclass

from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.canvas import check_drawable
from dietnerf.geometry.poses import face_one_way

FEW = 9  # photos from one side, up to which detail must be held back
MANY = 20  # photos from which on Gaussians are taken; measured at 24 and more
FEWEST, SOME = 6, 24  # photos of an object, up to which the presets for few of them help


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
        return " ".join(f"--config {name}" for name in self.configs)


def preset_for(
    cameras: Cameras,
    n_views: int | None = None,
    is_cut_out: bool = False,
    has_depths: bool = False,
    needs_field: bool = False,
) -> Preset:
    """The preset for a capture, by how its photos were taken.

    Where the field's box lies follows from the cameras in any of them (`surroundings_of`).

    Args:
        cameras: those that can be trained on.
        n_views: how many of them are; all by default.
        is_cut_out: nothing is behind what the photos show. `alpha.yaml`, which knows where, gains
            nothing over `object-8view.yaml` (docs/results.md).
        has_depths: sparse points or depth maps say how far away some of what they show is.
        needs_field: options were chosen that Gaussians do not have.
    """
    n = len(cameras) if n_views is None else n_views
    if is_cut_out:
        if n > SOME:
            return Preset(("fast", "dense"), f"{n} photos of an object that is cut out")
        few = "object-4view" if n <= FEWEST else "object-8view"
        return Preset(("fast", few), f"only {n} photos of an object that is cut out")
    is_one_sided = face_one_way(cameras)
    if is_one_sided and n <= FEW:
        return Preset(("photos", "forward-few"), f"only {n} photos, all from one side")
    looks = "from one side" if is_one_sided else "that look in different directions"
    reason = f"{n} photos {looks}" + (", with points whose depth is known" if has_depths else "")
    field = ("photos", "points") if has_depths else ("photos",)
    if n < MANY or needs_field:
        return Preset(field, reason)
    if not _are_drawable(cameras):
        return Preset(field, f"{reason}, by a lens too wide for Gaussians")
    return Preset(("photos", "gaussians"), f"{reason}, {MANY} or more")


def _are_drawable(cameras: Cameras) -> bool:
    """Whether Gaussians can be drawn as the cameras show them: not by a fisheye."""
    try:
        check_drawable(cameras)
    except UserError:
        return False
    return True
