import json
import os
import re
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import imageio.v3 as iio
import pytest
import torch
import yaml
from pytorch_lightning.loggers import Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from dietnerf.data import Procedural
from dietnerf.export import render
from dietnerf.runs.checkpoint_format import CHECKPOINT_FORMAT
from dietnerf.runs.checkpoints import find_checkpoint, load_scene
from dietnerf.training import cli
from tests.formats import write_blender, write_transforms
from tests.helpers import FEW_STEPS, SMALL_FIELD, SMALL_RUN, fit, refused, weights

SMALL_MLP = ["--model.field.init_args.depth", "3", "--model.field.init_args.width", "32"]


def test_a_run_holds_what_a_user_needs(finished_run: Path):
    names = {path.name for path in (finished_run / "checkpoints").iterdir()}
    assert names == {"000004.ckpt", "000008.ckpt", "000012.ckpt", "best.ckpt", "last.ckpt"}
    config = yaml.safe_load((finished_run / "config.yaml").read_text())
    assert config["data"]["rays_per_step"] == 64, "the command line beats the file"
    assert config["seed_everything"] == 0


def test_tensorboard_shows_losses_pictures_and_hyper_parameters(finished_run: Path):
    events = EventAccumulator(str(finished_run)).Reload()
    scalars = set(events.Tags()["scalars"])
    assert scalars >= {
        "train/loss", "train/photometric", "train/psnr", "train/learning_rate",
        "train/rays_per_second", "train/samples_per_ray", "train/occupied", "val/psnr",
        "final/val/psnr",
    }  # fmt: skip
    assert events.Tags()["images"] == ["val/photograph_rendering_depth_opacity"]
    weights = events.Histograms("val/weights_along_rays")[-1].histogram_value
    assert weights.num > 0 and 1e-3 < weights.min <= weights.max <= 1
    start = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    table = HParamsPluginData.FromString(start).session_start_info.hparams
    assert table["reader"].string_value == "Procedural" and table["n_views"].number_value == 16
    assert table["sampler/init_args/resolution"].number_value > 0


class Album(Logger):
    """A logger that is not TensorBoard's and takes pictures, as that of Weights & Biases."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures, self.chosen = {}, {}

    name, version = "album", 0

    def log_image(self, key: str, images: list, step: int) -> None:
        self.pictures[key] = images

    def log_hyperparams(self, params: dict, *args: object) -> None:
        self.chosen |= params

    def log_metrics(self, metrics: dict, step: int | None = None) -> None:
        pass


def test_another_logger_gets_pictures_and_hyper_parameters(tmp_path: Path, monkeypatch):
    album = Album()
    monkeypatch.setattr(cli, "EventFiles", lambda *args, **options: album)
    fit(tmp_path / "run")
    ((comparison,),) = [album.pictures["val/photograph_rendering_depth_opacity"]]
    assert comparison.shape == (16, 64, 3) and comparison.dtype == "uint8"
    assert album.chosen["n_views"] == 16


@pytest.mark.skipif(find_spec("wandb") is not None, reason="wandb is installed")
def test_a_logger_whose_package_is_missing_is_one_sentence(tmp_path: Path, capsys):
    options = ["--config", "quickstart", "--trainer.logger", "WandbLogger"]
    message = refused(capsys, cli.main, "fit", *options, "--run", str(tmp_path / "run"))
    assert "needs a package: Requirement 'wandb" in message
    assert not (tmp_path / "run").exists()


def test_a_capture_without_test_views_is_not_said_to_be_testable(tmp_path: Path, capsys):
    write_transforms(Procedural(resolution=16, n_train=4).read("train"), tmp_path / "scene")
    reader = ["--config", "photos", "--data.reader.init_args.root", str(tmp_path / "scene")]
    small = ["--model.field.init_args.log2_table_size", "11", "--data.samples_per_step", "1024"]
    options = [*reader, *small, *FEW_STEPS, "--save_every", "12"]
    run = str(tmp_path / "run")
    cli.main(["fit", *options, "--run", run])
    said = capsys.readouterr().out
    assert f"render.py {run}" in said and "train.py test" not in said
    assert refused(capsys, cli.main, "test", "--run", run) == (
        "error: no photo of this capture was kept for test: to keep every 8th, train it with "
        "--data.reader.init_args.hold_every 8"
    )


def test_same_seed_same_weights_to_the_bit(finished_run: Path, tmp_path: Path):
    fit(tmp_path / "again")
    fit(tmp_path / "other", "--seed_everything", "1")
    last = "checkpoints/last.ckpt"
    expected = weights(finished_run / last)
    again, other = weights(tmp_path / "again" / last), weights(tmp_path / "other" / last)
    assert all(torch.equal(again[key], value) for key, value in expected.items())
    assert not all(torch.equal(other[key], value) for key, value in expected.items())


def test_a_resumed_run_ends_where_an_unbroken_one_does(finished_run: Path, tmp_path: Path):
    """From the middle of an interval between validations, and by name."""
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    shutil.copy(run / "checkpoints/000004.ckpt", run / "checkpoints/last.ckpt")
    assert n_rays(run) != 64, "it has to go on with as many rays as it had come to"
    fit(run, "--ckpt_path", "last")
    expected = weights(finished_run / "checkpoints/last.ckpt")
    found = weights(run / "checkpoints/last.ckpt")
    assert "sampler.occupied" in found and n_rays(run) == n_rays(finished_run)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def n_rays(run: Path) -> int:
    saved = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    return saved["SceneDataModule"]["n_rays"]


def test_training_improves(tmp_path: Path):
    fit(tmp_path / "run", "--trainer.max_steps", "150", "--trainer.val_check_interval", "50")
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    psnrs = [event.value for event in events.Scalars("val/psnr")]
    # An all-white picture scores about 9; 150 steps of a small grid reach about 20.
    assert psnrs[-1] > psnrs[0] + 1 and psnrs[-1] > 18


def test_the_papers_network_learns_under_an_occupancy_grid(tmp_path: Path):
    toy = ["--data.reader", "dietnerf.data.Procedural", "--data.reader.init_args.resolution", "16"]
    sampler = "--model.sampler.init_args."
    options = [
        *("--config", "nerf", "--config", "occupancy", *toy, "--data.precrop_steps", "0"),
        *(*SMALL_MLP, "--model.learning_rate.init_args.initial", "5e-3", *FEW_STEPS),
        *(f"{sampler}resolution", "16", f"{sampler}n_steps", "64"),
        *(f"{sampler}update_every", "4", f"{sampler}warmup_steps", "16"),
        *("--trainer.max_steps", "80", "--trainer.val_check_interval", "40"),
    ]
    cli.main(["fit", *options, "--run", str(tmp_path / "run")])
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    psnrs = [event.value for event in events.Scalars("val/psnr")]
    assert psnrs[-1] > psnrs[0] + 1 and psnrs[-1] > 14


@pytest.mark.parametrize("every", ["5", "100"])
def test_the_last_checkpoint_is_that_of_the_last_step(every: str, tmp_path: Path):
    fit(tmp_path / "run", "--save_every", every)
    last = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 12 == last["dietnerf"]["history"]["steps"]


def test_test_writes_metrics_that_say_where_they_come_from(finished_run: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    cli.main(["test", "--run", str(run), "--trainer.enable_progress_bar", "false"])
    found = json.loads((run / "metrics.json").read_text())
    assert found["train_view_ids"] == list(range(16))
    assert found["steps"] == 12 and found["seed"] == 0
    assert found["protocol"] == "Procedural, 3 test views at 16x16 on white"
    assert found["train_seconds"] > 0 and found["versions"]["torch"] == torch.__version__
    per_view = [view["psnr"] for view in found["per_view"]]
    assert len(per_view) == 3 == len(list((run / "test").glob("*.png")))
    assert found["mean"]["psnr"] == pytest.approx(sum(per_view) / 3)
    for name in ("lpips_vgg", "lpips_vgg_paper"):
        assert (found["mean"][name] is None) == (name in found["unavailable"])


def test_predict_writes_a_picture_for_each_test_camera_and_says_where(
    finished_run: Path, tmp_path: Path, capsys
):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    cli.main(["predict", "--run", str(run), "--trainer.enable_progress_bar", "false"])
    assert len(list((run / "predict").glob("*.png"))) == 3
    assert f"is in {run / 'predict'}" in capsys.readouterr().out


def test_validate_scores_a_finished_run(finished_run: Path, capsys):
    run = ["--run", str(finished_run), "--trainer.enable_progress_bar", "false"]
    cli.main(["validate", *run])
    assert "val/psnr" in capsys.readouterr().out


def test_gradient_clipping_limits_the_whole_gradient(tmp_path: Path):
    """A clip to almost nothing leaves Adam's moments almost empty, chunks or not."""
    fit(tmp_path / "run", "--model.max_gradient_norm", "1e-6", "--data.rays_per_step", "512")
    saved = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    moments = [state["exp_avg"] for state in saved["optimizer_states"][0]["state"].values()]
    assert 0 < sum(m.square().sum() for m in moments).sqrt() <= 1e-6


def test_half_precision(tmp_path: Path):
    fit(tmp_path / "run", "--trainer.precision", "bf16-mixed")
    system = load_scene(find_checkpoint(tmp_path / "run"))
    for name, parameter in system.named_parameters():
        assert parameter.dtype == torch.float32 and parameter.isfinite().all(), name
    cli.main(["test", "--run", str(tmp_path / "run"), "--trainer.enable_progress_bar", "false"])
    assert json.loads((tmp_path / "run/metrics.json").read_text())["mean"]["psnr"] > 8


def test_print_config_shows_the_overlaid_values(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["fit", "--config", "nerf", "--config", "cpu", "--print_config"])
    assert ended.value.code in (0, None)
    config = yaml.safe_load(capsys.readouterr().out)
    reader = config["data"]["reader"]["init_args"]
    assert reader["downscale"] == 8 and reader["root"] == "nerf_synthetic/lego"
    # The overlay's sampler ends the last interval at far, not where the base does.
    assert config["model"]["sampler"]["init_args"]["last_delta"] is None


def test_resume_keeps_the_seed_that_the_run_began_with(tmp_path: Path):
    run = tmp_path / "run"
    fit(run, "--seed_everything", "3")
    begun = weights(run / "checkpoints/last.ckpt")
    shutil.copy(run / "checkpoints/000004.ckpt", run / "checkpoints/last.ckpt")
    cli.main(["fit", "--run", str(run), "--ckpt_path", "last"])  # with the run's own config
    found = weights(run / "checkpoints/last.ckpt")
    assert all(torch.equal(found[key], value) for key, value in begun.items())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("field", ("width", "48")),
        ("field", ("log2_table_size", "12")),
        ("field", ("finest_resolution", "128")),  # a table of the same size
        ("sampler", ("resolution", "64")),
    ],
    ids=str,
)
def test_another_model_is_refused_and_leaves_the_run_as_it_is(
    option: str, value: tuple[str, str], finished_run: Path, capsys
):
    before = contents(finished_run)
    options = ["--run", str(finished_run), f"--model.{option}.init_args.{value[0]}", value[1]]
    for command in (["fit", *SMALL_RUN, "--ckpt_path", "last"], ["test"]):
        assert "does not fit the model" in refused(capsys, cli.main, *command, *options)
    assert contents(finished_run) == before


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_photographs_and_renderings_stand_on_the_same_background(finished_run: Path, capsys):
    """A black background darkens both: the field of a white scene is compared with its own."""
    silent = ["--trainer.enable_progress_bar", "false"]
    scores = []
    for background in ("white", "black"):
        cli.main(["validate", f"--run={finished_run}", f"--data.background={background}", *silent])
        scores.append(float(re.findall(r"val/psnr.*?([0-9.]+)", capsys.readouterr().out)[0]))
    assert abs(scores[0] - scores[1]) > 1e-3


def test_broken_config_is_named(tmp_path: Path, capsys):
    config = tmp_path / "broken.yaml"
    for content in (b"data: [", b"\xff\xfe", b"- 1"):
        config.write_bytes(content)
        assert str(config) in refused(capsys, cli.main, "fit", "--config", str(config))


def test_run_that_is_a_file(tmp_path: Path, capsys):
    (tmp_path / "run").write_text("")
    message = refused(
        capsys, cli.main, "fit", "--config", "quickstart", "--run", str(tmp_path / "run")
    )
    assert "is a file; name a folder" in message


def end_to_end(root: Path, tmp_path: Path, *options: str) -> dict:
    """fit, test and render a Blender-format folder; the scores."""
    run = ["--run", str(tmp_path / "run")]
    cli.main(["fit", *options, "--data.reader.init_args.root", str(root), *FEW_STEPS, *run])
    cli.main(["test", *run, "--trainer.enable_progress_bar", "false"])
    out = tmp_path / "film.gif"
    render.main([str(tmp_path / "run"), "--frames", "2", "--size", "12", "10", "--out", str(out)])
    assert iio.imread(out).shape == (2, 10, 12, 3)
    return json.loads((tmp_path / "run/metrics.json").read_text())


METHODS = {
    "fast": ["--config", "fast", *SMALL_FIELD],
    "paper": [
        *("--config", "nerf", "--config", "cpu", *SMALL_MLP),
        *("--model.sampler.init_args.n_samples", "16"),
    ],
    "paper under occupancy": [
        *("--config", "nerf", "--config", "occupancy", *SMALL_MLP),
        *("--model.sampler.init_args.resolution", "16"),
        *("--model.sampler.init_args.update_every", "1"),
        *("--model.sampler.init_args.warmup_steps", "6"),
    ],
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_blender_folder_end_to_end(method: list[str], tmp_path: Path):
    """Without a validation split: one is taken from the photographs that are not trained on."""
    reader = Procedural(resolution=16, n_train=7, n_test=2)
    for split in ("train", "test"):
        write_blender(reader.read(split), tmp_path / "scene", split)
    options = ["--data.views.init_args.n", "3", "--data.reader.init_args.downscale", "1"]
    found = end_to_end(tmp_path / "scene", tmp_path, *method, *options)
    assert len(found["train_view_ids"]) == 3 and len(found["per_view"]) == 1
    assert found["views"] == {"rule": "RandomViews", "n": 3, "seed": 0}


def test_photos_of_unlike_size_through_a_lens_end_to_end(tmp_path: Path):
    """With masks, depth maps, and the film of cameras that have a lens."""
    scene = Procedural(resolution=16, n_train=9).read("train")
    masks = torch.ones(9, 16, 16, dtype=torch.bool)
    masks[1, 14:], masks[4, :, 12:], masks[8, :2] = False, False, False
    lens = {"distortion": torch.tensor([[-0.1] + 8 * [0.0]]).expand(9, 9)}
    cameras = replace(scene.cameras, **lens, is_fisheye=torch.zeros(9, dtype=torch.bool))
    write_transforms(replace(scene, masks=masks, cameras=cameras), tmp_path / "scene")
    reader = ["--data.reader", "dietnerf.data.Transforms"]
    depth = ["--model.losses+", "{class_path: dietnerf.losses.Depth, init_args: {n_rays: 8}}"]
    losses = ["--model.losses", "[{class_path: dietnerf.losses.Photometric}]", *depth]
    options = ["--config", "fast", *reader, *SMALL_FIELD, *losses]
    found = end_to_end(tmp_path / "scene", tmp_path, *options, "--data.views.init_args.n", "3")
    assert [view["view"] for view in found["per_view"]] == ["train_0", "train_8"]
    assert found["mean"]["psnr"] > 5
    saved = load_scene(find_checkpoint(tmp_path / "run")).camera_set
    assert saved.cameras["train"].distortion[0, 0] == pytest.approx(-0.1)


def test_lego_end_to_end(tmp_path: Path):
    """The real scene with the paper's views, at 25x25."""
    root = Path(os.environ.get("DIETNERF_DATA", "nowhere")) / "nerf_synthetic/lego"
    if not root.is_dir():
        pytest.skip("$DIETNERF_DATA has no nerf_synthetic/lego")
    small = ["--data.reader.init_args.downscale", "32", *SMALL_FIELD]
    found = end_to_end(root, tmp_path, "--config", "fast", *small)
    assert found["train_view_ids"] == [26, 86, 2, 55, 75, 93, 16, 73]
    assert found["protocol"] == "Blender, 25 test views at 25x25 on white"
    assert found["mean"]["psnr"] > 5


FIELD = ["--config", "quickstart", "--data.reader.init_args.resolution", "16"]
FAR_BOX = "[50, 50, 50, 51, 51, 51]"
MISSPELT = "[{class_path: dietnerf.losses.Distortion, init_args: {wieght: 1}}]"
HUGE = [
    *(*FIELD, "--model.field.init_args.log2_table_size", "30"),
    *("--model.field.init_args.n_levels", "64"),
    *("--model.field.init_args.finest_resolution", str(1 << 20)),
]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--config", "nowhere.yaml"], "there is no config nowhere.yaml"),
        (["--config", "missing/nerf.yaml"], "there is no config missing/nerf.yaml"),
        (["--config", "quickstart", "--trainer.max_steps", "0"], "trainer.max_steps is 0"),
        (["--config", "quickstart", "--save_every", "0"], "save_every is 0"),
        (["--config", "quickstart", "--model.table_decay", "-1"], "table_decay is -1"),
        (["--config", "quickstart", "--trainer.precision", "bf16-true"], "trainer.precision is"),
        (["--config", "quickstart", "--trainer.accelerator", "gpu"], "gpu"),
        (["--config", "quickstart", "--data.samples_per_step", "0"], "samples_per_step is 0"),
        ([*FIELD, "--model.field.init_args.log2_table_size", "40"], "must be 3 to 30, got 40"),
        ([*HUGE, "--model.field.init_args.n_features", "8"], "choose a smaller log2_table_size"),
        ([*FIELD, "--model.field.init_args.bounds", FAR_BOX], "field.bounds: no training camera"),
        ([*FIELD, "--model.sampler.init_args.bounds", FAR_BOX], "sampler.bounds: no training"),
        (["--config", "nerf", "--model.sampler.init_args.n_fine", "0"], "n_fine"),
        (["--config", "nerf", "--model.field.init_args.depth", "0"], "depth must be 1"),
        (["--config", "quickstart", "--model.learning_rate.init_args.initial", "0"], "positive"),
        (["--config", "quickstart", "--data.views.init_args.n", "0"], "must be at least 1"),
        (["--config", "quickstart", "--data.views.init_args.n", "99"], "there are 16"),
        (["--config", "quickstart", "--data.rays_per_step", "many"], "data.rays_per_step"),
        (["--config", "quickstart", "--model.feild", "x"], "--model.feild"),
        (["--config", "quickstart", "--model.field.class_path", "Nope"], "Nope"),
        ([*FIELD, "--model.losses", MISSPELT], "\"model.losses\": Option 'wieght' is not accepted"),
        (["--config", "quickstart", "--ckpt_path", "last"], "there is no checkpoint at"),
        (["--config", "nerf", "--data.reader.init_args.root", "/nowhere"], "/nowhere"),
        (["--config", "nerf", "--data.reader.init_args.near", "9"], "near 9 and far 6"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(options, sentence, tmp_path: Path, capsys):
    run = tmp_path / "run"
    assert sentence in refused(capsys, cli.main, "fit", "--run", str(run), *options)
    assert not run.exists()


def test_a_second_fit_does_not_write_over_the_first(finished_run: Path, capsys):
    before = (finished_run / "checkpoints/last.ckpt").read_bytes()
    message = refused(capsys, cli.main, "fit", *SMALL_RUN, "--run", str(finished_run))
    assert "holds a run already" in message
    assert (finished_run / "checkpoints/last.ckpt").read_bytes() == before


def test_unknown_run(capsys, tmp_path: Path):
    assert "there is no run at" in refused(
        capsys, cli.main, "test", "--run", str(tmp_path / "typo")
    )


def checkpoint_like(finished_run: Path, path: Path, **changes) -> None:
    saved = torch.load(finished_run / "checkpoints/last.ckpt", weights_only=True)
    saved["dietnerf"] |= changes
    torch.save(saved, path)


def test_broken_checkpoints_are_named(finished_run: Path, tmp_path: Path, capsys):
    torn, foreign, newer, text = (
        tmp_path / f"{n}.ckpt" for n in ("torn", "foreign", "newer", "text")
    )
    torn.write_bytes((finished_run / "checkpoints/last.ckpt").read_bytes()[:1000])
    torch.save({"state_dict": {}}, foreign)
    text.write_text("101 not a checkpoint")
    checkpoint_like(finished_run, newer, format=CHECKPOINT_FORMAT + 1, version="9.0")
    sentences = {
        torn: "is not a readable checkpoint",
        text: "is not a readable checkpoint",
        foreign: "was not written by dietnerf",
        newer: "was written by dietnerf 9.0",
    }
    for path, sentence in sentences.items():
        message = refused(
            capsys, cli.main, "test", "--run", str(finished_run), "--ckpt_path", str(path)
        )
        assert str(path) in message and sentence in message
