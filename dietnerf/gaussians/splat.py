"""Splats as `.splat` files: 32 bytes each, without view-dependent colors, for viewers in browsers.

The layout is that of antimatter15's viewer: position and standard deviations as float32, color and
opacity as bytes, the quaternion as bytes from -1 to 1; the largest and most opaque come first.
"""

from pathlib import Path

import numpy as np
import torch

from dietnerf.errors import UserError
from dietnerf.files import open_regular, replace_file
from dietnerf.gaussians.model import BAND_0, MAX_CAPACITY, Gaussians
from dietnerf.gaussians.ply import LARGEST

ROW = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("turn", "u1", 4)])


def write_splat(path: Path, gaussians: Gaussians) -> int:
    """Write the Gaussians that are used.

    Returns:
        How many there are.
    """
    n = gaussians.n
    with torch.no_grad():
        scales = gaussians.log_scales[:n].exp()
        opacities = gaussians.opacity_logits[:n].sigmoid()
        colors = 0.5 + BAND_0 * gaussians.base[:n, 0]
        turns = torch.nn.functional.normalize(gaussians.quaternions[:n], dim=1)
        order = (scales.prod(dim=1) * opacities).argsort(descending=True, stable=True).cpu()
        rgba = torch.cat([colors, opacities[:, None]], dim=1).clamp(0, 1)
    rows = np.zeros(n, ROW)
    rows["mean"] = gaussians.means[:n].detach().float().cpu()[order]
    rows["scale"] = scales.float().cpu()[order]
    rows["rgba"] = (255 * rgba).round().cpu()[order]
    rows["turn"] = (128 * turns + 128).round().clamp(0, 255).cpu()[order]
    with replace_file(path) as part:
        part.write_bytes(rows.tobytes())
    return n


def read_splat(path: Path) -> Gaussians:
    """The Gaussians of a file.

    Those with a number that is not finite or beyond measure are left out.

    Raises:
        UserError: it is no such file, or none of them can be drawn.
    """
    with open_regular(path, MAX_CAPACITY * ROW.itemsize) as file:
        content = file.read()
    if len(content) == 0 or len(content) % ROW.itemsize:
        raise UserError(
            f"{path} is no .splat file: {len(content)} bytes are no multiple of {ROW.itemsize}"
        )
    rows = np.frombuffer(content, ROW)
    turns = (rows["turn"].astype(np.float32) - 128) / 128
    is_drawn = (np.abs(rows["mean"]) < LARGEST).all(axis=1) & (turns != 0).any(axis=1)
    is_drawn &= ((rows["scale"] >= 0) & (rows["scale"] < LARGEST)).all(axis=1)
    rows, turns, n = rows[is_drawn], turns[is_drawn], int(is_drawn.sum())
    if n == 0:
        raise UserError(f"none of the {len(is_drawn)} splats of {path} can be drawn")
    gaussians = Gaussians(n, n, sh_degree=0, antialias=False)
    rgba = torch.from_numpy(rows["rgba"] / np.float32(255))
    with torch.no_grad():
        gaussians.n_used.fill_(n)
        gaussians.means.copy_(torch.from_numpy(rows["mean"].copy()))
        gaussians.log_scales.copy_(torch.from_numpy(rows["scale"].copy()).clamp(min=1e-7).log())
        gaussians.base.copy_(((rgba[:, :3] - 0.5) / BAND_0)[:, None])
        gaussians.opacity_logits.copy_(torch.logit(rgba[:, 3], eps=1e-3))
        gaussians.quaternions.copy_(torch.from_numpy(turns))
    return gaussians
