"""What readers of photographs share: from the frames that a listing names to images of one size."""

from abc import abstractmethod
from dataclasses import replace
from pathlib import Path

from dietnerf.data.dataset import Split
from dietnerf.data.error_collector import ErrorCollector
from dietnerf.data.frames import Frame, warn_off_center
from dietnerf.data.image_loading import ImageLoader, Size, cameras_of, size_of
from dietnerf.data.images import ResizeAlpha, read_header
from dietnerf.data.memory import Downscale, auto_downscale, check_downscale
from dietnerf.data.reader import AbstractReader, DatasetIndex


class AbstractFrameReader(AbstractReader):
    """A reader of photographs that may differ in size, camera and lens.

    Photographs of unlike size stand at the upper left of one canvas; masks say what of it counts.
    EXIF orientation: listings of COLMAP, LLFF, instant-ngp and nerfstudio mean the pixels as they
    are stored. Only where the size that a listing names fits the photograph turned upright alone,
    it is turned.

    Args:
        downscale: how many times smaller than the size in the listing the images become along each
            side, 1 or more; see `auto_downscale` for auto.
        resize_alpha: what is averaged then, see `shrink`.
        pixel_centers: rays pass through the centers of pixels, or else their upper left corners.
    """

    folder: Path

    def __init__(
        self,
        downscale: Downscale,
        resize_alpha: ResizeAlpha = "straight",
        pixel_centers: bool = True,
    ) -> None:
        check_downscale(downscale)
        self.is_auto = downscale == "auto"
        self.downscale = 1.0 if downscale == "auto" else downscale
        self.resize_alpha = resize_alpha
        self.pixel_centers = pixel_centers

    @property
    def premultiplies(self) -> bool:
        """Whether colors are weighted by alpha."""
        return self.downscale > 1 and self.resize_alpha == "premultiplied"

    @abstractmethod
    def frames(self, split: Split, problems: ErrorCollector) -> list[Frame] | None:
        """The photographs of a split that nothing is wrong with so far, or None where there is no
        such split."""

    def listing(self, split: Split) -> DatasetIndex | None:
        if self.is_auto:
            self.downscale, self.is_auto = self._fitting(), False
        problems = ErrorCollector(self.folder)
        frames = self.frames(split, problems)
        sized = self._sizes(frames or [], problems)
        problems.stop()
        if frames is None:
            return None
        warn_off_center(self.folder, [frame.intrinsics for frame in frames])
        cameras = cameras_of(sized)
        if not self.pixel_centers:  # a corner is the center with the principal point moved
            cameras = replace(cameras, center=cameras.center + 0.5)
        return ImageLoader(self.folder, sized, cameras, self.premultiplies).listing()

    def _fitting(self) -> float:
        """The downscale that suits the training photographs."""
        problems = ErrorCollector(self.folder)
        frames = self.frames("train", problems) or []
        full, n_channels, least = [], 3, 1.0
        for frame in frames:
            with problems.caught():
                header, size = read_header(frame.path), frame.intrinsics
                n_channels = max(n_channels, header.n_channels)
                full.append((size.width, size.height))
                least = max(least, max(full[-1]) / max(header.width, header.height))
        problems.stop()
        return auto_downscale(full, n_channels, least)

    def _sizes(self, frames: list[Frame], problems: ErrorCollector) -> list[tuple[Frame, Size]]:
        sized = []
        for frame in frames:
            with problems.caught():
                sized.append((frame, size_of(frame, self.downscale)))
        return sized
