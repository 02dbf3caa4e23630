"""The sharpest frames of a video, evenly spread over its time."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import imageio.v3 as iio
import numpy as np
from scipy.ndimage import laplace

from dietnerf.errors import UserError

SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".gif")


def sharpness(frame: np.ndarray) -> float:
    """Variance of the Laplacian of a picture's brightness (Pech-Pacheco et al. 2000).

    Args:
        frame: (height, width, 3), 8 bit.
    """
    return float(laplace(frame.mean(axis=-1, dtype=np.float32)).var())


def sharp_frames(video: Path, n: int) -> Iterator[np.ndarray]:
    """Of n equal parts of the video the sharpest frame each, (height, width, 3), 8 bit.

    Fewer come where the video has fewer frames. One frame is kept in memory at a time.

    Raises:
        UserError: the file is no video, or is cut short.
    """
    try:
        reader: Any = imageio.get_reader(video, "ffmpeg")
        with reader:
            n_frames = reader.count_frames()
            for _, window in groupby(enumerate(reader), lambda pair: pair[0] * n // n_frames):
                yield max((frame for _, frame in window), key=sharpness)
    except (OSError, RuntimeError, ValueError, SyntaxError, ZeroDivisionError) as error:
        raise UserError(
            f"{video} cannot be read as a video, it may be truncated or of another type: "
            "copy or export it again"
        ) from error


def write_frames(video: Path, n: int, folder: Path) -> list[Path]:
    """Write the sharp frames as PNG."""
    folder.mkdir(parents=True)
    paths = []
    for i, frame in enumerate(sharp_frames(video, n)):
        paths.append(folder / f"frame_{i:04d}.png")
        iio.imwrite(paths[-1], frame)
    return paths
