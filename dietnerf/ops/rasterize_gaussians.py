"""Alpha compositing of projected Gaussians (3DGS, Kerbl et al. 2023), as an op."""

from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from dietnerf.ops._check import check_floats
from dietnerf.ops._define import define
from dietnerf.ops._shapes import check_shapes, shapes

TILE = 16  # pixels along an edge
LARGEST = 2**14  # pixels along an edge of the image
MIN_ALPHA = 1 / 255
MAX_ALPHA = 0.999
MIN_TRANS = 1e-4
INPUTS = shapes(
    centers="n 2",
    conics="n 3",
    depths="n",
    radii="n",
    opacities="n",
    colors="n 3",
    absgrad="n 2",
)
OUTPUTS = shapes(
    rgb="height width 3",
    opacity="height width",
    depth="height width",
    median_depth="height width",
    max_weights="n",
    trans="height width",
    n_passed="height width",
)


def rasterize_gaussians(
    centers: Tensor,
    conics: Tensor,
    depths: Tensor,
    radii: Tensor,
    opacities: Tensor,
    colors: Tensor,
    width: int,
    height: int,
    absgrad: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Composite the Gaussians that `project_gaussians` found, front to back, without a background.

    In a pixel at the offset d from its center, a Gaussian has

        alpha = min(0.999, opacity * exp(-1/2 d^T conic d)),

    and counts if that is at least 1/255. Of the light from behind it T = prod (1 - alpha) of those
    in front arrives, its weight is w = T * alpha, and the pixel's color is sum w * color, its
    opacity sum w, its depth sum w * depth. Gaussians are in the order of their depth, at the same
    depth of their number; with T < 1e-4 those behind have weight and gradient 0.

    Differentiable once in centers, conics, depths, opacities and colors, by rgb, opacity and depth;
    on the CPU deterministic, whatever the number of threads.

    Args:
        centers: in pixels, the center of pixel (column i, row j) at (i + 0.5, j + 0.5), (n, 2).
        conics: entries xx, xy and yy of the inverse covariances, per square pixel, (n, 3).
        depths: along the camera axis, (n,).
        radii: above 0 where a Gaussian is visible, (n,).
        opacities: from 0 to 1, (n,); others are refused, but on a GPU, where they are not read.
        colors: (n, 3).
        width, height: size of the image in pixels.
        absgrad: (n, 2), of any values, which are not read. What arrives as its gradient is no
            derivative, but the sum over all pixels of the absolute value of what each contributes
            to that of `centers` (AbsGS, Ye et al. 2024).

    Returns:
        rgb (height, width, 3), opacity (height, width), depth (height, width); and without
        gradients median_depth (height, width), the depth at which T falls to 1/2 or below, 0 where
        it does not, and max_weights (n,), the largest weight that a Gaussian has in a pixel.
    """
    floats = {"centers": centers, "conics": conics, "depths": depths, "radii": radii}
    floats |= {"opacities": opacities, "colors": colors}
    check_shapes("rasterize_gaussians", INPUTS, {**floats, "absgrad": absgrad})
    check_floats(
        "rasterize_gaussians", **floats, **({} if absgrad is None else {"absgrad": absgrad})
    )
    if not (1 <= width <= LARGEST and 1 <= height <= LARGEST):
        raise ValueError(
            f"rasterize_gaussians: width and height must be from 1 to {LARGEST}, got {width} and "
            f"{height}"
        )
    rgb, opacity, depth, median_depth, max_weights, *_ = _op(
        *floats.values(), width, height, absgrad
    )
    return rgb, opacity, depth, median_depth.detach(), max_weights.detach()


def _given(**tensors: Tensor | None) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def reference(
    centers: Tensor,
    conics: Tensor,
    depths: Tensor,
    radii: Tensor,
    opacities: Tensor,
    colors: Tensor,
    width: int,
    height: int,
    absgrad: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Also returns `trans` (height, width), the T behind all that count, and `n_passed` (height,
    width): how many visible Gaussians are no deeper than the last one that counts in a pixel."""
    if not bool(((opacities >= 0) & (opacities <= 1)).all()):
        raise ValueError("rasterize_gaussians: opacities must be from 0 to 1")
    given = _Splats(centers, conics, depths, opacities, colors, absgrad)
    ids = _visible_by_depth(given, radii)
    splats = given.take(ids)
    low, high = _bounds(splats)
    max_weights = depths.new_zeros(len(depths))
    rows = []
    for top in range(0, height, TILE):
        tiles = []
        for left in range(0, width, TILE):
            corner = centers.new_tensor([left, top])
            ranks = ((low < corner + TILE) & (high > corner)).all(dim=1).nonzero()[:, 0]
            size = (min(TILE, height - top), min(TILE, width - left))
            tile, weights = _blend(_pixels(corner, size), ranks, splats.take(ranks))
            tiles.append([values.unflatten(0, size) for values in tile])
            largest = weights.detach().amax(dim=0)
            max_weights = max_weights.scatter_reduce(0, ids[ranks], largest, "amax")
        rows.append([torch.cat(parts, dim=1) for parts in zip(*tiles, strict=True)])
    rgb, opacity, depth, median, trans, n_passed = (
        torch.cat(parts) for parts in zip(*rows, strict=True)
    )
    return rgb, opacity, depth, median, max_weights, trans, n_passed


class _Splats(NamedTuple):
    centers: Tensor
    conics: Tensor
    depths: Tensor
    opacities: Tensor
    colors: Tensor
    absgrad: Tensor | None

    def take(self, ids: Tensor) -> Self:
        taken = {k: v[ids] for k, v in self._asdict().items() if v is not None}
        return self._replace(**taken)


def _visible_by_depth(splats: _Splats, radii: Tensor) -> Tensor:
    """Which Gaussians can have an alpha that counts, front to back."""
    numbers = torch.cat([splats.centers, splats.conics, splats.depths[:, None]], dim=1)
    is_visible = (radii > 0) & (splats.opacities >= MIN_ALPHA) & numbers.isfinite().all(dim=1)
    is_visible &= (splats.conics[:, 0] > 0) & (splats.conics[:, 2] > 0)
    ids = is_visible.nonzero()[:, 0]
    return ids[splats.depths.detach()[ids].argsort(stable=True)]


def _bounds(splats: _Splats) -> tuple[Tensor, Tensor]:
    """Corners (n, 2) of boxes outside of which no alpha counts."""
    xx, xy, yy = splats.conics.detach().unbind(-1)
    # Of conics that rounding left without a determinant, as if they were thin.
    determinants = torch.maximum(xx * yy - xy**2, 1e-6 * xx * yy)
    squared = 2 * (splats.opacities.detach() / MIN_ALPHA).log().clamp(min=0) / determinants
    half = torch.stack([yy * squared, xx * squared], dim=1).sqrt() + 1
    centers = splats.centers.detach()
    return centers - half, centers + half


def _pixels(corner: Tensor, size: tuple[int, int]) -> Tensor:
    """The centers (height * width, 2) of a tile's pixels."""
    rows, columns = (torch.arange(n, dtype=corner.dtype, device=corner.device) for n in size)
    return torch.cartesian_prod(rows, columns).flip(1) + corner + 0.5


def _blend(pixels: Tensor, ranks: Tensor, splats: _Splats) -> tuple[tuple[Tensor, ...], Tensor]:
    """What pixels (m, 2) show of Gaussians in order, and the weights (m, n)."""
    offsets = pixels[:, None] - splats.centers  # (m, n, 2)
    if splats.absgrad is not None:
        offsets = _SumAbsolute.apply(offsets, splats.absgrad)
    (dx, dy), (xx, xy, yy) = offsets.unbind(-1), splats.conics.unbind(-1)
    powers = (xx * dx * dx + yy * dy * dy) / 2 + xy * dx * dy
    alphas = (splats.opacities * torch.exp(-powers.clamp(min=0))).clamp(max=MAX_ALPHA)
    alphas = torch.where(alphas >= MIN_ALPHA, alphas, 0.0)
    trans = torch.nn.functional.pad((1 - alphas).cumprod(dim=1), (1, 0), value=1.0)
    counts = trans[:, :-1] >= MIN_TRANS
    weights = torch.where(counts, trans[:, :-1] * alphas, 0.0)
    trans_behind = torch.where(counts, 1 - alphas, 1.0).prod(dim=1)
    is_half = (trans[:, :-1] > 0.5) & (trans[:, 1:] <= 0.5)
    depth = (weights * splats.depths).sum(dim=1)
    median = torch.where(is_half, splats.depths.detach(), 0.0).sum(dim=1)
    n_passed = torch.nn.functional.pad((weights > 0) * (ranks + 1.0), (1, 0)).amax(dim=1)
    shown = (
        weights @ splats.colors,
        weights.sum(dim=1),
        depth,
        median,
        trans_behind,
        n_passed.to(depth),
    )
    return shown, weights


class _SumAbsolute(torch.autograd.Function):
    """Offsets as they are; the second argument gets the sums of their gradients' absolutes."""

    @staticmethod
    def forward(offsets: Tensor, absgrad: Tensor) -> Tensor:
        return offsets.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        return grad, grad.abs().sum(dim=0)


_op = define(
    "rasterize_gaussians",
    reference,
    inputs=INPUTS,
    outputs=OUTPUTS,
    like="centers",
    differentiable=("centers", "conics", "depths", "opacities", "colors", "absgrad"),
    saved=("trans", "n_passed"),
)
