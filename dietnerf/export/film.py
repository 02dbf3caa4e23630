"""Frames, one at a time, into a GIF, an MP4 or a folder of PNGs."""

import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import IO

import imageio.v3 as iio
import imageio_ffmpeg
import numpy as np
from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.files import check_file, check_writable, replace_file, write_file

FORMATS = (".gif", ".mp4", "a folder for PNGs")
LARGEST = {".gif": 65_535, ".mp4": 16_384}  # pixels along a side
FASTEST_GIF = 50  # frames per second that browsers show
CODEC, LOSS = "libx264", "10"  # of 51: visually lossless


def check_output(out: Path) -> None:
    """Refuse a path that cannot be written, or whose ending names no format.

    Raises:
        UserError: says why.
    """
    known = ", ".join(FORMATS)
    if out.name in FORMATS:
        raise UserError(f"--out {out} is an ending without a name; use one of {known}")
    if out.suffix not in ("", ".gif", ".mp4"):
        raise UserError(f"--out {out}: cannot write {out.suffix}; use one of {known}")
    if out.suffix == "":
        check_writable(out, "--out")
    else:
        check_file(out, "--out")


def check_film(out: Path, width: int, height: int, fps: float) -> None:
    """Refuse sizes and rates that a format cannot hold.

    Args:
        out: ends in .gif or .mp4, or is a folder.
        width, height: of the pictures of a frame side by side, pixels.
        fps: frames per second.

    Raises:
        UserError: it names the option and the bound.
    """
    largest = LARGEST.get(out.suffix)
    if largest is not None and max(width, height) > largest:
        raise UserError(
            f"--out {out}: frames of {width}x{height} pixels, and {out.suffix} has at most "
            f"{largest} along a side; choose a smaller --size, fewer --modes or a folder for PNGs"
        )
    if out.suffix == ".gif" and fps > FASTEST_GIF:
        raise UserError(f"--fps is {fps:g}; a .gif shows at most {FASTEST_GIF}, an .mp4 more")


def write_film(frames: Iterable[dict[str, Tensor]], out: Path, fps: float) -> None:
    """Write a GIF or MP4 with the pictures of a frame side by side, or each picture as a PNG.

    Frames are written as they come, and none is kept in memory.

    Args:
        frames: for each frame its pictures by name, (height, width, 3), 8 bit, on the CPU.
        out: ends in .gif or .mp4, or is a folder.
        fps: frames per second.

    Raises:
        UserError: it cannot be written, and why; an existing film stays.
    """
    if out.suffix == "":
        for i, pictures in enumerate(frames):
            for name, pixels in pictures.items():
                content = iio.imwrite("<bytes>", pixels.numpy(), extension=".png")
                write_file(out / f"{name}_{i:03d}.png", content)
        return
    joined = (np.concatenate([p.numpy() for p in each.values()], axis=1) for each in frames)
    with replace_file(out) as part:
        failure = _encode(joined, part, out.suffix, fps)
        if failure:
            raise UserError(f"{out} cannot be written: {failure}")


def _encode(pictures: Iterator[np.ndarray], path: Path, suffix: str, fps: float) -> str:
    """Write a film with ffmpeg. Returns its error message, or an empty text."""
    first = next(pictures)
    height, width = first.shape[:2]
    command = [
        *(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"),
        *("-r", str(Fraction(fps).limit_denominator()), "-i", "-"),
        *(_gif_options() if suffix == ".gif" else _mp4_options(width, height)),
        str(path),
    ]
    # With default signal handlers, a file that grows too large would kill ffmpeg before it reports
    # why.
    with (
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, restore_signals=False
        ) as ffmpeg,
        ThreadPoolExecutor(1) as listener,
    ):
        assert ffmpeg.stdin is not None and ffmpeg.stderr is not None, "both are pipes"
        said = listener.submit(ffmpeg.stderr.read)
        try:
            _feed(ffmpeg.stdin, chain([first], pictures))
        except BaseException:
            ffmpeg.kill()
            raise
        finally:
            with suppress(BrokenPipeError):
                ffmpeg.stdin.close()
    if ffmpeg.returncode == 0:
        return ""
    cause = said.result().decode(errors="replace").strip().partition("\n")[0].rpartition("] ")[2]
    return f"ffmpeg ended with {ffmpeg.returncode}: {cause}"


def _mp4_options(width: int, height: int) -> list[str]:
    even = f"scale={width + width % 2}:{height + height % 2}"  # as H.264 requires
    return ["-vf", even, "-vcodec", CODEC, "-pix_fmt", "yuv420p", "-crf", LOSS, "-f", "mp4"]


def _gif_options() -> list[str]:
    palettes = "split[a][b];[a]palettegen=stats_mode=single:reserve_transparent=0[p];"
    filters = f"{palettes}[b][p]paletteuse=new=1:dither=none"  # one palette a frame
    return ["-filter_complex", filters, "-gifflags", "0", "-loop", "0", "-f", "gif"]


def _feed(pipe: IO[bytes], pictures: Iterable[np.ndarray]) -> None:
    for picture in pictures:
        try:
            pipe.write(picture.tobytes())
        except BrokenPipeError:  # ffmpeg has failed, and reports why
            return
