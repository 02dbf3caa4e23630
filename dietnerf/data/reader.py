"""What a reader of a format is: it lists the views of a split, and reads the pixels of some."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from dietnerf.data.dataset import ImageDataset, Split
from dietnerf.errors import printable
from dietnerf.geometry.cameras import Cameras

LONGEST_NAME = 100  # of a view, which names files, too


@dataclass(frozen=True)
class DatasetIndex:
    """The views of a split, before their pixels are read.

    Args:
        cameras: one for each view.
        view_ids: as in `ImageDataset`, (n,).
        names: as in `ImageDataset`, n of them.
        bytes_per_view: memory that each view takes once it is read.
        load: reads the views at the given positions, in that order.
    """

    cameras: Cameras
    view_ids: Tensor
    names: tuple[str, ...]
    bytes_per_view: int
    load: Callable[[list[int]], ImageDataset]

    def __len__(self) -> int:
        return len(self.names)

    def read(self, keep: list[int] | None = None) -> ImageDataset:
        """The views at positions `keep`, in that order, or all.

        Raises:
            UserError: the file of one of them is broken.
        """
        return self.load(list(range(len(self))) if keep is None else keep)


def view_names(files: list[str]) -> tuple[str, ...]:
    """What views are called by the names of their files: without folders, or with them joined where
    the same one comes twice."""
    short = [Path(name).stem for name in files]
    if len(set(short)) < len(short):
        short = [str(Path(name).with_suffix("")).replace("/", "_") for name in files]
    plain = [printable(name)[:LONGEST_NAME] for name in short]
    if len(set(plain)) == len(plain):
        return tuple(plain)
    return tuple(f"{name}_{i}" for i, name in enumerate(plain))


class AbstractReader(ABC):
    """Reads a capture in one format. To add a format, write one file with one final subclass.

    `downscale` is how many times smaller than the files its images are, once a split was listed.
    """

    downscale: float = 1.0

    @abstractmethod
    def listing(self, split: Split) -> DatasetIndex | None:
        """The views of a split, or None where the capture has no such split.

        Raises:
            UserError: a file is missing, broken, or says something impossible.
        """

    def read(self, split: Split) -> ImageDataset | None:
        """All views of a split with their pixels."""
        listing = self.listing(split)
        return None if listing is None else listing.read()

    def cameras(self, split: Split) -> Cameras | None:
        """The cameras of a split."""
        listing = self.listing(split)
        return None if listing is None else listing.cameras
