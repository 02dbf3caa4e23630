"""A reader of one's own: photographs of one size in a folder, whose cameras stand in `cameras.npz`.

    PYTHONPATH=examples dietnerf fit --config configs/quickstart.yaml --run runs/npz \
        --data.reader custom_reader.NPZ --data.reader.init_args.root my/folder
"""

from pathlib import Path
from typing import final

import numpy as np
import torch

from dietnerf import Cameras, UserError
from dietnerf.data import AbstractReader, ImageDataset, Split
from dietnerf.data.images import read_image
from dietnerf.data.reader import DatasetIndex


@final
class NPZ(AbstractReader):
    """The last photograph is for testing, the others are for training.

    Args:
        root: folder with `cameras.npz`, whose `c2w` (n, 3, 4), `focal` (n, 2), `center` (n, 2),
            `near` and `far` (n,) are as in `Cameras`, and n PNGs in the order of their names.
    """

    def __init__(self, root: str) -> None:
        self.root = Path(root)

    def listing(self, split: Split) -> DatasetIndex | None:
        if split == "val":  # taken from the photographs that training leaves over
            return None
        paths = sorted(self.root.glob("*.png"))
        if len(paths) < 2 or not (self.root / "cameras.npz").is_file():
            raise UserError(f"{self.root} needs cameras.npz and two PNGs or more: add them")
        saved = np.load(self.root / "cameras.npz")
        height, width, n_channels = read_image(paths[0]).shape
        values = {name: torch.from_numpy(saved[name]).float() for name in saved.files}
        everything = Cameras(**values, width=width, height=height)
        ids = [len(paths) - 1] if split == "test" else list(range(len(paths) - 1))

        def load(keep: list[int]) -> ImageDataset:
            chosen = [ids[i] for i in keep]
            images = torch.stack([read_image(paths[i]) for i in chosen])
            names = tuple(paths[i].stem for i in chosen)
            return ImageDataset(images, everything[chosen], torch.tensor(chosen), names)

        names = tuple(paths[i].stem for i in ids)
        size = height * width * n_channels
        return DatasetIndex(everything[ids], torch.tensor(ids), names, size, load)
