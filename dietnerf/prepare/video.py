"""The sharpest frames of a video, evenly spread over its time."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby, islice
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from imageio_ffmpeg import read_frames
from scipy.ndimage import laplace

from dietnerf.errors import UserError
from dietnerf.files import check_regular
from dietnerf.prepare.progress import progress

SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".gif")
CONTAINERS = "mov,matroska,avi,gif,mpegts"  # none that plays what other files or hosts have
MOST_PIXELS = 1 << 25  # in a frame: those of 8K
MOST_FRAMES = 250_000  # over two hours
READ_ERRORS = (OSError, RuntimeError, ValueError, KeyError, IndexError, AssertionError)


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
        UserError: the file is no video, is cut short, or is longer or larger than any.
    """
    check_regular(video)
    with _decoded(video, "-vf", "scale=2:2") as small:
        n_frames = sum(1 for _ in islice(small, MOST_FRAMES + 1))
    if n_frames > MOST_FRAMES:
        raise UserError(f"{video} has more than {MOST_FRAMES} frames: cut out what shows the scene")
    with _decoded(video) as frames:
        parts = groupby(enumerate(islice(frames, n_frames)), lambda pair: pair[0] * n // n_frames)
        for _, part in parts:
            yield max((frame for _, frame in part), key=sharpness)


@contextmanager
def _decoded(video: Path, *options: str) -> Iterator[Iterator[np.ndarray]]:
    """Each frame once, (height, width, 3), 8 bit; `options` are ffmpeg's for what it writes."""
    logging.getLogger("imageio_ffmpeg").setLevel(logging.ERROR)  # it warns of turned videos
    frames = read_frames(
        f"file:{video.absolute()}",  # a name with a colon is none of a protocol
        input_params=[
            *("-protocol_whitelist", "file", "-format_whitelist", CONTAINERS),
            *("-max_pixels", str(MOST_PIXELS)),
        ],
        output_params=["-fps_mode", "passthrough", *options],
    )
    try:
        width, height = next(frames)["size"]
        if not 0 < width * height <= MOST_PIXELS:
            raise ValueError(f"frames of {width}x{height}")
        yield (np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in frames)
    except READ_ERRORS as error:
        raise UserError(
            f"{video} cannot be read as a video, it may be truncated or of another type: "
            "copy or export it again"
        ) from error
    finally:
        frames.close()


def write_frames(video: Path, n: int, folder: Path) -> list[Path]:
    """Write the sharp frames as PNG."""
    folder.mkdir(parents=True)
    paths = []
    with progress("frames", n, "frames") as bar:
        for i, frame in enumerate(sharp_frames(video, n)):
            paths.append(folder / f"frame_{i:04d}.png")
            paths[-1].write_bytes(iio.imwrite("<bytes>", frame, extension=".png"))
            bar.update(1)
    return paths
