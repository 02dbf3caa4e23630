"""Frames, one at a time, into a GIF, an MP4 or a folder of PNGs."""

from collections.abc import Iterable
from pathlib import Path

import imageio.v2 as imageio
import imageio.v3 as iio
import numpy as np
from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.files import replace_file

FORMATS = (".gif", ".mp4", "a folder for PNGs")


def check_output(out: Path) -> None:
    """Refuse a file name whose ending says a format that cannot be written.

    Raises:
        UserError: it is neither .gif nor .mp4 nor a folder.
    """
    if out.suffix not in ("", ".gif", ".mp4"):
        raise UserError(f"--out {out}: cannot write {out.suffix}; use one of {', '.join(FORMATS)}")
    if out.suffix == "" and out.is_file():
        raise UserError(f"--out {out} is a file; name a folder for PNGs")


def write_film(frames: Iterable[dict[str, Tensor]], out: Path, fps: float) -> None:
    """Write a GIF or MP4 with the pictures of a frame side by side, or each picture as a PNG.

    PNGs and MP4s are written as frames come; a GIF is kept in memory until its end.

    Args:
        frames: for each frame its pictures by name, (height, width, 3), 8 bit, on the CPU.
        out: ends in .gif or .mp4, or is a folder.
        fps: frames per second.
    """
    if out.suffix == "":
        for i, pictures in enumerate(frames):
            for name, pixels in pictures.items():
                with replace_file(out / f"{name}_{i:03d}.png") as part:
                    iio.imwrite(part, pixels.numpy())
        return
    with replace_file(out) as part:
        if out.suffix == ".gif":
            writer = imageio.get_writer(part, duration=1000 / fps, loop=0)
        else:
            writer = imageio.get_writer(part, fps=fps, quality=8, macro_block_size=2)
        with writer:
            for pictures in frames:
                writer.append_data(np.concatenate([p.numpy() for p in pictures.values()], axis=1))
