"""Several equal Gaussians in place of one."""

import math

import torch
from torch import Tensor

MAX_COPIES = 51  # of one Gaussian at a time


def split_opacity_and_scale(
    opacities: Tensor, scales: Tensor, copies: Tensor
) -> tuple[Tensor, Tensor]:
    """Opacity and scale of each of several equal Gaussians that together look like one ("3D
    Gaussian Splatting as Markov Chain Monte Carlo", Kheradmand et al. 2024, equation 9).

    Args:
        opacities: of the one, (n,) in [0, 1).
        scales: of the one, (n, 3).
        copies: how many take its place, the one itself counted, int64, (n,), 1 to `MAX_COPIES`.

    Returns:
        Their opacities, (n,), and scales, (n, 3).
    """
    opacities = opacities.double()  # the terms of the sum differ in sign and are large
    wanted = 1 - (1 - opacities) ** (1 / copies)
    total = torch.zeros_like(opacities)
    for i in range(1, int(copies.max()) + 1 if len(copies) else 1):
        term = sum(
            math.comb(i - 1, k) * (-1) ** k / math.sqrt(k + 1) * wanted ** (k + 1) for k in range(i)
        )
        total = total + torch.where(i <= copies, term, 0.0)
    factors = opacities / total.clamp(min=1e-12)
    return wanted.float(), scales * factors.float()[:, None]
