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

from dietnerf.export import render
from dietnerf.runs.checkpoints import (
    checkpoints_of,
    find_checkpoint,
    load_scene,
    read_checkpoint,
)
from dietnerf.training import cli
from tests.helpers import refused
from tests.runs.changes import Content, changed
from tests.runs.test_checkpoint_checks import weight


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
