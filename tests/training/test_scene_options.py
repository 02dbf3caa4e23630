"""Short options, and a capture in place of a preset."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml

from dietnerf.data import ImageDataset, Procedural
from dietnerf.presets import preset_for
from dietnerf.runs.checkpoints import find_checkpoint, read_checkpoint
from dietnerf.training import cli, scene_options
from dietnerf.training.scene_options import expand
from tests.formats import write_blender, write_colmap, write_transforms
from tests.helpers import FEW_STEPS, refused


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighteen photos with a background."""
    folder = tmp_path_factory.mktemp("scenes") / "corner"
    whole = Procedural(resolution=16, n_train=18).read("train")
    opaque = whole.images.clone()[..., :3]
    photos = ImageDataset(opaque, whole.cameras, whole.view_ids, whole.names)
    write_transforms(photos, folder)
    return folder


def content_of(words: list[str]) -> dict:
    return yaml.safe_load(next(word for word in words if "\n" in word))


def test_short_options_are_written_out():
    short = ["--config", "fast", "--steps", "30", "--seed=3", "--views", "5", "--devices", "2"]
    assert expand("fit", short) == [
        *("--config", "fast", "--trainer.max_steps", "30", "--seed_everything", "3"),
        *("--trainer.devices", "2", "--minutes", "null", "--data.views.init_args.n", "5"),
    ]


def test_the_viewer_is_asked_for_with_and_without_a_value():
    for words in (["--viewer"], ["--viewer", "true"]):
        assert expand("fit", [*words, "--config", "fast"]) == [
            *("--config", "fast", "--viewer", "true")
        ]
    assert expand("fit", ["--viewer", "false"]) == ["--viewer", "false"]


def test_a_capture_chooses_reader_preset_and_what_is_held_out(scene: Path, capsys):
    words = expand("fit", ["--scene", str(scene)])
    assert words[:2] == ["--config", "photos"] and words[-2:] == ["--run", "runs/corner"]
    data = content_of(words)["data"]
    assert data["reader"]["class_path"] == "dietnerf.data.Transforms"
    options = data["reader"]["init_args"]
    assert options["root"] == str(scene) and options["hold_every"] == 8
    assert options["downscale"] == "auto" and "orient" in options, "none of a preset's stays"
    assert data["views"] == {"class_path": "dietnerf.data.AllViews"}
    said = capsys.readouterr().out
    assert "15 photos that look in different directions, so --config photos" in said
    assert "every 8th (3) is kept for `test`" in said


def test_few_photos_are_all_trained_on(tmp_path: Path, capsys):
    few = Procedural(resolution=16, n_train=8).read("train")
    write_blender(few, tmp_path / "few", "train")
    words = expand("fit", ["--scene", str(tmp_path / "few"), "--run", "x", "--downscale", "2"])
    assert words[:4] == ["--config", "fast", "--config", "object-8view"] and words[-1] == "x"
    options = content_of(words)["data"]["reader"]["init_args"]
    assert options["downscale"] == 2 and options["test_every"] == 1
    assert "only 8 photos of an object that is cut out" in capsys.readouterr().out


def test_of_few_photos_some_can_be_kept_for_a_test(tmp_path: Path, capsys):
    """As the message of `test` says, and the documentation."""
    whole = Procedural(resolution=16, n_train=10).read("train")
    opaque = ImageDataset(whole.images[..., :3], whole.cameras, whole.view_ids, whole.names)
    write_transforms(opaque, tmp_path / "few")
    fit = ["fit", "--scene", str(tmp_path / "few"), *FEW_STEPS, "--steps", "2"]
    run = ["--run", str(tmp_path / "all")]
    cli.main([*fit, *run])
    said = refused(capsys, cli.main, "test", *run)
    (option,) = re.findall(r"`?(--data\.reader\.init_args\.hold_every \d+)", said)
    run = ["--run", str(tmp_path / "some")]
    cli.main([*fit, *run, *option.split()])
    cli.main(["test", *run])
    assert len(list((tmp_path / "some/test").iterdir())) == 2


@pytest.mark.parametrize("n_points", [0, 20])
def test_sparse_points_are_made_use_of_where_a_capture_has_them(n_points: int, tmp_path: Path):
    whole = Procedural(resolution=16, n_train=18).read("train")
    opaque = ImageDataset(whole.images[..., :3].clone(), whole.cameras, whole.view_ids, whole.names)
    points = torch.rand(n_points, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    write_colmap(opaque, tmp_path, points)
    words = expand("fit", ["--scene", str(tmp_path), "--run", "x"])
    presets = [b for a, b in pairwise(words) if a == "--config" and "\n" not in b]
    assert presets == (["photos", "points"] if n_points else ["photos"])


def test_a_number_of_views(scene: Path):
    views = content_of(expand("fit", ["--scene", str(scene), "--views", "3"]))["data"]["views"]
    assert views == {"class_path": "dietnerf.data.FarthestViews", "init_args": {"n": 3}}


def test_a_chosen_preset_keeps_its_views(scene: Path, capsys):
    words = expand("fit", ["--scene", str(scene), "--config", "quickstart"])
    assert words[:2] == ["--config", "quickstart"] and "views" not in content_of(words)["data"]
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--config", "fast", "--steps", "9", "--minutes", "1"], "are both the length"),
        (["--scene", "nowhere"], "there is no --scene nowhere"),
        (["--scene", "SCENE", "--views", "many"], "--views is 'many'; give a whole number"),
        (["--scene", "SCENE", "--views", "0"], "--views is '0'"),
        (["--scene", "SCENE", "--views", "99"], "99"),
        (["--scene", "SCENE", "--downscale", "x"], "--downscale is 'x'; give a number or auto"),
        (["--run", "RUN"], "name a scene, --scene FOLDER, or a preset"),
        (["--data.reader.init_args.root", "SCENE"], "options but no class: --scene FOLDER finds"),
        (["--config", "quickstart", "--steps", "many"], "it must be a whole number, got many"),
        (["--config", "quickstart", "--data.reader", "dietnerf.data.Blendr"], "mean Blender?"),
        (["--config", "quickstart", "--data.reader", "dietnerf.data.Xyzzy"], "there are Blender,"),
        (
            ["--config", "fast", "--model.field.init_args.finest_resolutoin", "3"],
            "mean finest_resolution?",
        ),
    ],
)
def test_mistakes_are_one_sentence(options, sentence, scene: Path, tmp_path: Path, capsys):
    words = [word.replace("SCENE", str(scene)) for word in options]
    words = [word.replace("RUN", str(tmp_path / "run")) for word in words]
    run = [] if "--run" in words else ["--run", tmp_path / "run"]
    assert sentence in refused(capsys, cli.main, "fit", *words, *run)
    assert not (tmp_path / "run").exists()


def test_a_scene_is_trained_and_tested_without_a_config(scene: Path, tmp_path: Path, capsys):
    run = tmp_path / "run"
    small = ["--model.field.init_args.log2_table_size", "11"]
    cli.main(["fit", "--scene", str(scene), "--run", str(run), *FEW_STEPS, *small])
    cli.main(["test", "--run", str(run)])
    cli.main(["fit", "--run", str(run), "--ckpt_path", "last", "--steps", "16"])
    assert read_checkpoint(find_checkpoint(run))["global_step"] == 16
    assert (run / "metrics.json").is_file()
    capsys.readouterr()
    cli.main(["fit", "--run", str(run), "--ckpt_path", "last", "--steps", "9"])
    assert "has 16 steps already, and ends at 9: nothing was trained" in capsys.readouterr().out


def test_a_scene_is_for_training_alone(scene: Path, tmp_path: Path, capsys):
    for verb in ("test", "validate", "predict"):
        said = refused(capsys, cli.main, verb, "--scene", scene, "--run", tmp_path)
        assert f"{verb} takes the scene of its --run" in said


def test_a_config_by_its_short_name_is_a_choice(scene: Path, capsys):
    words = expand("fit", ["--scene", str(scene), "-c", "quickstart"])
    assert words[:2] == ["--config", "quickstart"] and not capsys.readouterr().out


def test_many_renderings_without_test_views_are_all_trained_on(tmp_path: Path, capsys):
    many = Procedural(resolution=8, n_train=30).read("train")
    write_blender(many, tmp_path / "many", "train")
    words = expand("fit", ["--scene", str(tmp_path / "many")])
    assert words[:4] == ["--config", "fast", "--config", "dense"]
    assert "kept" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "needs_field"),
    [
        ([], False),
        (["--model.refinement", "CameraRefinement"], True),
        (["--model.use_cuda_graphs=true"], True),
        (["--accelerator", "tpu"], True),
        (["--trainer.accelerator=tpu"], True),
    ],
)
def test_options_of_fields_alone_keep_gaussians_away(options, needs_field, scene, monkeypatch):
    found = []

    def recorded(*args):
        found.append(args[-1])
        return preset_for(*args)

    monkeypatch.setattr(scene_options, "preset_for", recorded)
    expand("fit", ["--scene", str(scene), *options])
    assert found == [needs_field]
