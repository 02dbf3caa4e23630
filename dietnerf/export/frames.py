"""Renders the frames of a film, on one device or split among several."""

import math
import sys
import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from multiprocessing import Queue
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from tqdm import tqdm

from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras
from dietnerf.renderer import inference_autocast
from dietnerf.runs.checkpoints import load_scene
from dietnerf.scene_model import SceneModel
from dietnerf.training.runtime import prepare_process
from dietnerf.visualize import Mode, depth_range, to_image
from dietnerf.workers import CONTEXT, workers

Pictures = dict[str, Tensor]  # of each mode, 8 bit, (height, width, 3), on the CPU
Frames = Generator[Pictures, None, None]
WARM_UP = 20.0  # seconds, of a first frame from which on they are its own
Timed = tuple[Pictures, float]  # a frame and the seconds that it took
PREFIXES = ("", "beside_")  # of the modes of one run, and of another beside it


@dataclass(frozen=True)
class RenderJob:
    """What to render for each frame of a film.

    Args:
        cameras: one a frame.
        modes: which images of each are drawn.
        background: behind the scene, (3,).
        depths: nearest and farthest depth of the color scale.
    """

    cameras: Cameras
    modes: list[Mode]
    background: Tensor
    depths: tuple[float, float]

    @classmethod
    def of(
        cls, scenes: list[SceneModel], cameras: Cameras, modes: list[Mode], background: Tensor
    ) -> "RenderJob":
        """A job with one scale of depth colors for all frames and scenes."""
        depths = _depths_along(scenes, cameras, background) if "depth" in modes else (0.0, 1.0)
        return cls(cameras, modes, background, depths)

    def frame(self, scenes: list[SceneModel], index: int) -> Timed:
        """The images of all scenes in one frame, and the seconds that they took."""
        start, pictures = time.perf_counter(), {}
        for scene, prefix in zip(scenes, PREFIXES, strict=False):
            with inference_autocast(scene.device):
                rendering = scene.render_rays_of(self.cameras, index, self.background)
            for mode in self.modes:
                shown = to_image(rendering, mode, self.cameras.height, self.depths)
                pictures[prefix + mode] = shown.cpu()
        return pictures, time.perf_counter() - start


def render_frames(scenes: list[SceneModel], film: RenderJob) -> Frames:
    """Render one frame after the other, on the device of the scenes."""
    timed = (film.frame(scenes, i) for i in range(len(film.cameras)))
    yield from _counted(timed, film, 1)


def render_frames_on(devices: list[str], checkpoints: list[Path], film: RenderJob) -> Frames:
    """Render with one process for each device; frames come in order.

    Raises:
        UserError: one of the processes ended unexpectedly.
    """
    free: Queue[str] = CONTEXT.Queue()
    for device in devices:
        free.put(device)
    n_threads = max(1, torch.get_num_threads() // len(devices))
    with workers(len(devices), Worker.begin, free, n_threads, checkpoints, film) as pool:
        try:
            given = deque(pool.submit(Worker.frame, i) for i in range(len(film.cameras)))
            yield from _counted(_in_order(given), film, len(devices))
        except BrokenProcessPool as error:
            raise UserError(
                f"a process that rendered on one of {', '.join(devices)} ended, perhaps for want "
                "of memory: use fewer --devices"
            ) from error


def _in_order(given: "deque[Future[Timed]]") -> Iterator[Timed]:
    """Results in order as soon as they are complete, which are not kept afterwards."""
    while given:
        yield given.popleft().result()


class Worker:
    """State that a rendering process keeps between frames."""

    scenes: ClassVar[list[SceneModel]]
    film: ClassVar[RenderJob]

    @classmethod
    def begin(
        cls, free: "Queue[str]", n_threads: int, checkpoints: list[Path], film: RenderJob
    ) -> None:
        prepare_process()
        torch.set_num_threads(n_threads)
        device = free.get()
        cls.scenes, cls.film = [load_scene(path).to(device) for path in checkpoints], film

    @classmethod
    def frame(cls, index: int) -> Timed:
        return cls.film.frame(cls.scenes, index)


def _counted(frames: Iterator[Timed], film: RenderJob, n_at_once: int) -> Frames:
    """The images, with a progress bar and an estimate of the total time after the first of them, or
    the second, as the first takes up to some seconds longer."""
    n_frames = len(film.cameras)
    begun = [next(frames)]
    if begun[0][1] < WARM_UP:
        begun += islice(frames, 1)
    seconds = min(seconds for _, seconds in begun)
    size = f"{film.cameras.width}x{film.cameras.height}"
    total = duration(seconds * n_frames / n_at_once)
    print(f"{n_frames} frames of {size}, about {total}", file=sys.stderr)
    yield from (pictures for pictures, _ in begun)
    bar = tqdm(frames, unit="frame", desc="rendering", initial=len(begun), total=n_frames)
    with closing(bar):
        for pictures, _ in bar:
            yield pictures


def duration(seconds: float) -> str:
    """A duration in words, in the fitting unit: 45 seconds, 2 minutes, 1.5 hours."""
    if seconds < 90:
        n = max(1, round(seconds))
        return f"{n} second{'s' * (n > 1)}"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _depths_along(
    scenes: list[SceneModel], cameras: Cameras, background: Tensor
) -> tuple[float, float]:
    """Nearest and farthest depth in small previews of up to eight frames."""
    shrink = max(1, min(cameras.width, cameras.height) // 32)
    small = cameras.resized(cameras.width // shrink, cameras.height // shrink)
    stops = range(0, len(cameras), math.ceil(len(cameras) / 8))
    ranges = [depth_range(s.render_rays_of(small, i, background)) for s in scenes for i in stops]
    seen = [r for r in ranges if r != (0.0, 1.0)] or [(0.0, 1.0)]
    return min(low for low, _ in seen), max(high for _, high in seen)
