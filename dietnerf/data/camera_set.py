"""The cameras of a scene without its photographs: what a checkpoint needs of them."""

from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor

from dietnerf.data.dataset import SPLITS, Split
from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras, is_tensor


@dataclass(frozen=True)
class CameraSet:
    """What a checkpoint keeps of its dataset, so that it renders without the photographs.

    Args:
        cameras: of each split that is known.
        view_ids: numbers of the views of each split that was read.
        background: the color behind the scene, (3,).
    """

    cameras: dict[Split, Cameras]
    view_ids: dict[Split, list[int]]
    background: Tensor

    def to_dict(self) -> dict[str, Any]:
        """Plain containers and tensors, which load without running code."""
        return {
            "cameras": {split: cameras.to_dict() for split, cameras in self.cameras.items()},
            "view_ids": self.view_ids,
            "background": self.background,
        }

    @classmethod
    def from_dict(cls, saved: Any) -> Self:
        """What `to_dict` gave.

        Raises:
            UserError: it is something else, or no camera could be like that.
        """
        if not isinstance(saved, dict) or saved.keys() != {f.name for f in fields(cls)}:
            raise UserError(
                "the camera set has other entries than cameras, view_ids and background"
            )
        cameras, view_ids, background = (saved[f.name] for f in fields(cls))
        for name, splits in (("cameras", cameras), ("view_ids", view_ids)):
            if not isinstance(splits, dict) or not splits.keys() <= set(SPLITS):
                raise UserError(f"the camera set's {name} must be given for {', '.join(SPLITS)}")
        for ids in view_ids.values():
            if not isinstance(ids, list) or not all(type(i) is int and i >= 0 for i in ids):
                raise UserError(
                    f"the camera set's view_ids must be numbers of views, got {ids!r:.60}"
                )
        if (
            not is_tensor(background, (3,), torch.float32)
            or not ((background >= 0) & (background <= 1)).all()
        ):
            raise UserError("the camera set's background must be a color, three numbers in [0, 1]")
        found = {split: Cameras.from_dict(values) for split, values in cameras.items()}
        return cls(found, view_ids, background)
