"""What is doubtful about the views of a capture, before time is spent on training with them."""

from collections.abc import Iterator

import torch

from dietnerf.data.dataset import ImageDataset
from dietnerf.errors import UserError
from dietnerf.geometry.alignment import focus_distances
from dietnerf.geometry.bounds import shared_share
from dietnerf.geometry.cameras import Cameras

NOTHING, LITTLE = 0.01, 0.3  # of what views see that another sees as well; good captures: 0.7 to 1
STILL = 1e-4  # that cameras move at least, in units of near
MOST_DEPTHS = 32  # of so many views the depth maps are looked into


def doubts(dataset: ImageDataset) -> list[str]:
    """Sentences about what may be wrong with training views.

    Raises:
        UserError: nothing can be learned from them.
    """
    return [*_doubts_of_motion(dataset.cameras), *_doubts_of_range(dataset)]


def _doubts_of_motion(cameras: Cameras) -> Iterator[str]:
    """What is odd about where cameras stand, or what they see in common."""
    n, near, far = len(cameras), float(cameras.near.min()), float(cameras.far.max())
    if n < 2:
        return
    is_still = bool((cameras.positions - cameras.positions[0]).abs().amax() < STILL * near)
    if is_still and bool((cameras.c2w[:, :, :3] - cameras.c2w[0, :, :3]).abs().amax() < STILL):
        raise UserError(
            f"all {n} training views have one and the same pose: the cameras do not move, so no "
            "depth follows from them; list the pose of each photo"
        )
    if is_still:
        yield (
            f"all {n} training views were taken from one place: without parallax depth stays open, "
            "and only what is seen from there can be shown"
        )
    share = shared_share(cameras)
    if share >= LITTLE:
        return
    distance = float(focus_distances(_matrices(cameras)).median())
    sentence = (
        f"{share:.0%} of the pixels of the {n} training views look, between near {near:.3g} and "
        f"far {far:.3g}, at a place that another view sees as well; the cameras look at a point "
        f"some {distance:.3g} away: set the reader's near and far, or check the poses"
    )
    if share < NOTHING:
        raise UserError(sentence)
    yield sentence


def _matrices(cameras: Cameras) -> torch.Tensor:
    last = torch.tensor([0.0, 0, 0, 1]).expand(len(cameras), 1, 4)
    return torch.cat([cameras.c2w, last], dim=1).double()


def _doubts_of_range(dataset: ImageDataset) -> Iterator[str]:
    """Whether most of what depth maps show lies outside of near and far."""
    if dataset.depths is None:
        return
    n = len(dataset)
    tried = torch.linspace(0, n - 1, min(n, MOST_DEPTHS)).round().long()
    depths = dataset.depths[tried].flatten(1)
    is_known = depths > 0
    near, far = (bound[tried, None] for bound in (dataset.cameras.near, dataset.cameras.far))
    inside = ((depths >= near) & (depths <= far))[is_known]
    if len(inside) and inside.float().mean() < 0.5:
        yield (
            f"the depth maps have a median of {float(depths[is_known].median()):.3g}, but near and "
            f"far are {float(near.min()):.3g} and {float(far.max()):.3g}, outside of which "
            f"{1 - float(inside.float().mean()):.0%} of them lie: set the reader's depth_unit, or "
            "near and far"
        )
