"""Cameras in the comments of a splat file: what other programs pass over tells ours where the
photographs were taken from, which way is up, and what is behind the scene.

A line `camera` has focal lengths, principal point, width, height, near, far, and the 12 numbers of
the camera-to-world matrix, row by row (OpenGL axes); a line `background` has a color.
"""

import torch
from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras

MOST = 12  # cameras: viewers look for the end of the header in its first 10,000 bytes
N_NUMBERS = 20


def comments_of(cameras: Cameras, background: Tensor) -> list[str]:
    """The lines of at most `MOST` of the cameras, evenly chosen, without their lenses."""
    chosen = torch.linspace(0, len(cameras) - 1, min(len(cameras), MOST)).round().long()
    some = cameras[chosen]
    size = torch.tensor([[some.width, some.height]]).expand(len(some), 2)
    ranges = torch.stack([some.near, some.far], dim=1)
    rows = torch.cat([some.focal, some.center, size, ranges, some.c2w.flatten(1)], dim=1)
    lines = [("camera", row) for row in rows.tolist()] + [("background", background.tolist())]
    return [" ".join([name, *(f"{value:.7g}" for value in row)]) for name, row in lines]


def cameras_in(comments: list[list[str]]) -> tuple[Cameras, Tensor] | None:
    """The cameras and the background that words of lines tell, or None without a camera.

    Raises:
        UserError: no camera, or no color, is like that.
    """
    rows = [_numbers(words[1:], N_NUMBERS) for words in comments if words[:1] == ["camera"]]
    colors = [_numbers(words[1:], 3) for words in comments if words[:1] == ["background"]]
    if not rows:
        return None
    values = torch.tensor(rows[:MOST])
    width, height = (int(value) for value in values[0, 4:6].nan_to_num(-1).clamp(-1, 1e6).tolist())
    cameras = Cameras(
        values[:, 8:].unflatten(1, (3, 4)),
        values[:, :2],
        values[:, 2:4],
        values[:, 6],
        values[:, 7],
        width,
        height,
    )
    checked = Cameras.from_dict(cameras.to_dict())
    background = torch.tensor(colors[0]) if colors else torch.zeros(3)
    return checked, background.nan_to_num().clamp(0, 1)


def _numbers(words: list[str], n: int) -> list[float]:
    try:
        numbers = [float(word) for word in words]
    except ValueError as error:
        raise UserError(f"{' '.join(words)!r:.60} are no numbers") from error
    if len(numbers) != n:
        raise UserError(f"there are {len(numbers)} numbers instead of {n}")
    return numbers
