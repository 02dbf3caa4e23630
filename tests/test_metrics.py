"""The image metrics against closed forms, scikit-image and the `lpips` package; no network."""

import json
import math
import pickle
import socket
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torchvision.models import vgg16

from dietnerf.errors import UserError
from dietnerf.metrics import (
    ImageMetrics,
    Metric,
    Scores,
    VggLpips,
    mean_metrics,
    psnr,
    ssim_gauss11,
    ssim_uniform7,
)

NAMES = ["psnr", "ssim_uniform7", "ssim_gauss11", "lpips_vgg_paper", "lpips_vgg"]
C1, C2 = 1e-4, 9e-4


def view(height: int = 40, width: int = 52, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A smooth image whose upper third is white background, and the same with noise below it."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 7, generator=generator)
    target = nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    target = target.permute(1, 2, 0).contiguous()
    target[: height // 3] = 1.0
    prediction = target + 0.1 * torch.randn(target.shape, generator=generator)
    prediction[: height // 4] = 1.0
    return prediction, target  # the prediction leaves [0, 1] on purpose


def random_features() -> nn.Sequential:
    with torch.device("meta"):
        features: nn.Sequential = vgg16(weights=None, init_weights=False).features
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, value in features.state_dict().items():
        fan_in = value[0].numel() if value.ndim == 4 else 100
        state[name] = torch.randn(value.shape, generator=generator) * math.sqrt(2 / fan_in)
    features.load_state_dict(state, assign=True)
    features.requires_grad_(False)
    return features


@pytest.fixture(scope="module")
def backbone() -> nn.Sequential:
    return random_features()


@pytest.fixture(scope="module")
def weights_file(backbone: nn.Sequential, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "vgg.pth"
    state = {f"features.{name}": x for name, x in backbone.state_dict().items()}
    state["classifier.6.bias"] = torch.zeros(1000)  # the published file holds these too
    torch.save(state, path, _use_new_zipfile_serialization=False)  # and is of the old format
    return path


@pytest.fixture(scope="module")
def scorer(weights_file: Path) -> ImageMetrics:
    return ImageMetrics(str(weights_file))


@pytest.fixture
def empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A torch hub directory without weights, and a network that answers nothing in time."""

    def refuse(*_: object, **__: object) -> None:
        assert socket.getdefaulttimeout() is not None, "a silent network would hang"
        raise URLError("timed out")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    return tmp_path


def test_psnr_of_a_constant_offset() -> None:
    target = torch.full((4, 5, 3), 0.5)
    assert_close(psnr(target + 0.1, target), torch.tensor(20.0), rtol=1e-5, atol=0)  # float32


def test_psnr_does_not_clamp() -> None:
    assert_close(
        psnr(torch.full((4, 5, 3), 1.1), torch.ones(4, 5, 3)).item(), 20.0, rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("ssim", [ssim_uniform7, ssim_gauss11])
def test_ssim_of_flat_images_is_its_luminance_term(ssim: Metric) -> None:
    x, y = 0.2, 0.9
    value = ssim(torch.full((16, 12, 3), x), torch.full((16, 12, 3), y))
    expected = (2 * x * y + C1) / (x * x + y * y + C1)
    assert value.item() == pytest.approx(expected, abs=1e-6)  # x and y are rounded to float32


def test_ssim_uniform7_of_one_window_is_the_formula() -> None:
    prediction, target = (image[15:22, :7].double() for image in view())
    scores = []
    for x, y in zip(prediction.unbind(-1), target.unbind(-1), strict=True):
        (var_x, cov), (_, var_y) = torch.cov(torch.stack([x.flatten(), y.flatten()])).tolist()
        mean_x, mean_y = x.mean().item(), y.mean().item()
        luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
        scores.append(luminance * (2 * cov + C2) / (var_x + var_y + C2))
    assert ssim_uniform7(prediction, target).item() == pytest.approx(sum(scores) / 3, abs=1e-12)


@pytest.mark.parametrize("shape", [(40, 52), (11, 30)])
def test_ssims_equal_scikit_image(shape: tuple[int, int]) -> None:
    skimage_metrics = pytest.importorskip("skimage.metrics")
    prediction, target = view(*shape)
    images = [image.double().numpy() for image in (prediction, target)]
    arguments = {"channel_axis": -1, "data_range": 1.0}
    expected = skimage_metrics.structural_similarity(*images, **arguments)
    assert ssim_uniform7(prediction, target).item() == pytest.approx(expected, abs=1e-10)
    arguments |= {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = skimage_metrics.structural_similarity(*images, **arguments)
    assert ssim_gauss11(prediction, target).item() == pytest.approx(expected, abs=1e-10)
    assert abs(ssim_gauss11(prediction, target) - ssim_uniform7(prediction, target)) > 1e-3


def test_half_precision_is_scored_in_float() -> None:
    prediction, target = (image.bfloat16() for image in view())
    for metric in (psnr, ssim_uniform7, ssim_gauss11):
        assert_close(metric(prediction, target), metric(prediction.float(), target.float()))


@pytest.mark.parametrize("metric", [psnr, ssim_uniform7, ssim_gauss11])
def test_wrong_images_are_named(metric: Metric) -> None:
    image = torch.rand(16, 16, 3)
    name = metric.__name__
    with pytest.raises(ValueError, match=rf"{name}: target must be float \(h, w, 3\), got .*16, 4"):
        metric(image, torch.rand(16, 16, 4))
    with pytest.raises(ValueError, match=f"{name}: prediction must be float .* torch.uint8"):
        metric((255 * image).byte(), image)
    with pytest.raises(ValueError, match=f"{name}: prediction and target must have one shape"):
        metric(image, torch.rand(16, 17, 3))


def test_lpips_equals_the_lpips_package(
    scorer: ImageMetrics, backbone: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    lpips = pytest.importorskip("lpips")
    fake_torchvision = SimpleNamespace(vgg16=lambda **_: SimpleNamespace(features=backbone))
    monkeypatch.setattr(lpips.pretrained_networks, "tv", fake_torchvision)
    authors = lpips.LPIPS(net="vgg", verbose=False)
    prediction, target = view()
    batches = [image.permute(2, 0, 1)[None] for image in (prediction, target)]
    paper = authors(*batches).item()
    correct = authors(*batches, normalize=True).item()
    assert abs(paper - correct) > 1e-3 * correct  # the conventions differ, so the test can fail
    scores = scorer(prediction, target)
    assert scores["lpips_vgg_paper"] == pytest.approx(paper, rel=1e-5)  # float32 convolutions
    assert scores["lpips_vgg"] == pytest.approx(correct, rel=1e-5)


def test_lpips_records_no_gradient(scorer: ImageMetrics, backbone: nn.Sequential) -> None:
    prediction, target = view()
    state = {f"features.{name}": x for name, x in backbone.state_dict().items()}
    assert not VggLpips(state)(prediction.requires_grad_(), target).requires_grad
    assert scorer(prediction, target).keys() == set(NAMES)


def test_lpips_is_the_same_under_autocast(scorer: ImageMetrics) -> None:
    images = view()
    with torch.autocast("cpu", torch.bfloat16):
        scores = scorer(*images)
    assert scores == scorer(*images)


def test_scores_are_json_and_equal_images_have_no_infinity(weights_file: Path) -> None:
    scorer = ImageMetrics(weights_file)
    _, target = view()
    scores = json.loads(json.dumps(scorer(target, target), allow_nan=False))
    assert list(scores) == NAMES
    assert scores["psnr"] is None
    assert scorer.unavailable == {"psnr": "infinite: the images are equal"}
    assert scores["ssim_uniform7"] == pytest.approx(1.0, abs=1e-12)
    assert scores["ssim_gauss11"] == pytest.approx(1.0, abs=1e-12)
    assert scores["lpips_vgg"] == scores["lpips_vgg_paper"] == 0.0


def test_a_broken_render_scores_none(scorer: ImageMetrics) -> None:
    prediction, target = view()
    prediction[20, 20] = math.nan
    assert set(scorer(prediction, target).values()) == {None}


def test_small_views_have_what_fits_and_reasons(weights_file: Path) -> None:
    scorer = ImageMetrics(weights_file)
    scores = scorer(*(image[15:24] for image in view()))
    assert [name for name in NAMES if scores[name] is None] == NAMES[2:]
    assert (
        scorer.unavailable["ssim_gauss11"] == "ssim_gauss11: sides must be at least 11, got 9 x 52"
    )
    assert "at least 16" in scorer.unavailable["lpips_vgg"]


def test_without_network_lpips_is_none_with_a_reason(empty_hub: Path) -> None:
    scorer = ImageMetrics()
    assert socket.getdefaulttimeout() is None
    assert set(scorer.unavailable) == {"lpips_vgg_paper", "lpips_vgg"}
    for word in ("timed out", "--lpips_weights", str(empty_hub), "vgg16-397923af.pth"):
        assert word in scorer.unavailable["lpips_vgg"]
    scores = scorer(*view())
    assert scores["lpips_vgg"] is None
    assert scores["lpips_vgg_paper"] is None
    assert scores["ssim_gauss11"] is not None


def test_weights_in_the_hub_cache_need_no_network(empty_hub: Path, weights_file: Path) -> None:
    (empty_hub / "checkpoints").mkdir()
    (empty_hub / "checkpoints" / "vgg16-397923af.pth").symlink_to(weights_file)
    scorer = ImageMetrics()
    assert scorer.unavailable == {}
    assert scorer(*view())["lpips_vgg"] == ImageMetrics(weights_file)(*view())["lpips_vgg"]


def test_a_broken_file_in_the_hub_cache_is_a_reason(empty_hub: Path) -> None:
    (empty_hub / "checkpoints").mkdir()
    for content in (b"", b"not weights", b"PK\x03\x04"):
        (empty_hub / "checkpoints" / "vgg16-397923af.pth").write_bytes(content)
        assert "no VGG-16 weights" in ImageMetrics().unavailable["lpips_vgg"]


def test_a_missing_weights_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--lpips_weights: there is no file .*nowhere\.pth"):
        ImageMetrics(tmp_path / "nowhere.pth")


def test_foreign_weights_files_are_user_errors(tmp_path: Path, weights_file: Path) -> None:
    state = torch.load(weights_file, weights_only=True)
    foreign = {
        "other.pth": {"weight": torch.zeros(2)},
        "part.pth": {name: x for name, x in state.items() if "28" not in name},
        "list.pth": [torch.zeros(2)],
        "words.pth": dict.fromkeys(state, "weights"),
    }
    for name, content in foreign.items():
        torch.save(content, tmp_path / name)
    (tmp_path / "text.pth").write_text("not weights")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "cut.pth").write_bytes(weights_file.read_bytes()[:1000])
    (tmp_path / "code.pth").write_bytes(pickle.dumps(print, protocol=2))
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(UserError, match=rf"{path.name} is not a state dict of VGG-16"):
            ImageMetrics(path)


def test_the_mean_is_over_views_and_none_where_any_is_none() -> None:
    per_view: list[Scores] = [{"psnr": 20.0, "lpips_vgg": 0.5}, {"psnr": 30.0, "lpips_vgg": None}]
    assert mean_metrics(per_view) == {"psnr": 25.0, "lpips_vgg": None}
    with pytest.raises(ValueError, match="at least one view"):
        mean_metrics([])


def test_only_what_a_mask_keeps_is_scored():
    prediction, target = view()
    mask = torch.zeros(40, 52, dtype=torch.bool)
    mask[:30, :40] = True
    spoilt = torch.where(mask[..., None], prediction, 0.0)
    metrics = ImageMetrics.__new__(ImageMetrics)
    metrics.unavailable, metrics._lpips = {}, None
    found, expected = metrics(spoilt, target, mask), metrics(prediction[:30, :40], target[:30, :40])
    assert found == pytest.approx(expected, abs=1e-6)
    mask[5:9, 7:20] = False
    spoilt[5:9, 7:20] = 0.5
    assert_close(psnr(spoilt, target, mask), psnr(prediction[mask][None], target[mask][None]))
    assert metrics(spoilt, target, mask)["ssim_gauss11"] > 0.3
