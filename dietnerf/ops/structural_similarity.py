"""Mean structural similarity (SSIM) of two images, as an op."""

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.ops._check import check_floats
from dietnerf.ops._define import define
from dietnerf.ops._shapes import check_shapes, shapes

WINDOW, SIGMA = 11, 1.5  # of Wang et al. 2004, as are the constants for colors from 0 to 1
C1, C2 = 0.01**2, 0.03**2
BORDER = WINDOW - 1
INPUTS = shapes(x="height width 3", y="height width 3")
OUTPUTS = shapes(similarity="", derivatives="3 height+10 width+10 3")


def structural_similarity(x: Tensor, y: Tensor) -> Tensor:
    """Mean structural similarity of two images, SSIM (Wang et al. 2004).

    With <.> the blur by a Gaussian window of 11x11 pixels, standard deviation 1.5, a channel has
    (2 <x> <y> + C1) (2 (<x y> - <x> <y>) + C2) over
    (<x>^2 + <y>^2 + C1) (<x^2> - <x>^2 + <y^2> - <y>^2 + C2) at a pixel, C1 = 0.01^2 and
    C2 = 0.03^2. The mean is over channels and all pixels whose window lies inside the image.

    Differentiable once in x and y; deterministic.

    Args:
        x, y: colors from 0 to 1, (height, width, 3), at least 11 pixels high and wide.

    Returns:
        A scalar from -1 to 1; 1 for equal images.
    """
    check_shapes("structural_similarity", INPUTS, {"x": x, "y": y})
    check_floats("structural_similarity", x=x, y=y)
    if min(x.shape[:2]) < WINDOW:
        raise ValueError(
            f"structural_similarity: x and y must be at least {WINDOW} pixels high and wide, got "
            f"{tuple(x.shape)}"
        )
    similarity, _ = _op(x, y)
    mean: Tensor = similarity
    return mean


def reference(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The similarity, and its derivatives by <x>, by <x^2> as by <y^2>, and by <x y>, with zeros
    around them, (3, height + 10, width + 10, 3): blurred as images are, they give the gradient."""
    maps = _blurred(torch.cat([x, y, x * x + y * y, x * y], dim=-1)).split(3, dim=-1)
    mean_x, mean_y, squares, product = maps
    a1, a2 = 2 * mean_x * mean_y + C1, 2 * (product - mean_x * mean_y) + C2
    b1 = mean_x**2 + mean_y**2 + C1
    b2 = squares - mean_x**2 - mean_y**2 + C2
    similarity = a1 * a2 / (b1 * b2)
    by_squares, by_product = -similarity / b2, 2 * a1 / (b1 * b2)
    by_mean = 2 * (mean_y * (a2 - a1) / (b1 * b2) - mean_x * (similarity / b1 + by_squares))
    derivatives = torch.stack([by_mean, by_squares, by_product]).detach() / similarity.numel()
    return similarity.mean(), F.pad(derivatives, (0, 0, *(4 * [BORDER])))


def _blurred(images: Tensor) -> Tensor:
    """(height, width, n) to (height - 10, width - 10, n)."""
    n = images.shape[-1]
    offsets = torch.arange(WINDOW, dtype=torch.float64, device=images.device) - WINDOW // 2
    window = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    window = (window / window.sum()).to(images.dtype).expand(n, 1, 1, -1)
    # Channels last, a group each: on a CPU 50 times as fast as a batch of single channels.
    stacked = images.permute(2, 0, 1)[None]
    down = F.conv2d(stacked, window.transpose(2, 3), groups=n)
    return F.conv2d(down, window, groups=n)[0].permute(1, 2, 0)


_op = define(
    "structural_similarity",
    reference,
    inputs=INPUTS,
    outputs=OUTPUTS,
    like="x",
    differentiable=("x", "y"),
    saved=("derivatives",),
)
