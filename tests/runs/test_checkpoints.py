"""Checkpoints from anywhere: what they declare is compared with what they hold, and nothing that
they say decides what is removed or written over."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import EarlyStopping, EMAWeightAveraging
from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.export import render
from dietnerf.runs.checkpoint_format import CHECKPOINT_FORMAT
from dietnerf.runs.checkpoints import (
    checkpoints_of,
    find_checkpoint,
    load_scene,
    read_checkpoint,
)
from dietnerf.training import cli
from tests.helpers import refused

Content = dict[str, Any]


def changed(run: Path, to: Path, change: Callable[[Content], None]) -> Path:
    """A copy of a run with a changed last checkpoint, and no others."""
    content = torch.load(find_checkpoint(run), weights_only=True)
    change(content)
    (to / "checkpoints").mkdir(parents=True)
    shutil.copy(run / "config.yaml", to)
    torch.save(content, to / "checkpoints" / "last.ckpt")
    return to


def option(part: str, name: str, value: Any) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        content["hyper_parameters"][part]["init_args"][name] = value

    return change


def nested(depth: int) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        field = content["hyper_parameters"]["field"]
        for _ in range(depth):
            field = {"class_path": "Ensemble", "init_args": {"field": field, "n": 64}}
        content["hyper_parameters"]["field"] = field

    return change


def many_losses(content: Content) -> None:
    content["hyper_parameters"]["losses"] = [{"class_path": "Photometric"}] * 1_000_000


def of_mlp(name: str, value: int) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        content["hyper_parameters"]["field"] = {"class_path": "MLP", "init_args": {name: value}}

    return change


ABSURD = {
    "levels": option("field", "n_levels", 10**9),
    "64 levels": option("field", "n_levels", 64),
    "table": option("field", "log2_table_size", 24),
    "width": option("field", "width", 2**40),
    "color layers": option("field", "color_layers", 10**9),
    "16 color layers": option("field", "color_layers", 16),
    "cells": option("sampler", "resolution", 1024),
    "levels of cells": option("sampler", "n_levels", 8),
    "steps": option("sampler", "n_eval_steps", 10**12),
    "depth": of_mlp("depth", 10**9),
    "octaves": of_mlp("position_octaves", 10**9),
    "a wide MLP": of_mlp("width", 16384),
    "members of members": nested(8),
    "losses": many_losses,
}


@pytest.mark.parametrize("change", ABSURD.values(), ids=ABSURD)
def test_what_is_declared_but_not_held_is_refused_before_it_is_built(
    change, finished_run: Path, tmp_path: Path, monkeypatch
):
    """Nothing is built on the CPU: that would take memory, or hours."""
    path = find_checkpoint(changed(finished_run, tmp_path / "run", change))
    on_cpu: list[Tensor] = []
    register = torch.nn.Module.register_parameter

    def watched(self: torch.nn.Module, name: str, tensor: Any) -> None:
        if tensor is not None and tensor.device.type != "meta":
            on_cpu.append(tensor)
        register(self, name, tensor)

    monkeypatch.setattr(torch.nn.Module, "register_parameter", watched)
    with pytest.raises(UserError, match=r"last\.ckpt"):
        load_scene(path)
    assert on_cpu == []


@pytest.mark.parametrize("command", ["test", "validate", "fit"])
def test_a_config_that_declares_more_than_the_checkpoint_holds_is_refused(
    command: str, finished_run: Path, tmp_path: Path, capsys
):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("log2_table_size: 11", "log2_table_size: 24"))
    assert "24" in config.read_text()
    said = refused(capsys, cli.main, command, "--run", str(run), "--ckpt_path", "last")
    assert "does not fit the model of this command" in said


def stretched(content: Content) -> None:
    cameras = content["dietnerf"]["camera_set"]["cameras"]["train"]
    cameras["c2w"] = torch.eye(4)[:3].expand(10**9, 3, 4)


def huge(content: Content) -> None:
    cameras = content["dietnerf"]["camera_set"]["cameras"]["train"]
    cameras["width"] = cameras["height"] = 10**9


def camera(name: str, change: Callable[[Any], Any]) -> Callable[[Content], None]:
    def apply(content: Content) -> None:
        cameras = content["dietnerf"]["camera_set"]["cameras"]["train"]
        cameras[name] = change(cameras[name])

    return apply


def camera_set(name: str, value: Any) -> Callable[[Content], None]:
    def apply(content: Content) -> None:
        content["dietnerf"]["camera_set"][name] = value

    return apply


CAPTURES = {
    "poses by stride 0": stretched,
    "pictures of 1e9 x 1e9": huge,
    "no width": camera("width", lambda _: 0),
    "a broken width": camera("width", lambda _: 1.5),
    "a width of text": camera("width", lambda _: "16"),
    "a true height": camera("height", lambda _: True),
    "no focal length": camera("focal", torch.zeros_like),
    "a negative focal length": camera("focal", torch.neg),
    "a pose that is no number": camera("c2w", lambda x: x * torch.nan),
    "a pose without rotation": camera("c2w", torch.zeros_like),
    "a pose of another size": camera("c2w", lambda x: x[:, :2]),
    "a pose for one camera": camera("c2w", lambda x: x[:1]),
    "poses in double precision": camera("c2w", torch.Tensor.double),
    "poses in a list": camera("c2w", torch.Tensor.tolist),
    "complex poses": camera("c2w", lambda x: x.to(torch.complex64)),
    "sparse poses": camera("c2w", lambda x: x.to_sparse()),
    "no poses": camera("c2w", lambda _: None),
    "far before near": camera("far", torch.zeros_like),
    "near below zero": camera("near", torch.neg),
    "far without end": camera("far", lambda x: x / 0),
    "one near for all": camera("near", lambda x: x[0]),
    "a lens of text": camera("distortion", lambda _: "fisheye"),
    "a lens for no camera": camera("distortion", lambda _: torch.zeros(0, 9)),
    "half a lens": camera("is_fisheye", lambda _: torch.zeros(3, dtype=torch.bool)),
    "cameras in a list": camera_set("cameras", []),
    "another split": camera_set("cameras", {"../x": {}}),
    "no cameras of a split": camera_set("cameras", {"train": {}}),
    "views of text": camera_set("view_ids", {"train": "all"}),
    "negative views": camera_set("view_ids", {"train": [-1]}),
    "a background of text": camera_set("background", "white"),
    "a background beyond white": camera_set("background", torch.full((3,), 2.0)),
    "a background that is no number": camera_set("background", torch.full((3,), torch.nan)),
    "a background of four": camera_set("background", torch.ones(4)),
    "one thing more": camera_set("more", 1),
}


@pytest.mark.parametrize("change", CAPTURES.values(), ids=CAPTURES)
def test_cameras_that_cannot_be_are_one_sentence(
    change, finished_run: Path, tmp_path: Path, capsys
):
    run = changed(finished_run, tmp_path / "run", change)
    said = refused(capsys, render.main, str(run))
    assert said.startswith("error: ") and "last.ckpt" in said


def test_a_camera_set_that_is_none_is_one_sentence(finished_run: Path, tmp_path: Path, capsys):
    for number, value in enumerate((None, [], "x", 7)):
        run = changed(
            finished_run,
            tmp_path / str(number),
            lambda content, value=value: content["dietnerf"].update(camera_set=value),
        )
        assert "the camera set has other entries" in refused(capsys, render.main, str(run))


def weight(name: str, change: Callable[[Tensor], Any]) -> Callable[[Content], None]:
    def apply(content: Content) -> None:
        content["state_dict"][name] = change(content["state_dict"][name])

    return apply


def named(change: Callable[[Content], None]) -> Callable[[Content], None]:
    return lambda content: change(content["state_dict"])


WEIGHTS = {
    "of another size": weight("field.table", lambda x: x[:-1]),
    "by stride 0": weight("field.table", lambda x: x[:1].clone().expand_as(x)),
    "in half precision": weight("field.table", torch.Tensor.half),
    "in double precision": weight("field.table", torch.Tensor.double),
    "whole numbers": weight("field.table", torch.Tensor.long),
    "complex": weight("field.table", lambda x: x.to(torch.complex64)),
    "sparse": weight("field.table", torch.Tensor.to_sparse),
    "without bytes": weight("field.table", lambda x: x.to("meta")),
    "quantized": weight("field.table", lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)),
    "not finite": weight("field.table", lambda x: x * torch.nan),
    "without end": weight("field.density_net.0.weight", lambda x: x / 0),
    "text": weight("field.table", lambda _: "x"),
    "a list": weight("field.table", lambda x: x.tolist()),
    "a box inside out": weight("field.box", lambda x: x.flip(0)),
    "a box without end": weight("sampler.bounds", lambda x: x * torch.inf),
    "cells of another type": weight("sampler.occupied", torch.Tensor.float),
    "a box beyond numbers": weight("field.box", lambda x: x / x.abs() * 3e38),
    "a state that is no number": weight("sampler._extra_state", lambda _: torch.tensor(torch.nan)),
    "a state of text": weight("sampler._extra_state", lambda _: "x"),
    "missing": named(lambda state: state.pop("field.table")),
    "one more": named(lambda state: state.update({"field.more": torch.zeros(1)})),
    "none": named(lambda state: state.clear()),
    "a number as name": named(lambda state: state.update({7: torch.zeros(1)})),
    "not there": lambda content: content.pop("state_dict"),
    "a list of weights": lambda content: content.update(state_dict=[torch.zeros(1)]),
    "no options": lambda content: content.pop("hyper_parameters"),
    "options of text": lambda content: content.update(hyper_parameters="x"),
    "a history of text": lambda content: content["dietnerf"].update(history="x"),
    "steps of text": lambda content: content["dietnerf"]["history"].update(steps="x"),
    "a negative seed": lambda content: content["dietnerf"]["history"].update(seed=-1),
    "a history with more": lambda content: content["dietnerf"]["history"].update(more=1),
    "no version": lambda content: content.update(dietnerf={"format": CHECKPOINT_FORMAT}),
    "a format of numbers": lambda content: content["dietnerf"].update(format=torch.ones(2)),
    "a format of text": lambda content: content["dietnerf"].update(format="x", version=[]),
}


@pytest.mark.parametrize("change", WEIGHTS.values(), ids=WEIGHTS)
def test_weights_that_are_none_are_one_sentence(change, finished_run: Path, tmp_path: Path, capsys):
    run = changed(finished_run, tmp_path / "run", change)
    said = refused(capsys, render.main, str(run))
    assert said.startswith("error: ") and "last.ckpt" in said
    assert not list(run.glob("*.gif"))


def loops(content: Content) -> None:
    content["loops"] = {"fit_loop": {"epoch_loop.batch_progress": "x"}}


def steps_taken(value: Any) -> Callable[[Content], None]:
    def apply(content: Content) -> None:
        loop = content["loops"]["fit_loop"]
        progress = loop["epoch_loop.automatic_optimization.optim_progress"]
        progress["optimizer"]["step"]["total"]["completed"] = value

    return apply


def callbacks(content: Content) -> None:
    content["callbacks"] = dict.fromkeys(content["callbacks"], "x")


def of_schedule(name: str, value: Any) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        content["lr_schedulers"][0][name] = value

    return change


STATES = {
    "loops": loops,
    "a broken step": steps_taken(12.5),
    "a step that is no number": steps_taken(float("nan")),
    "a step of text": steps_taken("x"),
    "a step before all": steps_taken(-(10**18)),
    "no history": lambda content: content["dietnerf"].pop("history"),
    "a seed beyond 32 bit": lambda content: content["dietnerf"]["history"].update(seed=2**33),
    "no loops": lambda content: content.pop("loops"),
    "callbacks": callbacks,
    "callbacks in a list": lambda content: content.update(callbacks=[1]),
    "optimizer": lambda content: content.update(optimizer_states=["x"]),
    "no optimizer": lambda content: content.update(optimizer_states=[]),
    "learning rate": lambda content: content.update(lr_schedulers=["x"]),
    "a learning rate at a step of text": of_schedule("last_epoch", "x"),
    "a learning rate before all steps": of_schedule("last_epoch", -1),
    "a learning rate at no step": lambda content: content["lr_schedulers"][0].clear(),
    "steps": lambda content: content.update(global_step="x"),
    "epoch": lambda content: content.update(epoch=None),
    "rays": lambda content: content["SceneDataModule"].update(n_rays=10**12),
    "no rays": lambda content: content.pop("SceneDataModule"),
}


def test_a_schedule_takes_nothing_but_its_step(finished_run: Path, tmp_path: Path):
    def change(content: Content) -> None:
        content["lr_schedulers"][0].update(get_lr=1, step="x", optimizer="x", base_lrs=[9.0])

    run = changed(finished_run, tmp_path / "run", change)
    cli.main(["fit", "--run", str(run), "--ckpt_path", "last", "--trainer.max_steps", "16"])
    (state,) = read_checkpoint(run / "checkpoints" / "last.ckpt")["lr_schedulers"]
    assert state["last_epoch"] == 16 and state["base_lrs"] != [9.0]


CALLBACKS = {
    "an average at a step of text": ("EMAWeightAveraging", {"latest_update_step": "x"}),
    "an average at no step": ("EMAWeightAveraging", {"latest_update_step": None}),
    "a count of text": ("EarlyStopping", {"wait_count": "x"}),
    "a score that is a list": ("EarlyStopping", {"best_score": [1]}),
    "a score of many": ("EarlyStopping", {"best_score": torch.zeros(9)}),
    "a state that is none": ("EarlyStopping", "x"),
}


@pytest.mark.parametrize("name", CALLBACKS)
def test_a_state_of_a_callback_that_cannot_be_is_one_sentence(
    name: str, finished_run: Path, tmp_path: Path, capsys
):
    which, state = CALLBACKS[name]
    callback = {
        "EMAWeightAveraging": EMAWeightAveraging(),
        "EarlyStopping": EarlyStopping("val/psnr"),
    }[which]
    if isinstance(state, dict):
        state = callback.state_dict() | state
    run = changed(
        finished_run,
        tmp_path / "run",
        lambda content: content["callbacks"].update({callback.state_key: state}),
    )
    options = ["--trainer.callbacks+", f"pytorch_lightning.callbacks.{which}"]
    if which == "EarlyStopping":
        options += ["--trainer.callbacks.monitor", "val/psnr"]
    options += ["--run", str(run), "--ckpt_path", "last", "--trainer.max_steps", "16"]
    assert f"an impossible state of {which}" in refused(capsys, cli.main, "fit", *options)


@pytest.mark.parametrize("change", STATES.values(), ids=STATES)
def test_a_state_that_training_cannot_go_on_from_is_one_sentence(
    change, finished_run: Path, tmp_path: Path, capsys
):
    run = changed(finished_run, tmp_path / "run", change)
    before = (run / "checkpoints" / "last.ckpt").read_bytes()
    options = ["--run", str(run), "--ckpt_path", "last", "--trainer.max_steps", "16"]
    said = refused(capsys, cli.main, "fit", *options)
    assert said.startswith("error: ")
    assert (run / "checkpoints" / "last.ckpt").read_bytes() == before


def of_optimizer(name: str, value: Any) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        content["optimizer_states"][0]["state"][0][name] = value

    return change


def of_group(name: str, value: Any) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        content["optimizer_states"][0]["param_groups"][0][name] = value

    return change


OPTIMIZERS = {
    "a moment of another shape": of_optimizer("exp_avg", torch.zeros(3)),
    "a moment in half precision": of_optimizer("exp_avg", torch.zeros(1).half()),
    "a moment of text": of_optimizer("exp_avg_sq", "x"),
    "a step of text": of_optimizer("step", "x"),
    "a negative step": of_optimizer("step", -5),
    "a step that is no number": of_optimizer("step", float("nan")),
    "a learning rate of text": of_group("lr", "x"),
    "a learning rate without end": of_group("lr", float("inf")),
    "a parameter twice": of_group("params", [0] * 4),
    "another number of parameters": of_group("params", [0]),
    "no parameters": of_group("params", None),
}


@pytest.mark.parametrize("change", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_optimizer_state_that_cannot_be_is_one_sentence(
    change, finished_run: Path, tmp_path: Path, capsys
):
    run = changed(finished_run, tmp_path / "run", change)
    options = ["--run", str(run), "--ckpt_path", "last", "--trainer.max_steps", "16"]
    assert "optimizer state" in refused(capsys, cli.main, "fit", *options)


@pytest.mark.parametrize("name", ["betas", "eps", "weight_decay"])
def test_options_of_the_optimizer_are_those_of_the_run(
    name: str, finished_run: Path, tmp_path: Path
):
    run = changed(finished_run, tmp_path / "run", of_group(name, "x"))
    cli.main(["fit", "--run", str(run), "--ckpt_path", "last", "--trainer.max_steps", "14"])


@pytest.mark.parametrize("version", ["0.0.1", "x", "../..", 7, None])
def test_lightnings_version_in_a_checkpoint_changes_nothing(
    version: Any, finished_run: Path, tmp_path: Path
):
    run = changed(
        finished_run,
        tmp_path / "run",
        lambda content: content.update({"pytorch-lightning_version": version}),
    )
    cli.main(["fit", "--run", str(run), "--ckpt_path", "last", "--trainer.max_steps", "14"])
    assert torch.load(find_checkpoint(run), weights_only=True)["global_step"] == 14


PLACES = ("dirpath", "last_model_path", "best_model_path", "kth_best_model_path")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("form", ["{}", "local://{}", "file://{}", "{}/../victim/file"])
def test_no_checkpoint_decides_what_is_removed(
    place: str, form: str, finished_run: Path, tmp_path: Path
):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("precious")
    evil = form.format(victim)

    def change(content: Content) -> None:
        for state in content["callbacks"].values():
            state[place] = evil
            state["best_k_models"] = {evil: torch.tensor(-99.0)}
            state["best_model_score"] = state["kth_value"] = torch.tensor(-99.0)
            if place != "dirpath":
                state.pop("dirpath", None)

    run = changed(finished_run, tmp_path / "run", change)
    options = ["--trainer.val_check_interval", "2", "--save_every", "2"]
    keeping = "[{class_path: ModelCheckpoint, init_args: {every_n_train_steps: 1}}]"
    options += ["--trainer.callbacks", keeping, "--trainer.max_steps", "16"]
    cli.main(["fit", "--run", str(run), "--ckpt_path", "last", *options])
    assert (victim / "file").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "victim"]


def test_the_best_checkpoint_stays_the_best_when_a_moved_run_goes_on(
    finished_run: Path, tmp_path: Path
):
    run = tmp_path / "moved"
    shutil.copytree(finished_run, run)
    best = run / "checkpoints" / "best.ckpt"

    def change(content: Content) -> None:
        for state in content["callbacks"].values():
            state["best_model_score"] = torch.tensor(99.0)

    last = find_checkpoint(run)
    content = torch.load(last, weights_only=True)
    change(content)
    torch.save(content, last)
    best.write_bytes(last.read_bytes())
    before = best.read_bytes()
    more = ["--trainer.val_check_interval", "2", "--trainer.max_steps", "16"]
    cli.main(["fit", "--run", str(run), "--ckpt_path", "last", *more])
    assert best.read_bytes() == before


def test_a_name_of_digits_that_are_no_number_is_passed_over(finished_run: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    (run / "checkpoints" / "²³.ckpt").write_bytes(b"")
    assert all(path.stem != "²³" for path in checkpoints_of(run))
    assert find_checkpoint(run).name == "last.ckpt"


def test_a_packed_checkpoint_is_refused_before_it_is_unpacked(tmp_path: Path, capsys):
    import zipfile

    with zipfile.ZipFile(tmp_path / "bomb.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 200_000_000)
    started = time.process_time()
    said = refused(capsys, render.main, str(tmp_path / "bomb.ckpt"))
    assert "bomb.ckpt is not a readable checkpoint" in said
    assert time.process_time() - started < 60  # it was not unpacked and searched


def test_weights_in_bfloat16_are_loaded_into_float32(finished_run: Path, tmp_path: Path):
    """As training on TPUs leaves them."""
    run = changed(finished_run, tmp_path / "run", weight("field.table", torch.Tensor.bfloat16))
    assert load_scene(find_checkpoint(run)).field.table.dtype == torch.float32
