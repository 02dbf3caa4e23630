"""Pictures that are there in time: small ones first, as large as the time allows."""

import time
from collections.abc import Callable, Iterator

from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Rendering

FINER = 4  # times as many pixels along each side from one picture to the next
FIRST_GUESS = 1e-3  # seconds of a pixel before anything was rendered: a slow field
PROBE = 16  # pixels along a side of the first rendering


class Preview:
    """Renders single cameras, and learns how long a pixel takes.

    Args:
        render: the whole image of one camera.
    """

    def __init__(self, render: Callable[[Cameras], Rendering]) -> None:
        self._render = render
        self.seconds_per_pixel = FIRST_GUESS

    def warm_up(self, cameras: Cameras) -> None:
        """Render a few pixels, so that the next picture knows its pace."""
        probe = cameras.resized(PROBE, PROBE)
        for _ in range(2):  # a first call takes longer
            self.render(probe)

    def render(self, cameras: Cameras) -> Rendering:
        """The image of one camera, (height * width) rays row by row."""
        start = time.perf_counter()
        rendering = self._render(cameras)
        n_pixels = cameras.width * cameras.height
        if n_pixels >= PROBE**2:  # fewer tell more of the call than of the pixels
            self.seconds_per_pixel = (time.perf_counter() - start) / n_pixels
        return rendering

    def shrink(self, cameras: Cameras, seconds: float) -> int:
        """By which power of two both sides must be divided to be rendered within `seconds`."""
        shrink = 1
        while self.seconds_of(cameras, shrink) > seconds and min(shrunk_size(cameras, shrink)) > 8:
            shrink *= 2
        return shrink

    def seconds_of(self, cameras: Cameras, shrink: int) -> float:
        """What a picture is expected to take."""
        width, height = shrunk_size(cameras, shrink)
        return self.seconds_per_pixel * width * height

    def shrinks(self, cameras: Cameras, seconds: float) -> Iterator[int]:
        """Coarse to fine: the first picture within `seconds`, the last one at full size."""
        shrink = self.shrink(cameras, seconds)
        while shrink > 1:
            yield shrink
            shrink = max(1, shrink // FINER)
        yield 1


def shrunk_size(cameras: Cameras, shrink: int) -> tuple[int, int]:
    """Width and height divided, at least one pixel each."""
    return max(1, cameras.width // shrink), max(1, cameras.height // shrink)


def shrunk(cameras: Cameras, shrink: int) -> Cameras:
    """The same view with fewer pixels."""
    return cameras.resized(*shrunk_size(cameras, shrink))
