"""Image metrics of one view: PSNR, SSIM and LPIPS, in the paper's protocol and in the standard one.

Images are float (h, w, 3) sRGB in [0, 1]. Predictions may leave that range by a rounding: nothing
is clamped here, as in the authors' code. The same metric in two protocols has two names, because
their values differ and must not share a table column.
"""

import math
import socket
from collections.abc import Callable
from functools import partial
from http.client import HTTPException
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError
from statistics import fmean

import torch
import torchmetrics
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import VGG16_Weights, vgg16

from dietnerf.errors import UserError
from dietnerf.tensor_files import load_tensors

SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # K1, K2 of Wang et al. 2004 at a data range of 1
VGG_BLOCKS = (0, 4, 9, 16, 23, 30)  # cut after relu1_2, relu2_2, relu3_3, relu4_3, relu5_3
LPIPS_EPSILON = 1e-10  # of the `lpips` package; torchmetrics has 1e-8
DOWNLOAD_SILENCE_SECONDS = 10.0
MOST_BYTES = 1e9  # of a file of VGG-16's weights, which has 553 MB
UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, HTTPException, UnpicklingError)
VGG_URL = VGG16_Weights.IMAGENET1K_V1.url
LINEAR_WEIGHTS = Path(torchmetrics.__file__).parent / "functional/image/lpips_models/vgg.pth"

Scores = dict[str, float | None]  # metric name -> finite value: json.dump writes it as it is
Metric = Callable[[Tensor, Tensor], Tensor]


def psnr(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio of one image in dB: -10 log10(mean squared error).

    A set of views is reported as the mean of this value, not as the PSNR of the mean error.

    Args:
        prediction, target: (h, w, 3).
        mask: which pixels count, bool, (h, w), at least one; without it, all.

    Returns:
        Scalar; infinite where the images are equal.
    """
    _check_images("psnr", prediction, target)
    if mask is not None:
        prediction, target = prediction[mask], target[mask]
    return -10.0 * torch.log10(F.mse_loss(prediction.float(), target.float()))


def ssim_uniform7(prediction: Tensor, target: Tensor) -> Tensor:
    """SSIM as in the authors' code of DietNeRF: scikit-image's defaults with a data range of 1.

    7 x 7 uniform windows inside the image and the sample covariance, n / (n - 1). torchmetrics
    differs in both: it averages the reflected border in and takes the population covariance.

    Args:
        prediction, target: (h, w, 3) with both sides at least 7.

    Returns:
        Scalar, the mean over windows and channels.
    """
    _check_images("ssim_uniform7", prediction, target, min_side=7)
    x, y = _as_batch(prediction), _as_batch(target)
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = (
        F.avg_pool2d(image, kernel_size=7, stride=1) for image in (x, y, x * x, y * y, x * y)
    )  # each (1, 3, h - 6, w - 6)
    to_sample = 49 / 48
    variances = to_sample * (mean_xx - mean_x**2 + mean_yy - mean_y**2)
    covariance = to_sample * (mean_xy - mean_x * mean_y)
    numerator = (2 * mean_x * mean_y + SSIM_C1) * (2 * covariance + SSIM_C2)
    return (numerator / ((mean_x**2 + mean_y**2 + SSIM_C1) * (variances + SSIM_C2))).mean()


def ssim_gauss11(prediction: Tensor, target: Tensor) -> Tensor:
    """SSIM of Wang et al. 2004: Gaussian window of 11 pixels and sigma 1.5, valid windows only.

    Equal to scikit-image with `gaussian_weights=True, sigma=1.5, use_sample_covariance=False` and
    to JaxNeRF's `compute_ssim`. torchmetrics averages the reflected border in, kornia can omit it.

    Args:
        prediction, target: (h, w, 3) with both sides at least 11.

    Returns:
        Scalar, the mean over windows and channels.
    """
    from kornia.metrics import ssim as gaussian_ssim_map  # a second, for this alone

    _check_images("ssim_gauss11", prediction, target, min_side=11)
    x, y = _as_batch(prediction), _as_batch(target)
    ssim_map: Tensor = gaussian_ssim_map(x, y, window_size=11, eps=0.0, padding="valid")
    return ssim_map.mean()


class VggLpips(nn.Module):
    """LPIPS v0.1 with the VGG-16 backbone (Zhang et al. 2018), equal to the `lpips` package.

    It expects images in [-1, 1]. The weights of the channels come with torchmetrics.

    Args:
        state: of torchvision's VGG-16 trained on ImageNet (`IMAGENET1K_V1`); only its `features.*`
            are read. Any other network is a RuntimeError of `load_state_dict`.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        with torch.device("meta"):  # the classifier, 0.5 GB, is never allocated
            features = vgg16(weights=None, init_weights=False).features
        prefix = "features."
        convolutions = {k.removeprefix(prefix): x for k, x in state.items() if prefix in k}
        features.load_state_dict(convolutions, assign=True)
        self.blocks = nn.ModuleList(features[start:end] for start, end in pairwise(VGG_BLOCKS))
        linear = torch.load(LINEAR_WEIGHTS, map_location="cpu", weights_only=True)
        self.channel_weights = nn.ParameterList(
            linear[f"lin{i}.model.1.weight"] for i in range(len(self.blocks))
        )  # each (1, n_channels, 1, 1)
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]))
        self.float().requires_grad_(False)

    @torch.no_grad()
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The distance of two (h, w, 3) images, both sides at least 16, as a scalar."""
        _check_images("lpips_vgg", prediction, target, min_side=16)
        with torch.autocast(prediction.device.type, enabled=False):
            images = [(image.float() - self.shift) / self.scale for image in (prediction, target)]
            pair = [image.permute(2, 0, 1)[None] for image in images]
            distance = pair[0].new_zeros(())
            for block, channel_weights in zip(self.blocks, self.channel_weights, strict=True):
                pair = [block(activations) for activations in pair]
                unit = [F.normalize(activations, dim=1, eps=LPIPS_EPSILON) for activations in pair]
                distance += (channel_weights * (unit[0] - unit[1]) ** 2).sum(dim=1).mean()
        return distance


class ImageMetrics:
    """Every metric of a view under its own name; what cannot be computed is None, with a reason.

    - `psnr`: of this image; the paper's and everybody's.
    - `ssim_uniform7`: the paper's SSIM. `ssim_gauss11`: the standard one.
    - `lpips_vgg_paper`: LPIPS fed [0, 1] where it expects [-1, 1], as the authors' code did: for
      comparison with the paper's tables only. `lpips_vgg`: the correct one.

    Construction reads the VGG-16 weights, so a wrong file is reported before any rendering.

    Args:
        lpips_weights: a state dict of torchvision's VGG-16 (`vgg16-397923af.pth`; its `features.*`
            suffice). None takes the torch hub cache, downloading into it once if need be.

    Attributes:
        unavailable: metric name -> why it is None; for a view's own reason, of the first such view.
    """

    def __init__(self, lpips_weights: str | Path | None = None) -> None:
        self.unavailable: dict[str, str] = {}
        self._lpips: VggLpips | None = None
        if lpips_weights is not None:
            self._lpips = _lpips_from_file(Path(lpips_weights))
            return
        try:
            self._lpips = _lpips_from_hub()
        except UNREADABLE as error:
            file = Path(torch.hub.get_dir(), "checkpoints", Path(VGG_URL).name)
            reason = f"no VGG-16 weights for LPIPS ({error}); place {file} or pass --lpips_weights"
            self.unavailable = {"lpips_vgg_paper": reason, "lpips_vgg": reason}

    @torch.no_grad()
    def __call__(self, prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Scores:
        """Score one view, prediction and target (h, w, 3), on the device of the prediction.

        Of a `mask` (h, w) of the pixels that count, the smallest rectangle around them is scored.
        PSNR leaves out what does not count; the others, which compare windows, see the target
        there in both images.

        Returns:
            The five names with a finite float, or None: JSON has no infinity for the PSNR of equal
            images and no NaN for a broken render.
        """
        _check_images("ImageMetrics", prediction, target)
        prediction, target = prediction.float(), target.to(prediction.device, torch.float32)
        scores: Scores = {"psnr": self._score("psnr", partial(psnr, mask=mask), prediction, target)}
        if mask is not None:
            prediction, target = _within(mask, prediction, target)
        scores |= {
            metric.__name__: self._score(metric.__name__, metric, prediction, target)
            for metric in (ssim_uniform7, ssim_gauss11)
        }
        scores |= {"lpips_vgg_paper": None, "lpips_vgg": None}
        if self._lpips is not None:
            lpips = self._lpips.to(prediction.device)
            scores["lpips_vgg_paper"] = self._score("lpips_vgg_paper", lpips, prediction, target)
            signed = [2 * image - 1 for image in (prediction, target)]
            scores["lpips_vgg"] = self._score("lpips_vgg", lpips, *signed)
        return scores

    def _score(self, name: str, metric: Metric, x: Tensor, y: Tensor) -> float | None:
        try:
            value = float(metric(x, y))
            reason = "infinite: the images are equal" if value == math.inf else "not finite"
        except ValueError as error:  # the view is smaller than the window
            value, reason = math.nan, str(error)
        if math.isfinite(value):
            return value
        self.unavailable.setdefault(name, reason)
        return None


def _within(mask: Tensor, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The rectangle around the pixels that count, with the target where one does not."""
    rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
    part = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
    filled = torch.where(mask[..., None], prediction, target)
    return filled[part], target[part]


def mean_metrics(per_view: list[Scores]) -> Scores:
    """The mean of each metric over one view or more; None where any view has None."""
    if not per_view:
        raise ValueError("mean_metrics: per_view must hold at least one view, got none")
    columns = {name: [scores[name] for scores in per_view] for name in per_view[0]}
    present = {name: [x for x in column if x is not None] for name, column in columns.items()}
    return {name: fmean(x) if len(x) == len(per_view) else None for name, x in present.items()}


def _lpips_from_file(path: Path) -> VggLpips:
    if not path.is_file():
        raise UserError(f"--lpips_weights: there is no file {path}")
    try:
        return VggLpips(load_tensors(path, MOST_BYTES))
    except UserError as error:
        raise UserError(f"--lpips_weights: {error}") from error
    except Exception as error:  # whatever a foreign file makes torch raise
        raise UserError(f"--lpips_weights: {path} is not a state dict of VGG-16") from error


def _lpips_from_hub() -> VggLpips:
    # torch.hub opens its connection without a timeout: a silent network would hang the evaluation.
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_SILENCE_SECONDS)
    try:
        load = torch.hub.load_state_dict_from_url
        return VggLpips(load(VGG_URL, map_location="cpu", check_hash=True, weights_only=True))
    finally:
        socket.setdefaulttimeout(previous)


def _as_batch(image: Tensor) -> Tensor:
    # Double: a variance as a difference of moments loses half the digits, and TF32 the other half.
    return image.double().permute(2, 0, 1)[None].contiguous()  # (1, 3, h, w)


def _check_images(op: str, prediction: Tensor, target: Tensor, min_side: int = 1) -> None:
    for name, image in (("prediction", prediction), ("target", target)):
        if not image.is_floating_point() or image.ndim != 3 or image.shape[-1] != 3:
            found = f"{image.dtype} {tuple(image.shape)}"
            raise ValueError(f"{op}: {name} must be float (h, w, 3), got {found}")
    if prediction.shape != target.shape:
        sizes = f"{tuple(prediction.shape)} and {tuple(target.shape)}"
        raise ValueError(f"{op}: prediction and target must have one shape, got {sizes}")
    height, width = prediction.shape[:2]
    if min(height, width) < min_side:
        raise ValueError(f"{op}: sides must be at least {min_side}, got {height} x {width}")
