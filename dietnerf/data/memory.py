"""Many photographs at once: what they take in memory, how small they have to be for it, and threads
that decode them."""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Literal

import psutil
import torch

from dietnerf.data.error_collector import ErrorCollector
from dietnerf.data.reader import DatasetIndex
from dietnerf.errors import UserError

Downscale = float | Literal["auto"]

MOST_THREADS = 8  # each holds one photograph at its full size
BYTES_PER_PIXEL = 12  # of it: as it is stored, decoded, and as numbers
RESIZING = 36  # bytes per pixel of a photograph that is brought to the size of the others
SHARE = 0.5  # of free memory that photographs may take: training needs the rest
AUTO_SIDE = 1600  # pixels, the longer side that `downscale: auto` leaves at most
ROUNDED = 0.05  # by what a factor of smaller copies is off, whose sides are whole pixels
AUTO_BYTES = 4 << 30  # of all training photographs together then


def check_downscale(downscale: Downscale) -> None:
    if downscale != "auto" and not 1 <= downscale < math.inf:
        raise UserError(f"downscale must be at least 1, got {downscale}: use 2 for half size")


def auto_downscale(
    sizes: Sequence[tuple[float, float]], n_channels: int, least: float = 1.0
) -> float:
    """The smallest whole number by which photographs fit `AUTO_SIDE` and `AUTO_BYTES`.

    It follows from the photographs alone, so that every machine and every command takes the same.

    Args:
        sizes: widths and heights in pixels.
        n_channels: bytes of a pixel.
        least: it is at least this.
    """
    side = max(max(size) for size in sizes)
    n_bytes = n_channels * sum(width * height for width, height in sizes)
    return math.ceil(max(least - ROUNDED, side / AUTO_SIDE, math.sqrt(n_bytes / AUTO_BYTES)))


def check_memory(chosen: Sequence[tuple[DatasetIndex, list[int]]]) -> None:
    """Refuse to read more views than there is memory for.

    Args:
        chosen: views by their positions in listings.

    Raises:
        UserError: it says how much they take, and how much smaller they would have to be.
    """
    n_bytes = sum(listing.bytes_per_view * len(keep) for listing, keep in chosen)
    n_bytes += max(RESIZING * one.cameras.width * one.cameras.height for one, _ in chosen)
    free = psutil.virtual_memory().available
    if n_bytes <= SHARE * free:
        return
    n_views, cameras = sum(len(keep) for _, keep in chosen), chosen[0][0].cameras
    smaller = math.ceil(math.sqrt(n_bytes / (SHARE * free)))
    raise UserError(
        f"{n_views} views of {cameras.width}x{cameras.height} take {n_bytes / 1e9:.1f} GB of "
        f"memory, and {SHARE:.0%} of the {free / 1e9:.1f} GB that are free is for them: make them "
        f"{smaller} times smaller with the reader's downscale, set it to auto, or choose fewer"
    )


def in_parallel(
    read: Callable[[int], None], n: int, problems: ErrorCollector, n_pixels: int = 0
) -> None:
    """read(0) to read(n - 1) in several threads; their mistakes go to `problems` in this order.

    Args:
        read: reads the photograph at a position.
        n: how many there are.
        problems: collects what is wrong with them.
        n_pixels: of the largest file; no more are decoded at once than there is memory for.
    """

    def attempt(i: int) -> UserError | None:
        try:
            read(i)
        except UserError as error:
            return error
        return None

    n_threads = torch.get_num_threads()
    single = partial(torch.set_num_threads, 1)  # in each of the threads that read
    n_fitting = SHARE * psutil.virtual_memory().available / max(1, BYTES_PER_PIXEL * n_pixels)
    n_readers = max(1, min(MOST_THREADS, os.cpu_count() or 1, int(n_fitting)))
    with ThreadPoolExecutor(n_readers, initializer=single) as pool:
        for error in pool.map(attempt, range(n)):
            if error is not None:
                problems.add(str(error))
    torch.set_num_threads(n_threads)
