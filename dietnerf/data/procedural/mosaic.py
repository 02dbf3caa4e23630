"""Another generated scene: a few things within 1.2 scene units of the origin, all over patterned.

No two places look alike, so that photographs of it can be matched: it is there to test `prepare`.
"""

import torch
from torch import Tensor

from dietnerf.data.procedural.solids import GROUND, Ball, Frustum, Paint, Solid, box, dot

PATCHES = (0.16, 0.07, 0.03)  # sizes of the pattern's patches, scene units
N_COLORS = 1 << 12


def mosaic_scene() -> list[list[Solid]]:
    """The solids of the scene, those that stand together in one list."""
    return [
        [Frustum((0.0, 0.0, GROUND - 0.08), 1.1, 1.1, 0.08, _patches(0))],
        [
            box((-0.38, 0.3, GROUND + 0.3), (0.5, 0.4, 0.6), _patches(1), turn=0.5),
            Frustum((0.42, 0.38, GROUND), 0.26, 0.1, 0.85, _patches(2)),
        ],
        [
            Ball((0.38, -0.42, GROUND + 0.26), 0.26, _patches(3)),
            box(
                (-0.42, -0.45, GROUND + 0.14), (0.34, 0.34, 0.28), _patches(4), turn=-0.3, tilt=0.3
            ),
        ],
    ]


def _patches(seed: int) -> Paint:
    """Random colors that fade into each other, in patches of several sizes."""
    generator = torch.Generator().manual_seed(seed)
    colors = torch.rand(N_COLORS, 3, generator=generator)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator)).Q  # off the solids' faces

    def paint(p: Tensor) -> Tensor:
        turned = dot(p[:, None], turn)
        layers = [_noise(turned / size, colors) for size in PATCHES]
        contrast = 2.5 * (torch.stack(layers).mean(dim=0) - 0.5)
        return (0.45 + contrast).clamp(0.05, 0.9)

    return paint


def _noise(p: Tensor, colors: Tensor) -> Tensor:
    """Colors (m, 3) at the corners of a grid of unit cells, blended at points (n, 3) within."""
    corner = p.floor()
    share = p - corner
    share = share * share * (3 - 2 * share)
    total = torch.zeros_like(p)
    for offset in torch.cartesian_prod(*[torch.arange(2)] * 3):
        x, y, z = (corner.long() + offset).unbind(-1)
        number = (x * 73856093 ^ y * 19349663 ^ z * 83492791) % len(colors)
        weight = torch.where(offset.bool(), share, 1 - share).prod(dim=-1)
        total += weight[:, None] * colors[number]
    return total
