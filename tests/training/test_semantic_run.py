"""The semantic loss in a run: what is logged, saved and said."""

import json
from pathlib import Path

import imageio.v3 as iio
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dietnerf.export import render
from dietnerf.training import cli
from dietnerf.visualize import CAPTION_ROWS
from tests.helpers import SMALL_RUN, tiny_tower

PHOTOMETRIC = {"class_path": "dietnerf.losses.Photometric"}


def losses(tower: dict[str, str], **options) -> list[str]:
    encoder = {"class_path": "dietnerf.semantics.OpenCLIP", "init_args": tower}
    settings = {"encoder": encoder, "every": 2, "resolution": 16, **options}
    semantic = {"class_path": "dietnerf.losses.SemanticConsistency", "init_args": settings}
    return ["--model.losses", json.dumps([PHOTOMETRIC, semantic])]


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return tiny_tower(tmp_path_factory.mktemp("tower"))


def run(folder: Path, *options: str) -> dict:
    cli.main(["fit", *SMALL_RUN, "--run", str(folder), *options])
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)


def weights(checkpoint: dict) -> dict[str, torch.Tensor]:
    return {k: v for k, v in checkpoint["state_dict"].items() if isinstance(v, torch.Tensor)}


def equal(a: dict, b: dict) -> bool:
    pairs = (weights(a), weights(b))
    return pairs[0].keys() == pairs[1].keys() and all(
        torch.equal(pairs[0][name], pairs[1][name]) for name in pairs[0]
    )


@pytest.fixture(scope="module")
def semantic_run(tmp_path_factory: pytest.TempPathFactory, tower) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("runs") / "semantic"
    return folder, run(folder, *losses(tower))


def test_tensorboard_shows_the_view_its_cosine_and_the_weight(semantic_run):
    events = EventAccumulator(str(semantic_run[0])).Reload()
    assert {"train/semantic_cosine", "train/semantic_weight"} <= set(events.Tags()["scalars"])
    shown = iio.imread(events.Images("train/semantic")[-1].encoded_image_string)
    size = shown.shape[1] // 2  # a rendering, beside it the photograph, a line of text below
    assert shown.shape == (size + CAPTION_ROWS, 2 * size, 3)
    assert shown[:size, size:].std() > 10 and shown[size:].min() < 100 < shown[size:].mean()
    assert events.Scalars("train/semantic_weight")[-1].value == pytest.approx(0.1)


def test_a_scene_renders_and_is_tested_without_the_tower(semantic_run, tower, tmp_path: Path):
    folder, checkpoint = semantic_run
    assert not any(name.startswith("losses") for name in checkpoint["state_dict"])
    weights_file = Path(tower["pretrained"])
    hidden = weights_file.rename(tmp_path / "hidden.pt")
    try:
        out = tmp_path / "film.gif"
        options = ["--frames", "2", "--size", "12", "10", "--out", str(out)]
        render.main([str(folder), *options])
        cli.main(["test", "--run", str(folder), "--trainer.enable_progress_bar", "false"])
    finally:
        hidden.rename(weights_file)
    assert out.is_file() and (folder / "metrics.json").is_file()


def test_taken_out_it_leaves_the_run_as_it_was_without(semantic_run, tower, tmp_path: Path):
    plain = run(tmp_path / "plain")
    assert not equal(plain, semantic_run[1])
    assert equal(plain, run(tmp_path / "out", *losses(tower), "--use_semantic_loss", "false"))
    assert equal(plain, run(tmp_path / "zero", *losses(tower, weight=0.0)))


def test_a_resumed_run_goes_on_to_the_same_bits(semantic_run, tower, tmp_path: Path):
    folder = tmp_path / "resumed"
    run(folder, *losses(tower))
    early = folder / "checkpoints/000004.ckpt"
    last = run(folder, *losses(tower), "--ckpt_path", str(early))
    assert equal(last, semantic_run[1])


def test_missing_weights_are_said_before_anything_is_written(tower, tmp_path: Path, capsys):
    gone = {**tower, "pretrained": str(tmp_path / "gone.pt")}
    with pytest.raises(SystemExit) as ended:
        cli.main(["fit", *SMALL_RUN, "--run", str(tmp_path / "run"), *losses(gone)])
    assert ended.value.code != 0
    said = capsys.readouterr().err
    assert "gone.pt" in said and "--use_semantic_loss false" in said
    assert "Traceback" not in said and not (tmp_path / "run").exists()


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision(tower, tmp_path: Path, precision: str):
    last = run(tmp_path / "run", *losses(tower), "--trainer.precision", precision)
    assert all(value.isfinite().all() for value in weights(last).values())


def test_gradient_clipping(tower, tmp_path: Path):
    clip = ["--model.max_gradient_norm", "1e-4"]
    clipped = run(tmp_path / "clipped", *losses(tower), *clip)
    assert not equal(clipped, run(tmp_path / "free", *losses(tower)))
