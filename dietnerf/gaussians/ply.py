"""Splats as PLY files, in the layout of 3D Gaussian Splatting, which viewers and engines read."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dietnerf.data.ply import read_vertices, write_ply
from dietnerf.errors import UserError
from dietnerf.files import replace_file
from dietnerf.gaussians.model import MAX_CAPACITY, Gaussians

BASE = ("f_dc_0", "f_dc_1", "f_dc_2")
SCALES = ("scale_0", "scale_1", "scale_2")
TURNS = ("rot_0", "rot_1", "rot_2", "rot_3")
NEEDED = ("x", "y", "z", *BASE, "opacity", *SCALES, *TURNS)
LARGEST = 1e15  # coordinate or size, whose square is a number, too
N_REST = {0: 0, 9: 1, 24: 2, 45: 3}  # numbers beyond the first harmonic, and the degree


def write_splats(path: Path, gaussians: Gaussians, comments: Sequence[str] = ()) -> int:
    """Write the Gaussians that are used.

    Args:
        comments: lines of the header that other programs pass over, such as cameras.

    Returns:
        How many there are.
    """
    n = gaussians.n
    rest = gaussians.rest[:n].transpose(1, 2).flatten(1)  # channel by channel
    columns = {
        **dict(zip("xyz", gaussians.means[:n].T, strict=True)),
        **{f"n{axis}": torch.zeros(n) for axis in "xyz"},
        **dict(zip(BASE, gaussians.base[:n, 0].T, strict=True)),
        **{f"f_rest_{i}": values for i, values in enumerate(rest.T)},
        "opacity": gaussians.opacity_logits[:n],
        **dict(zip(SCALES, gaussians.log_scales[:n].T, strict=True)),
        **dict(zip(TURNS, gaussians.quaternions[:n].T, strict=True)),
    }
    table = np.empty(n, [(name, "<f4") for name in columns])
    for name, values in columns.items():
        table[name] = values.detach().float().cpu().numpy()
    with replace_file(path) as part:
        write_ply(part, {"vertex": table}, comments)
    return n


def read_splats(path: Path) -> Gaussians:
    """The Gaussians of a file.

    Those with a number that is not finite or beyond measure, or without a rotation, are left out.

    Raises:
        UserError: it is no PLY file of splats, or none of them can be drawn.
    """
    table = read_vertices(path, "splats", NEEDED)
    rest = sorted(
        (name for name in table.dtype.names or () if name.startswith("f_rest_")),
        key=lambda name: int(name[7:]) if name[7:].isdecimal() else -1,
    )
    if len(rest) not in N_REST:
        raise UserError(
            f"{path} has {len(rest)} numbers f_rest_ of each splat; harmonics of degree 0 to 3 "
            "have 0, 9, 24 or 45"
        )

    def columns(names: tuple[str, ...]) -> Tensor:
        values = (
            np.stack([table[name] for name in names], axis=1)
            if names
            else np.empty((len(table), 0))
        )
        with np.errstate(over="ignore"):  # what is too large is left out
            return torch.from_numpy(values.astype(np.float32))

    values = columns((*NEEDED, *rest))
    turns = columns(TURNS)
    is_drawn = values.isfinite().all(dim=1) & (turns.norm(dim=1) > 0)
    is_drawn &= (columns(("x", "y", "z")).abs() < LARGEST).all(dim=1)
    is_drawn &= (columns(SCALES) < math.log(LARGEST)).all(dim=1)
    n = int(is_drawn.sum())
    if n == 0:
        raise UserError(f"none of the {len(table)} splats of {path} can be drawn")
    if n > MAX_CAPACITY:
        raise UserError(f"{path} has {n} splats; at most {MAX_CAPACITY} can be drawn")
    gaussians = Gaussians(n, n, sh_degree=N_REST[len(rest)], antialias=False)
    with torch.no_grad():
        gaussians.n_used.fill_(n)
        gaussians.means.copy_(columns(("x", "y", "z"))[is_drawn])
        gaussians.base.copy_(columns(BASE)[is_drawn][:, None])
        gaussians.rest.copy_(
            columns(tuple(rest))[is_drawn].unflatten(1, (3, len(rest) // 3)).transpose(1, 2)
        )
        gaussians.opacity_logits.copy_(columns(("opacity",))[is_drawn][:, 0])
        gaussians.log_scales.copy_(columns(SCALES)[is_drawn])
        gaussians.quaternions.copy_(turns[is_drawn])
    return gaussians
