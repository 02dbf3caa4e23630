"""Progressive rendering: small images first, as large as the time allows."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Rendering

FINER = 4  # times as many pixels along each side from one picture to the next
FIRST_GUESS = 1e-3  # seconds of a pixel before anything was rendered: a slow field
PROBE = 16  # pixels along a side of the first rendering
STRIP = 0.1  # seconds of a part of a picture, after which it may be given up
FEWEST = 128  # pixels that are worth rendering, however slow the field


class Preview:
    """Renders single cameras, and learns how long a pixel takes.

    Args:
        render: the whole image of one camera.
        has_strips: whether it may be given parts of an image, which Gaussians would sort anew.
    """

    def __init__(self, render: Callable[[Cameras], Rendering], has_strips: bool = True) -> None:
        self._render = render
        self.has_strips = has_strips
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
        n = n_pixels(cameras, 1)
        seconds = (time.perf_counter() - start) / n
        # Few pixels take longer each, as the call itself takes time; but the last picture may have
        # met a machine that was busy or asleep.
        if n >= PROBE**2 or seconds < self.seconds_per_pixel:
            self.seconds_per_pixel = seconds
        return rendering

    def render_while(self, cameras: Cameras, is_wanted: Callable[[], bool]) -> Rendering | None:
        """The same in strips, or None once it is wanted no more."""
        n_rows = max(1, int(STRIP / max(self.seconds_per_pixel * cameras.width, 1e-9)))
        if not self.has_strips:
            n_rows = cameras.height
        strips = []
        for top in range(0, cameras.height, n_rows):
            if not is_wanted():
                return None
            strips.append(self.render(_strip(cameras, top, min(n_rows, cameras.height - top))))
        return Rendering.cat(strips)

    def shrink(self, cameras: Cameras, seconds: float) -> int:
        """By which power of two both sides must be divided to be rendered within `seconds`."""
        shrink = 1
        while self.seconds_of(cameras, shrink) > seconds and n_pixels(cameras, shrink) > FEWEST:
            shrink *= 2
        return shrink

    def seconds_of(self, cameras: Cameras, shrink: int) -> float:
        """What a picture is expected to take."""
        return self.seconds_per_pixel * n_pixels(cameras, shrink)

    def shrinks(self, cameras: Cameras, seconds: float) -> Iterator[int]:
        """Coarse to fine: the first picture within `seconds`, the last one at full size."""
        shrink = self.shrink(cameras, seconds)
        while shrink > 1:
            yield shrink
            shrink = max(1, shrink // FINER)
        yield 1


def _strip(cameras: Cameras, top: int, n_rows: int) -> Cameras:
    """What cameras see in some of their rows."""
    center = cameras.center - cameras.center.new_tensor([0, top])
    return replace(cameras, center=center, height=n_rows)


def shrunk_size(cameras: Cameras, shrink: int) -> tuple[int, int]:
    """Width and height divided, at least one pixel each."""
    return max(1, cameras.width // shrink), max(1, cameras.height // shrink)


def n_pixels(cameras: Cameras, shrink: int) -> int:
    """Of one shrunk picture."""
    width, height = shrunk_size(cameras, shrink)
    return width * height


def shrunk(cameras: Cameras, shrink: int) -> Cameras:
    """The same view with fewer pixels."""
    return cameras.resized(*shrunk_size(cameras, shrink))
