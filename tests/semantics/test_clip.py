"""The CLIP tower: what it sees, which features it gives, and what it says without weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.semantics import OpenCLIP
from tests.conftest import needs_cuda
from tests.helpers import tiny_tower

CPU = torch.device("cpu")
TOWERS = Path(os.environ.get("DIETNERF_DATA", "nowhere")) / "towers"


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return tiny_tower(tmp_path_factory.mktemp("tower"))


def loaded(**options) -> OpenCLIP:
    encoder = OpenCLIP(**options)
    encoder.load(CPU)
    return encoder


def smooth_image(height: int, width: int) -> Tensor:
    """8-bit steps, so that PIL is handed the same, (1, 3, height, width)."""
    coarse = torch.rand(1, 3, 6, 6)
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return (fine * 255).round() / 255


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 20), (75, 75), (48, 90), (97, 40)])
def test_images_are_prepared_as_open_clip_does_it(tower, height: int, width: int):
    from open_clip import image_transform

    encoder = loaded(**tower)
    image = smooth_image(height, width)
    pixels = (image[0].permute(1, 2, 0) * 255).round().byte().numpy()
    settings = encoder.visual.preprocess_cfg
    expected = image_transform(
        32, is_train=False, mean=settings["mean"], std=settings["std"], interpolation="bicubic"
    )(Image.fromarray(np.ascontiguousarray(pixels)))
    found = encoder.prepared(image)
    assert found.shape == (1, 3, 32, 32)
    difference = (found[0] - expected).abs()
    assert difference.mean() < 0.01 and difference.max() < 0.05


def test_the_two_features_are_those_of_the_model(tower):
    image = torch.rand(2, 3, 32, 32)
    for feature, width in (("cls", 32), ("projected", 16)):
        encoder = loaded(**tower, feature=feature)
        visual = encoder.visual
        projected = visual(encoder.prepared(image))
        tokens = visual.transformer(visual._embeds(encoder.prepared(image)))
        expected = projected if feature == "projected" else tokens[:, 0]
        found = encoder(image)
        assert found.shape == (2, width)
        torch.testing.assert_close(found, torch.nn.functional.normalize(expected, dim=-1))


def test_gradients_reach_the_image_and_nothing_of_the_tower(tower):
    encoder = loaded(**tower)
    image = torch.rand(1, 3, 40, 40, requires_grad=True)
    encoder(image)[0, 0].backward()
    assert image.grad.abs().max() > 0
    assert not encoder.visual.training
    assert all(not p.requires_grad and p.grad is None for p in encoder.visual.parameters())


@needs_cuda
def test_a_tower_recorded_on_cuda_answers_alike(tower):
    image = torch.rand(2, 3, 40, 40, device="cuda", requires_grad=True)
    found = []
    for use_cuda_graphs in (False, True):
        encoder = OpenCLIP(**tower, use_cuda_graphs=use_cuda_graphs)
        encoder.load(image.device)
        for _ in range(2):  # what is recorded, and what is replayed
            features = encoder(image)
            (gradient,) = torch.autograd.grad(features[:, 0].sum(), image)
        found.append((features.detach(), gradient))
    torch.testing.assert_close(found[0], found[1])


def test_gradient_in_the_image_is_the_finite_difference(tower):
    encoder = loaded(**tower)
    encoder.visual.double()
    encoder.dtype = "float64"
    image = 0.2 + 0.6 * torch.rand(1, 3, 12, 12, dtype=torch.float64)
    image.requires_grad_()

    def embedded(x: Tensor) -> Tensor:
        return encoder.features(x)[0, :4]

    assert torch.autograd.gradcheck(embedded, image, eps=1e-5, atol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.02), ("float16", 0.003)])
def test_half_precision_is_near(tower, dtype: str, tolerance: float):
    image = torch.rand(3, 3, 32, 32)
    exact, found = loaded(**tower)(image), loaded(**tower, dtype=dtype)(image)
    assert found.dtype == torch.float32
    assert (1 - (exact * found).sum(dim=1)).abs().max() < tolerance


def test_autocast_leaves_the_tower_alone(tower):
    encoder, image = loaded(**tower), torch.rand(1, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder(image), encoder.__call__(image))
        inside = encoder(image)
    assert torch.equal(inside, encoder(image))


def test_mean_and_std_can_be_given(tower):
    encoder = loaded(**tower, mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(encoder.prepared(image), 2 * image - 1)


def test_a_trained_tower_tells_scenes_apart():
    if not TOWERS.is_dir():
        pytest.skip("$DIETNERF_DATA has no towers")
    from dietnerf.data import Blender
    from dietnerf.data.images import read_image

    encoder = loaded(
        model="mobilenetv2-imagenet",
        pretrained=str(TOWERS / "mobilenetv2-imagenet.safetensors"),
        model_config=str(TOWERS / "mobilenetv2-imagenet.json"),
        mean=[0.5] * 3,
        std=[0.5] * 3,
    )
    lego = Blender(str(TOWERS.parent / "nerf_synthetic/lego"), downscale=4).read("test")
    photos = sorted((TOWERS.parent / "nerf_llff_data/fern/images_8").glob("*.png"))[:2]
    images = [lego.image(i, torch.ones(3)) for i in (0, 9)]
    images += [read_image(photo)[..., :3] / 255 for photo in photos]
    a, b, c, d = (encoder(image.permute(2, 0, 1)[None])[0] for image in images)
    assert min(a @ b, c @ d) > max(a @ c, a @ d, b @ c, b @ d) + 0.1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pretrained": "/nowhere/clip.pt"}, "/nowhere/clip.pt, the image encoder's pretrained"),
        ({"model_config": "/nowhere/a.json"}, "/nowhere/a.json, the image encoder's model_config"),
        ({"pretrained": "openia"}, "knows no weights openia of ViT-B-32-quickgelu"),
        ({"model": "ViT-Z"}, "knows no model ViT-Z"),
        ({"pretrained": None}, "has no weights"),
    ],
)
def test_what_is_not_there_is_named(options: dict, sentence: str):
    with pytest.raises(UserError, match=sentence):
        OpenCLIP(**options).load(CPU)


def test_file_that_holds_no_weights(tower, tmp_path: Path):
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"broken\.pt"):
        OpenCLIP(**{**tower, "pretrained": str(broken)}).load(CPU)


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "[1]", "\0"])
def test_a_broken_description_is_named_and_forgotten(tower, content: str, tmp_path: Path):
    broken = tmp_path / "broken.json"
    broken.write_text(content)
    with pytest.raises(UserError, match=r"broken.json (is not valid JSON|must hold a JSON object)"):
        loaded(**tower | {"model_config": str(broken)})
    loaded(**tower)


def test_weights_out_of_reach_say_which_file_and_where_it_was_searched(tmp_path: Path):
    """In a process of its own: the hub reads its settings once."""
    code = (
        "import torch, dietnerf.semantics as s\\n"
        "try: s.OpenCLIP().load(torch.device('cpu'))\\n"
        "except Exception as e: print(type(e).__name__, e)"
    ).replace("\\n", "\n")
    settings = {"HF_HUB_CACHE": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    said = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **settings}, capture_output=True, text=True
    ).stdout
    assert said.startswith("UserError The image encoder ViT-B-32-quickgelu (openai) needs")
    assert str(tmp_path) in said and "timm/vit_base_patch32_clip_224.openai" in said
    assert "--use_semantic_loss false" in said


@pytest.mark.parametrize(
    "options",
    [
        {"vision_cfg": {"timm_model_name": "hf-hub:evil/vit", "timm_model_pretrained": False}},
        {"vision_cfg": {"timm_model_name": "vit_tiny", "timm_model_pretrained": True}},
        {"text_cfg": {"hf_model_name": "evil/text"}},
        {"text_cfg": ["x"]},
    ],
)
def test_a_description_that_would_fetch_something_is_refused(options: dict, tmp_path: Path):
    path = tmp_path / "tower.json"
    path.write_text(json.dumps(options))
    tower = OpenCLIP(model="tower", pretrained=None, model_config=str(path))
    with pytest.raises(UserError, match=r"tower\.json"):
        tower.load(torch.device("cpu"))


@pytest.mark.parametrize("place", ["evil", "../../etc", "a/b c", ""])
def test_a_place_that_is_none_of_the_hub_is_one_sentence(place: str):
    with pytest.raises(UserError, match="is no owner/repository on the hub"):
        OpenCLIP(model=f"hf-hub:{place}", pretrained=None).load(torch.device("cpu"))
