"""Checkpoints that declare what they do not hold, or hold weights and cameras that cannot be."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.export import render
from dietnerf.runs.checkpoint_format import CHECKPOINT_FORMAT
from dietnerf.runs.checkpoints import (
    find_checkpoint,
    load_scene,
)
from dietnerf.training import cli
from tests.helpers import refused
from tests.runs.changes import Content, changed, option


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
