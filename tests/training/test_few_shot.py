"""Few-shot losses, schedules and fields in whole runs: they train, resume, reload, and count."""

import shutil
from inspect import isabstract
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dietnerf import losses, research, schedules
from dietnerf.fields import HashGrid
from dietnerf.losses import AbstractLoss
from dietnerf.runs.checkpoints import find_checkpoint, load_scene
from dietnerf.schedules import AbstractSchedule
from dietnerf.training import cli
from tests.helpers import FEW_STEPS, SMALL_FIELD, fit, weights

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = ["--data.reader.init_args.resolution", "16", "--data.reader.init_args.n_test", "3"]
# A tower, proposals and Gaussians are missing.
NOT_HERE = ("SemanticConsistency", "Interlevel", "GaussianSize", "StructuralDissimilarity")
GRID = {"n_levels": 3, "log2_table_size": 9, "finest_resolution": 32, "width": 16}


def names_in(module, kind: type, without: tuple[str, ...] = ()) -> list[str]:
    found = [getattr(module, name) for name in module.__all__]
    return [
        f"{module.__name__}.{c.__name__}"
        for c in found
        if issubclass(c, kind) and not isabstract(c) and c.__name__ not in without
    ]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config with every loss but those of towers, proposals and Gaussians, and every schedule."""
    path = tmp_path_factory.mktemp("configs") / "everything.yaml"
    all_losses = names_in(losses, AbstractLoss, without=NOT_HERE)
    all_losses += names_in(research, AbstractLoss)
    all_schedules = names_in(schedules, AbstractSchedule) + names_in(research, AbstractSchedule)
    assert len(all_losses) >= 10 and len(all_schedules) >= 4
    small = {"class_path": "dietnerf.fields.HashGrid", "init_args": GRID}
    model = {
        "losses": [{"class_path": name} for name in all_losses],
        "schedules": [{"class_path": name} for name in all_schedules],
        "field": {"class_path": "dietnerf.fields.Ensemble", "init_args": {"n": 2, "field": small}},
    }
    path.write_text(yaml.safe_dump({"model": model, "data": {"pixel_jitter": True}}))
    return path


def small_fit(run: Path, *options: str) -> None:
    sampler = SMALL_FIELD[SMALL_FIELD.index("--model.sampler.init_args.resolution") :]
    few = [*FEW_STEPS, "--data.samples_per_step", "2048", *sampler]
    cli.main(["fit", "--config", "quickstart", *SMALL, *few, "--run", str(run), *options])


@pytest.fixture(scope="module")
def run(everything: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "everything"
    small_fit(path, "--config", str(everything), "--config", "ema")
    return path


def test_every_loss_is_logged(run: Path, everything: Path):
    tags = EventAccumulator(str(run)).Reload().Tags()["scalars"]
    for loss in ("distortion", "ray_entropy", "opacity_entropy", "silhouette", "empty_background"):
        assert f"train/{loss}" in tags
    for loss in ("depth_smoothness", "density_smoothness", "neighbor_divergence"):
        assert f"train/{loss}_weighted" in tags


def test_it_resumes_to_the_same_bits(run: Path, tmp_path: Path):
    other = tmp_path / "run"
    shutil.copytree(run, other)
    shutil.copy(other / "checkpoints/000004.ckpt", other / "checkpoints/last.ckpt")
    cli.main(["fit", "--run", str(other), "--ckpt_path", "last"])
    expected = weights(run / "checkpoints/last.ckpt")
    found = weights(other / "checkpoints/last.ckpt")
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_checkpoints_hold_the_average(run: Path):
    content = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    name = "field.members.0.table"
    assert not torch.equal(content["state_dict"][name], content["current_model_state"][name])
    system = load_scene(find_checkpoint(run))
    assert torch.equal(system.field.members[0].table, content["state_dict"][name])
    assert not system.field.training  # so that pictures are the mean of all members


def test_a_loss_of_no_weight_changes_nothing(tmp_path: Path):
    """Nor does a schedule that is over before it begins."""
    overlay = tmp_path / "overlay.yaml"
    names = ("Photometric", "Distortion", "DensitySmoothness")
    model = {
        "losses": [
            {"class_path": f"dietnerf.losses.{n}", "init_args": {"weight": float(i == 0)}}
            for i, n in enumerate(names)
        ],
        "schedules": [
            {"class_path": "dietnerf.schedules.LevelAnnealing", "init_args": {"until": 0.0}}
        ],
    }
    overlay.write_text(yaml.safe_dump({"model": model}))
    fit(tmp_path / "with", "--config", str(overlay))
    fit(tmp_path / "without")
    expected, found = (
        weights(tmp_path / name / "checkpoints/last.ckpt") for name in ("without", "with")
    )
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_a_level_that_is_masked_has_not_moved(tmp_path: Path):
    overlay = tmp_path / "overlay.yaml"
    schedule = {"class_path": "dietnerf.schedules.LevelAnnealing"}
    schedule["init_args"] = {"until": 1.0, "first": 1, "shape": "linear"}
    overlay.write_text(yaml.safe_dump({"model": {"schedules": [schedule]}}))
    fit(tmp_path / "run", "--config", str(overlay), "--model.table_decay", "0")
    first, last = (
        weights(tmp_path / "run" / "checkpoints" / f"{n}.ckpt") for n in ("000004", "last")
    )
    system = load_scene(find_checkpoint(tmp_path / "run"))
    begin = int(system.field.levels[-1, 1])
    assert first["field.level_weights"].tolist() == pytest.approx([1, 0.75, 0, 0])
    assert first["field.table"][begin:].abs().max() <= 1e-4  # as it began
    assert not torch.equal(first["field.table"][:begin], last["field.table"][:begin])


def test_testing_an_average_says_nothing_about_averaging(run: Path, recwarn):
    cli.main(["test", "--run", str(run), "--trainer.enable_progress_bar", "false"])
    assert not [w for w in recwarn if "WeightAveraging" in str(w.message)]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("losses", "DensitySmoothness", "none of them compares colors with the photos"),
        ("losses", "Distortion", "none of them compares colors with the photos"),
        ("schedules", "LevelAnnealing", "HashGrid has no levels of detail to anneal"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    option: str, value: str, message: str, tmp_path: Path, capsys, monkeypatch
):
    if option == "schedules":
        monkeypatch.setattr(HashGrid, "frequency_bands", lambda self: [])
    names = [f"{{class_path: dietnerf.{option}.{name}}}" for name in value.split(", ")]
    with pytest.raises(SystemExit) as ended:
        fit(tmp_path / "run", f"--model.{option}", f"[{', '.join(names)}]")
    assert ended.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
